"""What we export, opened by the programs it is for: PEFT and transformers, on the same rows.

Needs torch, transformers and peft beside mlx; it is skipped where they are not.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import LLAMA3_ROPE, make_model, random_ids, randomize_adapter
from reference import log_softmax

from mlx_lora import __version__, events
from mlx_lora.config import AdapterConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.export.export import export
from mlx_lora.export.probes import probe_texts
from mlx_lora.jobs import ExportJob
from mlx_lora.lora.attach import AdapterShape, attach, choose_shape
from mlx_lora.lora.store import AdapterFacts, load_adapter, save_adapter
from mlx_lora.models.loading import load_model
from mlx_lora.models.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

RANK, SCALE = 4, 1.5
IDS = random_ids(3, 40)
MADE: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "rope_scaling": LLAMA3_ROPE, "rope_theta": 5e5},
    "llama-untied": {"family": "llama", "tied": False},
    "gemma3_text": {"family": "gemma3_text"},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    "phi3": {"family": "phi3", "tied": False},
}
SHAPES: dict[str, dict[str, Any]] = {
    "all": {"targets": ("attention", "mlp"), "layers": "all"},
    "last": {"targets": ("attention",), "layers": 1},
}
# |d log p| from rounding each weight once: f16 keeps 11 bits of significand, bf16 8, and these
# models are wild (measured: 4.4e-2 and 2.6e-1 at most); two readers of one file stay within 1e-3
ROUNDING = {"f32": 1e-3, "f16": 0.08, "bf16": 0.5}
# what transformers leaves out when it reads a GGUF's settings: rope factors, head_dim of qwen3,
# pad_token_id, gemma's layer pattern; these take the settings of the base folder
NOT_IN_ITS_GGUF = {"llama", "gemma3_text", "qwen3", "phi3"}
LEAST_EFFECT = 0.02  # nats: an adapter that changes less than this proves nothing


class Trained(NamedTuple):
    """A base, an adapter on it, and what the app says of both."""

    model: Path
    adapter: Path
    bits: str
    names: frozenset[str]
    says: np.ndarray
    before: np.ndarray


@pytest.fixture(scope="module")
def torch() -> Any:
    """torch on one thread; other people's warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("transformers", "peft"):
            pytest.importorskip("torch", reason="torch is not installed")
            pytest.importorskip(name, reason=f"{name} is not installed")
        import torch
    torch.set_num_threads(1)
    return torch


def trained(
    folder: Path, made: str, bits: str = "keep", *, which: str = "all", kind: str = "lora"
) -> Trained:
    """A random adapter on a random model."""
    model = make_model(folder / "model", **MADE[made])
    return adapted(model, bits, shape=SHAPES[which], kind=kind)


def with_demo_tokenizer(folder: Path, made: str, demo: Path) -> Path:
    """A random model that reads as the bundled one does, with merges."""
    model = make_model(folder / "model", **MADE[made], vocab_size=4096)
    for file in demo.glob("*token*.json"):
        (model / file.name).write_bytes(file.read_bytes())
    return model


def adapted(
    model: Path, bits: str = "keep", *, shape: dict[str, Any] | None = None, kind: str = "lora"
) -> Trained:
    """The adapter is saved as training saves it (LoRA) or as mlx-lm does (DoRA)."""
    folder = model.parent
    base = load_model(str(model), bits)
    before = log_softmax(np.array(base.module(mx.array(IDS)), np.float64))
    config = AdapterConfig(rank=RANK, alpha=SCALE * RANK, **(shape or SHAPES["all"]))
    chosen = choose_shape(base.module, config)[0]
    adapter = attach(base.module, replaced(chosen, kind))
    randomize_adapter(adapter)
    if kind == "dora":
        give_lengths(adapter)
    adapter.train(False)
    says = log_softmax(np.array(base.module(mx.array(IDS)), np.float64))
    assert np.abs(says - before).mean() > LEAST_EFFECT
    where, tensors = folder / "adapter", adapter.tensors()
    if kind == "dora":
        write_as_mlx_lm(where, tensors, adapter.shape)
    else:
        save_adapter(where, tensors, adapter.shape, facts_of(base, bits))
    return Trained(model, where, bits, frozenset(adapter.modules), says, before)


def replaced(shape: AdapterShape, kind: str) -> AdapterShape:
    return AdapterShape(
        rank=shape.rank, scale=shape.scale, dropout=0.0, layers=shape.layers, keys=shape.keys,
        kind="dora" if kind == "dora" else "lora",
    )  # fmt: skip


