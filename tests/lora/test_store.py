"""Adapter folders: what is written, what comes back, and what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from models_made import as_numpy, attach_adapter, make_model, random_ids, randomize_adapter

from mlx_lora.errors import UserError
from mlx_lora.lora.attach import attach
from mlx_lora.lora.store import (
    AdapterFacts,
    as_trained,
    load_adapter,
    read_facts,
    read_shape,
    save_adapter,
)
from mlx_lora.models.loading import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "zacharias-quill"
PARAMETERS = {"rank": 4, "scale": 1.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}


def facts_of(base: LoadedModel, **changes: Any) -> AdapterFacts:
    plain = {
        "base_name": base.name,
        "base_fingerprint": base.fingerprint,
        "bits": "keep",
        "prompt_style": "raw",
        "template_sha256": "",
        "settings": {"adapter": {"rank": 4}},
        "step": 12,
        "version": "0.1.0",
    }
    return AdapterFacts(**(plain | changes))


@pytest.fixture
def base(tmp_path: Path) -> LoadedModel:
    return load_model(str(make_model(tmp_path / NAME / "base-model", tied=False)))


@pytest.fixture
def saved(base: LoadedModel, tmp_path: Path) -> Path:
    """An adapter folder; `base` is without adapter again."""
    adapter = attach_adapter(base.module, rank=4, alpha=6.0, targets=("attention",), layers=1)
    randomize_adapter(adapter)
    folder = tmp_path / NAME / "adapter"
    save_adapter(folder, adapter.tensors(), adapter.shape, facts_of(base))
    adapter.detach()
    return folder


def logits(base: LoadedModel) -> np.ndarray:
    return np.array(base.module(mx.array(random_ids(2, 11))))


def rewrite(folder: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    path = folder / "adapters.safetensors"
    tensors, metadata = mx.load(str(path), return_metadata=True)
    mx.eval(tensors)
    change(tensors)
    path.unlink()
    mx.save_safetensors(str(path), tensors, metadata)


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, base: LoadedModel) -> UserError:
    """The error; the model must be untouched by the attempt."""
    before = logits(base)
    names = [name for name, _ in base.module.named_modules()]
    with pytest.raises(UserError) as raised:
        load_adapter(folder, base)
    assert raised.value.code == "bad_adapter", raised.value
    assert raised.value.fix
    assert np.array_equal(before, logits(base))
    assert names == [name for name, _ in base.module.named_modules()]
    return raised.value


def test_what_is_saved_comes_back(base: LoadedModel, tmp_path: Path) -> None:
    plain = logits(base)
    adapter = attach_adapter(base.module, rank=4, alpha=6.0, dropout=0.1)
    randomize_adapter(adapter)
    adapter.train(False)
    adapted, tensors, shape = logits(base), as_numpy(adapter.tensors()), adapter.shape
    save_adapter(tmp_path / "a", adapter.tensors(), adapter.shape, facts_of(base))
    adapter.detach()
    loaded = load_adapter(tmp_path / "a", base)
    loaded.train(False)
    assert loaded.shape == shape
    assert all(np.array_equal(t, tensors[n]) for n, t in as_numpy(loaded.tensors()).items())
    assert np.array_equal(adapted, logits(base))
    assert read_facts(tmp_path / "a") == facts_of(base)
    loaded.detach()
    assert np.array_equal(plain, logits(base))


def test_the_files_are_those_of_mlx_lm(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == [
        "adapter_config.json",
        "adapters.safetensors",
    ]
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config == {
        "fine_tune_type": "lora",
        "num_layers": 1,
        "lora_parameters": {
            "rank": 4,
            "scale": 1.5,
            "dropout": 0.0,
            "keys": [f"self_attn.{n}_proj" for n in "koqv"],
        },
    }
    shapes = {n: t.shape for n, t in mx.load(str(saved / "adapters.safetensors")).items()}
    outs = {"k": 32, "o": 64, "q": 64, "v": 32}
    assert shapes == {
        f"model.layers.1.self_attn.{n}_proj.lora_{part}": (64, 4) if part == "a" else (4, out)
        for n, out in outs.items()
        for part in "ab"
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", [("attention",), ("q_proj", "lm_head"), ("all",)])
def test_mlx_lm_itself_reads_it(
    base: LoadedModel, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    from mlx_lora.models.definitions import import_part

    adapter = attach_adapter(base.module, rank=4, alpha=6.0, targets=targets, layers=1)
    randomize_adapter(adapter)
    adapted = logits(base)
    save_adapter(tmp_path / "a", adapter.tensors(), adapter.shape, facts_of(base))
    other = load_model(str(tmp_path / NAME / "base-model"))
    import_part("tuner.utils").load_adapters(other.module, str(tmp_path / "a"))
    other.module.eval()
    assert np.abs(logits(other) - adapted).max() < 1e-5
    assert np.abs(logits(other) - adapted).max() < 1e-3 * np.abs(adapted).max()


def test_strength(saved: Path, base: LoadedModel) -> None:
    plain = logits(base)
    adapter = load_adapter(saved, base, 0.0)
    assert np.array_equal(plain, logits(base))
    assert {m.scale for m in adapter.modules.values()} == {0.0}
    adapter.detach()
    adapter = load_adapter(saved, base, 0.5)
    half = {name: module.scale for name, module in adapter.modules.items()}
    assert set(half.values()) == {0.75}
    assert not np.allclose(plain, logits(base))


def test_no_path_and_no_name_of_a_person_is_in_it(saved: Path, tmp_path: Path) -> None:
    content = b"".join(path.read_bytes() for path in saved.iterdir())
    assert NAME.encode() not in content
    assert str(tmp_path).encode() not in content
    assert b"/tmp" not in content
    assert b"/home" not in content
    assert b"base-model" in content, "the folder's own name is what the base is called"


def test_wrong_base(saved: Path, tmp_path: Path) -> None:
    other = load_model(str(make_model(tmp_path / "other", tied=False, seed=1)))
    error = refused(saved, other)
    assert "base-model" in error.why


def test_the_base_at_other_bits_is_another_base(saved: Path, tmp_path: Path) -> None:
    error = refused(saved, load_model(str(tmp_path / NAME / "base-model"), "4"))
    assert "keep" in error.why


A = "model.layers.1.self_attn.q_proj.lora_a"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.pop(A), "missing"),
        (lambda t: t.update(x=mx.zeros((1,))), "x"),
        (lambda t: t.update({A.replace("1", "0"): mx.zeros((64, 4))}), "no such tensor"),
        (lambda t: t.update({A: mx.zeros((64, 5))}), "(64, 5)"),
        (lambda t: t.update({A: mx.zeros((4, 64))}), "(4, 64)"),
        (lambda t: t.update({A: mx.full((64, 4), float("nan"))}), "finite"),
        (lambda t: t.update({A: mx.full((64, 4), float("inf"))}), "finite"),
    ],
)
def test_tensors_that_do_not_fit(
    saved: Path, base: LoadedModel, change: Callable[[dict[str, mx.array]], object], word: str
) -> None:
    rewrite(saved, change)
    assert word in refused(saved, base).why


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peft_type": "LORA", "r": 4}, "PEFT"),
        ({"fine_tune_type": "full"}, "full"),
        ({"fine_tune_type": "dora"}, ".m is missing"),
        ({"num_layers": 3}, "3 layers"),
        ({"num_layers": 0}, "0 layers"),
        ({"num_layers": 2}, "missing"),
        ({"num_layers": "x"}, ""),
        ({"lora_parameters": None}, ""),
        ({"lora_parameters": PARAMETERS | {"rank": 0}}, "rank 0"),
        ({"lora_parameters": PARAMETERS | {"rank": -1}}, "rank -1"),
        ({"lora_parameters": PARAMETERS | {"rank": 8}}, ""),
        ({"lora_parameters": PARAMETERS | {"scale": 1e9}}, "scale"),
        ({"lora_parameters": PARAMETERS | {"scale": "x"}}, ""),
        ({"lora_parameters": PARAMETERS | {"keys": ["nothing"]}}, ""),
    ],
)
def test_configurations_that_do_not_fit(
    saved: Path, base: LoadedModel, changes: dict[str, Any], word: str
) -> None:
    reconfigure(saved, **changes)
    assert word in refused(saved, base).why


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe{}"])
def test_a_configuration_that_is_none(saved: Path, base: LoadedModel, content: bytes) -> None:
    (saved / "adapter_config.json").write_bytes(content)
    refused(saved, base)


def test_files_that_are_not_there(saved: Path, base: LoadedModel) -> None:
    refused(saved.with_name("nothing"), base)
    shutil.copytree(saved, saved.with_name("without-config"))
    (saved.with_name("without-config") / "adapter_config.json").unlink()
    refused(saved.with_name("without-config"), base)
    (saved / "adapters.safetensors").unlink()
    assert "adapters.safetensors" in refused(saved, base).why


def test_a_peft_folder_is_called_one(tmp_path: Path, base: LoadedModel) -> None:
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), {"x": mx.zeros((1,))})
    refused(folder, base)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_weights_that_are_none(saved: Path, base: LoadedModel, content: bytes) -> None:
    (saved / "adapters.safetensors").write_bytes(content)
    refused(saved, base)


def test_weights_cut_short(saved: Path, base: LoadedModel) -> None:
    path = saved / "adapters.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(saved, base)


def test_notes_that_are_none(saved: Path, base: LoadedModel) -> None:
    header = json.dumps({"__metadata__": [1]}).encode()
    (saved / "adapters.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(saved, base)


def test_facts_that_cannot_be_read(saved: Path, base: LoadedModel) -> None:
    path = saved / "adapters.safetensors"
    tensors = mx.load(str(path))
    mx.eval(tensors)
    path.unlink()
    mx.save_safetensors(str(path), tensors, {"understudy": "{}"})
    refused(saved, base)


def test_an_adapter_of_mlx_lm_without_our_facts(saved: Path, base: LoadedModel) -> None:
    """mlx-lm writes num_layers -1 for all, keys null for its default, and no metadata of ours."""
    adapter = attach(base.module, read_shape(saved, 2))
    adapter.load(mx.load(str(saved / "adapters.safetensors")))
    wanted = logits(base)
    adapter.detach()
    path = saved / "adapters.safetensors"
    tensors = mx.load(str(path))
    mx.eval(tensors)
    path.unlink()
    mx.save_safetensors(str(path), tensors)
    parameters = {"rank": 4, "scale": 1.5, "dropout": 0.0}
    reconfigure(saved, lora_parameters=parameters, seed=0, model="some/model")
    assert read_facts(saved) is None
    load_adapter(saved, base).train(False)
    assert np.array_equal(wanted, logits(base))


def test_minus_one_layers_are_all(saved: Path) -> None:
    reconfigure(saved, num_layers=-1)
    assert read_shape(saved, 7).layers == 7


def test_an_adapter_is_not_written_over_another(saved: Path, base: LoadedModel) -> None:
    adapter = attach_adapter(base.module, rank=2)
    before = (saved / "adapters.safetensors").read_bytes()
    with pytest.raises(UserError) as raised:
        save_adapter(saved, adapter.tensors(), adapter.shape, facts_of(base))
    assert raised.value.code == "exists"
    assert (saved / "adapters.safetensors").read_bytes() == before


def test_facts_keep_every_field(saved: Path, base: LoadedModel) -> None:
    facts = read_facts(saved)
    assert facts is not None
    assert msgspec.to_builtins(facts) == msgspec.to_builtins(facts_of(base))


# as version 0.1.0 wrote them, before adapters kept a built-in chat template
OLD_FACTS = (
    '{"base_name":"base-model","base_fingerprint":"0f","bits":"keep","prompt_style":"chat",'
    '"template_sha256":"ab","settings":{"adapter":{"rank":4}},"step":12,"version":"0.1.0"}'
)


def test_facts_of_an_older_version_are_read(saved: Path, base: LoadedModel) -> None:
    path = saved / "adapters.safetensors"
    tensors = mx.load(str(path))
    mx.save_safetensors(str(path), tensors, {"format": "mlx", "understudy": OLD_FACTS})
    facts = read_facts(saved)
    assert facts is not None
    assert (facts.prompt_style, facts.template_sha256, facts.step) == ("chat", "ab", 12)
    assert (facts.template_name, facts.template_source) == ("", "")
    assert as_trained(base.tokenizer, facts) is base.tokenizer
    assert as_trained(base.tokenizer, None) is base.tokenizer
    stored = msgspec.structs.replace(facts, template_name="plain", template_source="{{ 1 }}")
    dressed = as_trained(base.tokenizer, stored)
    assert (dressed.template_name, dressed.chat_template) == ("plain", "{{ 1 }}")
    assert (base.tokenizer.template_name, base.tokenizer.chat_template) == ("none", None)
