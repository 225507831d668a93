"""What an export reads from the files is what the app holds in memory, to the bit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import LLAMA3_ROPE, attach_adapter, make_model, randomize_adapter

from mlx_lora import __version__
from mlx_lora.errors import UserError
from mlx_lora.export.source import Source, plain_name
from mlx_lora.lora.attach import AdapterShape, attach
from mlx_lora.lora.store import AdapterFacts, save_adapter
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import dequantized

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RANK, SCALE = 4, 1.5
FAMILIES = ["llama", "gemma3_text", "qwen2", "qwen3", "phi3"]
HALVES = {"BF16": mx.bfloat16, "F16": mx.float16}
# every module another width or group than config.json says first
MIXED = {
    "model.layers.0.self_attn.q_proj": (8, 64),
    "model.layers.1.mlp.down_proj": (6, 32),
    "model.layers.1.self_attn.o_proj": (2, 64),
    "model.layers.0.mlp.up_proj": (3, 32),
    "model.embed_tokens": (8, 32),
}
PLAIN = "model.layers.0.self_attn.v_proj"


def held(base: Any) -> dict[str, np.ndarray]:
    """Every weight and bias the loaded model computes with, float32, by its plain name."""
    found = {}
    for name, module in base.module.named_modules():
        for leaf in ("weight", "bias"):
            if isinstance(module.get(leaf), mx.array):
                packed = leaf == "weight" and hasattr(module, "bits")
                value = dequantized(module) if packed else module[leaf]
                found[f"{plain_name(name)}.{leaf}"] = np.array(value.astype(mx.float32))
    return found


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The weights of a folder, changed."""
    path = folder / "model.safetensors"
    weights = change(dict(mx.load(str(path))))
    mx.eval(weights)
    path.unlink()
    mx.save_safetensors(str(path), weights, {"format": "pt"})
    return folder


def in_half(folder: Path, kind: str) -> Path:
    return rewrite(folder, lambda w: {name: a.astype(HALVES[kind]) for name, a in w.items()})