def give_lengths(adapter: Any) -> None:
    """Lengths up to a third away from those of W."""
    generator = np.random.default_rng(5)
    for module in adapter.modules.values():
        lengths = np.linalg.norm(np.array(module.linear.weight), axis=1)
        turned = lengths * generator.uniform(0.7, 1.3, lengths.shape)
        module.m = mx.array(turned.astype(np.float32))


def facts_of(base: Any, bits: str) -> AdapterFacts:
    return AdapterFacts(
        base_name=base.name, base_fingerprint=base.fingerprint, bits=bits, prompt_style="raw",
        template_sha256="", settings={}, step=1, version=__version__,
    )  # fmt: skip


def write_as_mlx_lm(folder: Path, tensors: dict[str, mx.array], shape: AdapterShape) -> None:
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
    inner = {"rank": shape.rank, "scale": shape.scale, "dropout": 0.0, "keys": list(shape.keys)}
    content = {"fine_tune_type": shape.kind, "num_layers": shape.layers, "lora_parameters": inner}
    (folder / "adapter_config.json").write_text(json.dumps(content))


def exported(one: Trained, form: str, quant: str = "") -> Path:
    out = one.model.parent / f"{form}-{quant}"
    job = ExportJob(
        model=ModelConfig(source=str(one.model), bits=one.bits), adapter=str(one.adapter),
        format=form, quant=quant, out=str(out), root=str(one.model.parent / "home"),
    )  # fmt: skip
    said = list(export(job, Control()))
    assert isinstance(said[-1], events.Finished)
    assert said[-1].reason == "done"
    return out


def as_float_folder(one: Trained) -> Path:
    """The base as Hugging Face has it: its own file, or what its packed numbers stand for."""
    if one.bits == "keep":
        return one.model
    weights = dict(nn.utils.tree_flatten(load_model(str(one.model), one.bits).module.parameters()))
    folder = one.model.parent / "float" / "model"
    folder.mkdir(parents=True)
    for file in one.model.iterdir():
        if file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    assert all(weight.dtype == mx.float32 for weight in weights.values())
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "pt"})
    return folder


def open_model(torch: Any, folder: Path, **options: Any) -> Any:
    """transformers' model; every tensor of the file used, none made up."""
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True,
        **options,
    )  # fmt: skip
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, report[kind])
    return model.eval()


def their_words(torch: Any, model: Any) -> np.ndarray:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(IDS, dtype=torch.long)).logits
    return log_softmax(logits.double().numpy())


def judged(one: Trained, theirs: np.ndarray, most: float, note: Any) -> None:
    difference = float(np.abs(one.says - theirs).max())
    note("max_dlogp", difference)
    print(f"\nmax |d log p| {difference:.2e}")  # noqa: T201
    assert difference <= most


def stored_keys(folder: Path) -> set[str]:
    return set(mx.load(str(folder / "adapter_model.safetensors")))


def with_peft(torch: Any, base: Any, folder: Path) -> Any:
    """PEFT's model. It takes missing and unknown keys with a warning, so sets are compared."""
    from peft import PeftModel, get_peft_model_state_dict

    model = PeftModel.from_pretrained(base, str(folder)).eval()
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    assert stored_keys(folder) == set(wanted)
    for name, tensor in mx.load(str(folder / "adapter_model.safetensors")).items():
        assert torch.equal(wanted[name], torch.from_numpy(np.array(tensor))), name
    return model


def modules_in(keys: set[str]) -> set[str]:
    return {key.removeprefix("base_model.model.").partition(".lora_")[0] for key in keys}


@pytest.mark.parametrize("which", SHAPES)
@pytest.mark.parametrize("bits", ["keep", "4"])
@pytest.mark.parametrize("made", MADE)
def test_an_adapter_in_peft(
    torch: Any, tmp_path: Path, *, made: str, bits: str, which: str, record_property: Any
) -> None:
    one = trained(tmp_path, made, bits, which=which)
    folder = exported(one, "peft")
    base = open_model(torch, as_float_folder(one))
    plain = their_words(torch, base)
    assert np.abs(plain - one.before).max() <= 1e-3
    model = with_peft(torch, base, folder)
    assert modules_in(stored_keys(folder)) == one.names
    judged(one, their_words(torch, model), 1e-3, record_property)
    with torch.no_grad(), model.disable_adapter():
        assert np.array_equal(their_words(torch, model), plain)


@pytest.mark.parametrize("which", SHAPES)
def test_the_settings_of_peft(torch: Any, tmp_path: Path, which: str) -> None:
    del torch
    text = (
        exported(trained(tmp_path, "qwen3", which=which), "peft") / "adapter_config.json"
    ).read_text()
    config = json.loads(text)
    assert (config["r"], config["lora_alpha"]) == (RANK, 6)
    assert isinstance(config["lora_alpha"], int), "Ollama's reader refuses 6.0"
    assert config["layers_to_transform"] == ([1] if which == "last" else None)
    assert config["layers_pattern"] == ("layers" if which == "last" else None)
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    inner = {"gate_proj", "up_proj", "down_proj"} if which == "all" else set()
    assert set(config["target_modules"]) == attention | inner
    assert config["use_dora"] is False
    assert config["base_model_name_or_path"] is None
    assert str(tmp_path) not in text


def test_an_output_matrix_beside_the_last_layer_in_peft(
    torch: Any, tmp_path: Path, record_property: Any
) -> None:
    """`layers_to_transform` must not keep PEFT from a module outside the layers."""
    shape = {"targets": ("q_proj", "lm_head"), "layers": 1}
    model = make_model(tmp_path / "model", "llama", tied=False)
    one = adapted(model, shape=shape)
    assert one.names == {"lm_head", "model.layers.1.self_attn.q_proj"}
    theirs = with_peft(torch, open_model(torch, one.model), exported(one, "peft"))
    judged(one, their_words(torch, theirs), 1e-3, record_property)


def test_a_text_model_inside_a_multimodal_file(
    torch: Any, tmp_path: Path, record_property: Any
) -> None:
    """As google/gemma-3-4b-it: what leaves is the text model alone, by its own names."""
    model = make_model(tmp_path / "model", "gemma3_text")
    inner = json.loads((model / "config.json").read_text())
    outer = {"model_type": "gemma3", "text_config": inner, "vocab_size": 272}
    (model / "config.json").write_text(json.dumps(outer))
    weights = mx.load(str(model / "model.safetensors"))
    renamed = {f"language_model.{name}": tensor for name, tensor in weights.items()}
    mx.eval(renamed)
    (model / "model.safetensors").unlink()
    mx.save_safetensors(str(model / "model.safetensors"), renamed, {"format": "pt"})
    one = adapted(model)
    merged = open_model(torch, exported(one, "hf", "f32"))
    assert type(merged).__name__ == "Gemma3ForCausalLM"
    judged(one, their_words(torch, merged), 1e-3, record_property)
    text = open_model(torch, make_model(tmp_path / "text", "gemma3_text"))
    theirs = with_peft(torch, text, exported(one, "peft"))
    judged(one, their_words(torch, theirs), 1e-3, record_property)