def edit(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def quantized(
    folder: Path, bits: int, group: int = 32, *, mode: str = "affine", mixed: bool = False
) -> Path:
    """A folder as MLX quantizes it; `mixed` gives some modules other forms and leaves one plain."""
    module = load_model(str(folder)).module

    def choose(name: str, part: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(part, "to_quantized") or (mixed and name == PLAIN):
            return False
        own = MIXED.get(name, (bits, group)) if mixed else (bits, group)
        return {"bits": own[0], "group_size": own[1], "mode": mode}

    nn.quantize(module, class_predicate=choose)
    weights = dict(nn.utils.tree_flatten(module.parameters()))
    rewrite(folder, lambda _: weights)
    own = {n: {"bits": b, "group_size": g} for n, (b, g) in MIXED.items()} | {PLAIN: False}
    said = {"group_size": group, "bits": bits, "mode": mode, **(own if mixed else {})}
    return edit(folder, quantization=said, quantization_config=said)


def same(folder: Path, bits: str = "keep") -> Source:
    """Names, shapes and every number of what is loaded."""
    source, wanted = Source(str(folder), bits, None), held(load_model(str(folder), bits))
    assert sorted(source.names()) == sorted(wanted)
    for name, array in wanted.items():
        found = source.base(name)
        assert found.dtype == np.float32
        assert source.extent(name) == array.shape, name
        assert np.array_equal(found, array), name
        assert np.array_equal(source.merged(name), array), "nothing is merged in"
    assert source.count() == sum(array.size for array in wanted.values())
    return source


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_floats(tmp_path: Path, family: str, tied: bool) -> None:
    if family == "gemma3_text" and not tied:
        pytest.skip("this family is always tied")
    source = same(make_model(tmp_path / "m", family, tied=tied))
    assert {source.kind(name) for name in source.names()} == {"F32"}
    assert ("lm_head.weight" in source.names()) != tied
    assert source.tied == tied


@pytest.mark.parametrize("bits", ["keep", "4", "6", "8", "16", "32"])
@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
def test_bits_asked_for(tmp_path: Path, kind: str, bits: str) -> None:
    """96 wide takes groups of 32, 172 none: such a weight stays as it is."""
    for width in (96, 172):
        folder = make_model(tmp_path / str(width), "qwen2", tied=False, intermediate_size=width)
        source = same(folder if kind == "F32" else in_half(folder, kind), bits)
        assert {source.kind(name) for name in source.names()} == {kind}


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantized_folder(tmp_path: Path, family: str, bits: int) -> None:
    source = same(quantized(make_model(tmp_path / "m", family), bits))
    assert source.kind("model.layers.0.mlp.down_proj.weight") == "U32"
    assert source.kind("model.norm.weight") == "F32"


@pytest.mark.parametrize("kind", HALVES)
def test_scales_in_half_precision(tmp_path: Path, kind: str) -> None:
    folder = quantized(make_model(tmp_path / "m"), 4)
    rewrite(
        folder,
        lambda w: {n: a if a.dtype == mx.uint32 else a.astype(HALVES[kind]) for n, a in w.items()},
    )
    same(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_mixed_widths(tmp_path: Path, tied: bool) -> None:
    source = same(quantized(make_model(tmp_path / "m", tied=tied), 4, mixed=True))
    assert source.kind(f"{PLAIN}.weight") == "F32"
    forms = {name: source.packing(f"{name}.weight") for name in MIXED}
    assert forms == MIXED
    assert source.packing("model.layers.0.self_attn.k_proj.weight") == (4, 32)
    assert source.packing(f"{PLAIN}.weight") is None


@pytest.mark.parametrize(
    ("mode", "bits", "group"), [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
)
def test_other_number_formats(tmp_path: Path, mode: str, bits: int, group: int) -> None:
    try:
        mx.eval(mx.quantize(mx.ones((2, 64)), group, bits, mode=mode))
    except (RuntimeError, ValueError):
        pytest.skip(f"this mlx cannot quantize as {mode}")
    source = same(quantized(make_model(tmp_path / "m"), bits, group, mode=mode))
    assert source.packing("model.layers.0.mlp.up_proj.weight") is None, "it has no biases to keep"


def in_parts(folder: Path, count: int = 3) -> Path:
    """The weights in several files; a packed weight and its scales may lie in two."""
    path = folder / "model.safetensors"
    weights = dict(mx.load(str(path)))
    mx.eval(weights)
    path.unlink()
    where = {name: f"model-{n % count}.safetensors" for n, name in enumerate(sorted(weights))}
    for file in set(where.values()):
        part = {name: weights[name] for name in weights if where[name] == file}
        mx.save_safetensors(str(folder / file), part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


@pytest.mark.parametrize("bits", [None, 4])
def test_a_model_in_parts(tmp_path: Path, bits: int | None) -> None:
    folder = make_model(tmp_path / "m", tied=False)
    same(in_parts(quantized(folder, bits) if bits else folder))


def multimodal(folder: Path) -> Path:
    """As google/gemma-3-4b-it: settings inside, weights under another name, eyes beside them."""
    make_model(folder, "gemma3_text")
    inner = json.loads((folder / "config.json").read_text())
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {}, "vocab_size": 272}
    (folder / "config.json").write_text(json.dumps(outer))
    eyes = {
        "vision_tower.vision_model.encoder.layers.9.mlp.fc1.weight": mx.zeros((4, 4)),
        "multi_modal_projector.mm_input_projection_weight": mx.zeros((4, 4)),
    }
    return rewrite(folder, lambda w: {f"language_model.{n}": a for n, a in w.items()} | eyes)


@pytest.mark.parametrize("bits", ["keep", "4", "16"])
def test_a_text_model_inside_a_multimodal_file(tmp_path: Path, bits: str) -> None:
    text = Source(str(make_model(tmp_path / "text", "gemma3_text")), bits, None)
    source = same(multimodal(tmp_path / "both"), bits)
    assert source.names() == text.names()
    assert all(np.array_equal(source.base(name), text.base(name)) for name in text.names())
    assert source.family == "gemma3_text"
    assert source.settings["hidden_size"] == 64


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_multimodal_file(tmp_path: Path, bits: int) -> None:
    source = same(quantized(multimodal(tmp_path / "m"), bits))
    assert source.packing("model.embed_tokens.weight") == (bits, 32)


def facts_of(base: Any, bits: str) -> AdapterFacts:
    return AdapterFacts(
        base_name=base.name, base_fingerprint=base.fingerprint, bits=bits, prompt_style="raw",
        template_sha256="", settings={}, step=1, version=__version__,
    )  # fmt: skip


def adapted(folder: Path, model: Path, bits: str, **shape: Any) -> tuple[Source, Any]:
    """A random adapter on a model: as the export reads it, and the layers in memory."""
    base = load_model(str(model), bits)
    adapter = attach_adapter(base.module, rank=RANK, alpha=SCALE * RANK, **shape)
    randomize_adapter(adapter)
    save_adapter(folder, adapter.tensors(), adapter.shape, facts_of(base, bits))
    return Source(str(model), bits, folder), adapter


def merged_as_it_should_be(source: Source, modules: dict[str, Any]) -> None:
    """W + scale (A B)^T in float64 for what is adapted, nothing changed elsewhere."""
    plain = {plain_name(name): module for name, module in modules.items()}
    assert source.deltas.keys() == plain.keys()
    for name in source.names():
        weight, module = source.base(name), plain.get(name.removesuffix(".weight"))
        if module is None or name.endswith(".bias"):
            assert np.array_equal(source.merged(name), weight), name
            continue
        a, b = (np.array(module[part], np.float64) for part in ("lora_a", "lora_b"))
        change = SCALE * (a @ b).T
        assert np.abs(change).max() > 0.01
        assert np.abs(source.merged(name) - (weight + change)).max() < 1e-6, name


@pytest.mark.parametrize("bits", ["keep", "4", "6", "8", "16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_merged_in(tmp_path: Path, family: str, bits: str) -> None:
    model = make_model(tmp_path / "m", family)
    source, adapter = adapted(tmp_path / "a", model, bits)
    assert len(source.deltas) == (8 if family == "phi3" else 14)
    merged_as_it_should_be(source, adapter.modules)


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_merged_into_a_quantized_folder(tmp_path: Path, bits: int) -> None:
    model = quantized(make_model(tmp_path / "m", rope_scaling=LLAMA3_ROPE), bits, mixed=True)
    source, adapter = adapted(tmp_path / "a", model, "keep", layers=1)
    assert all(".layers.1." in name for name in source.deltas)
    merged_as_it_should_be(source, adapter.modules)


def test_the_names_of_an_adapter_on_a_multimodal_file(tmp_path: Path) -> None:
    """In the model they begin with `language_model.`; in an export they must not."""
    source, adapter = adapted(tmp_path / "a", multimodal(tmp_path / "m"), "keep")
    assert all(name.startswith("language_model.model.layers.") for name in adapter.modules)
    assert all(name.startswith("model.layers.") for name in source.deltas)
    merged_as_it_should_be(source, adapter.modules)


def test_an_adapter_of_the_output_matrix(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", tied=False)
    source, adapter = adapted(tmp_path / "a", model, "4", targets=("lm_head", "q_proj"))
    assert "lm_head" in source.deltas
    merged_as_it_should_be(source, adapter.modules)


def test_a_dora_merged_in(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", "qwen2")
    base = load_model(str(model), "4")
    keys = ("self_attn.q_proj", "mlp.down_proj")
    shape = AdapterShape(rank=RANK, scale=SCALE, dropout=0.0, layers=2, keys=keys, kind="dora")
    adapter = attach(base.module, shape)
    randomize_adapter(adapter)
    save_adapter(tmp_path / "a", adapter.tensors(), shape, facts_of(base, "4"))
    source = Source(str(model), "4", tmp_path / "a")
    for name, module in adapter.modules.items():
        a, b, m = (np.array(module[part], np.float64) for part in ("lora_a", "lora_b", "m"))
        moved = source.base(f"{name}.weight") + SCALE * (a @ b).T
        wanted = m[:, None] * moved / np.linalg.norm(moved, axis=1, keepdims=True)
        assert np.abs(source.merged(f"{name}.weight") - wanted).max() < 1e-6, name
        if f"{name}.bias" in source.names():
            bias = source.base(f"{name}.bias")
            assert np.array_equal(source.merged(f"{name}.bias"), bias), "a bias has no length"


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    adapted(tmp_path / "a", make_model(tmp_path / "m"), "keep")
    with pytest.raises(UserError) as caught:
        Source(str(make_model(tmp_path / "other", seed=1)), "keep", tmp_path / "a")
    assert caught.value.code == "bad_adapter"
    with pytest.raises(UserError):
        Source(str(tmp_path / "m"), "4", tmp_path / "a")