@pytest.mark.parametrize("bits", ["keep", "4"])
@pytest.mark.parametrize("made", MADE)
def test_dora_in_peft(
    torch: Any, tmp_path: Path, made: str, bits: str, record_property: Any
) -> None:
    one = trained(tmp_path, made, bits, kind="dora")
    folder = exported(one, "peft")
    assert json.loads((folder / "adapter_config.json").read_text())["use_dora"] is True
    model = with_peft(torch, open_model(torch, as_float_folder(one)), folder)
    kinds = {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector"}
    assert stored_keys(folder) == {f"base_model.model.{n}.{k}" for n in one.names for k in kinds}
    judged(one, their_words(torch, model), 1e-3, record_property)


def test_peft_merges_what_we_merge(torch: Any, tmp_path: Path) -> None:
    """Its merged weight against ours, of LoRA and DoRA; float32 sums in another order."""
    for kind in ("lora", "dora"):
        one = trained(tmp_path / kind, "qwen2", kind=kind)
        model = with_peft(torch, open_model(torch, one.model), exported(one, "peft"))
        theirs = model.merge_and_unload().state_dict()
        ours = mx.load(str(exported(one, "hf", "f32") / "model.safetensors"))
        for name, weight in ours.items():
            assert np.abs(theirs[name].numpy() - np.array(weight)).max() < 2e-6, name


@pytest.mark.parametrize("quant", ROUNDING)
@pytest.mark.parametrize("bits", ["keep", "4"])
@pytest.mark.parametrize("made", MADE)
def test_a_merged_model_in_transformers(
    torch: Any, tmp_path: Path, *, made: str, bits: str, quant: str, record_property: Any
) -> None:
    one = trained(tmp_path, made, bits)
    folder = exported(one, "hf", quant)
    theirs = their_words(torch, open_model(torch, folder))
    judged(one, theirs, ROUNDING[quant], record_property)
    again = load_model(str(folder)).module(mx.array(IDS)).astype(mx.float32)
    assert np.abs(log_softmax(np.array(again, np.float64)) - theirs).max() <= 1e-3
    check_settings(folder, one.model, quant)


def test_a_merged_dora_in_transformers(torch: Any, tmp_path: Path, record_property: Any) -> None:
    one = trained(tmp_path, "qwen2", "4", kind="dora")
    model = open_model(torch, exported(one, "hf", "f32"))
    judged(one, their_words(torch, model), ROUNDING["f32"], record_property)


def check_settings(folder: Path, base: Path, quant: str) -> None:
    """The hub's own names, and nothing the base did not say or that is ours alone."""
    text = (folder / "config.json").read_text()
    config, before = json.loads(text), json.loads((base / "config.json").read_text())
    assert config["rope_theta"] == before["rope_theta"]
    assert config.get("rope_scaling") == before.get("rope_scaling")
    assert config.keys() - before.keys() <= {"dtype", "torch_dtype"}
    assert not config.keys() & {
        "quantization", "quantization_config", "rope_parameters", "stop_token_ids",
        "_name_or_path", "understudy",
    }  # fmt: skip
    assert str(base.parent) not in text
    long = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[quant]
    assert config["torch_dtype"] == config["dtype"] == long


@pytest.mark.parametrize("made", ["llama", "gemma3_text"])
def test_settings_as_transformers_5_writes_them(
    torch: Any, tmp_path: Path, made: str, record_property: Any
) -> None:
    """A base with `rope_parameters` comes out in the older names, which both generations read."""
    one = trained(tmp_path / "old", made)
    old = json.loads((one.model / "config.json").read_text())
    new = make_model(tmp_path / "new" / "model", **MADE[made])
    (new / "config.json").write_text(json.dumps(in_new_names(old)))
    again = retrained(one, new)
    folder = exported(again, "hf", "f32")
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == old["rope_theta"]
    assert config.get("rope_local_base_freq") == old.get("rope_local_base_freq")
    assert "rope_parameters" not in config
    judged(one, their_words(torch, open_model(torch, folder)), 1e-3, record_property)


def in_new_names(config: dict[str, Any]) -> dict[str, Any]:
    gone = {"rope_theta", "rope_scaling", "rope_local_base_freq"}
    kept = {key: value for key, value in config.items() if key not in gone}
    if config["model_type"] == "gemma3_text":
        thetas = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
        layered = {
            kind: {"rope_type": "default", "rope_theta": config[name]}
            for kind, name in thetas.items()
        }
        return {**kept, "rope_parameters": layered}
    theta = {"rope_theta": config["rope_theta"]}
    return {**kept, "rope_parameters": {**theta, **config["rope_scaling"]}}


def retrained(one: Trained, model: Path) -> Trained:
    """The same adapter numbers on another folder of the same weights."""
    base = load_model(str(model), one.bits)
    adapter = attach(base.module, read_shape_of(one))
    adapter.load(mx.load(str(one.adapter / "adapters.safetensors")))
    where = model.parent / "adapter"
    save_adapter(where, adapter.tensors(), adapter.shape, facts_of(base, one.bits))
    return one._replace(model=model, adapter=where)


def read_shape_of(one: Trained) -> AdapterShape:
    return load_adapter(one.adapter, load_model(str(one.model), one.bits)).shape


@pytest.mark.parametrize("source", ["bytes", "demo"])
def test_the_tokenizer_in_transformers(
    torch: Any, tmp_path: Path, demo_model: Path, source: str
) -> None:
    del torch
    from transformers import AutoTokenizer

    if source == "demo":
        one = adapted(with_demo_tokenizer(tmp_path, "llama", demo_model))
    else:
        one = trained(tmp_path, "llama")
    folder = exported(one, "hf", "f32")
    ours, theirs = read_tokenizer(one.model, [], 4096), AutoTokenizer.from_pretrained(folder)
    texts = probe_texts(ours)
    for text in texts:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text), text
    for text in texts[:50]:
        ids = ours.encode(text)
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == ours.decode(
            ids, keep_special=True
        )


@pytest.mark.parametrize("made", MADE)
def test_gguf_in_transformers(
    torch: Any, tmp_path: Path, demo_model: Path, made: str, record_property: Any
) -> None:
    """transformers reads GGUF too, in its own way: names and permutations undone once more."""
    pytest.importorskip("gguf")
    one = adapted(with_demo_tokenizer(tmp_path, made, demo_model))
    (file,) = exported(one, "gguf", "f32").glob("*.gguf")
    from transformers import AutoConfig, AutoModelForCausalLM

    known = made not in NOT_IN_ITS_GGUF
    settings = {} if known else {"config": AutoConfig.from_pretrained(one.model)}
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager",
        **settings,
    ).eval()  # fmt: skip
    judged(one, their_words(torch, model), 1e-3, record_property)
