"""DoRA layers of other programs: value, strength and merged weight against NumPy in float64."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter, make_model, random_ids, randomize_adapter

from mlx_lora.export.source import Delta
from mlx_lora.lora.attach import AdapterShape, attach
from mlx_lora.lora.layers import DoRALinear
from mlx_lora.lora.store import load_adapter
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import dequantized

if TYPE_CHECKING:
    from pathlib import Path

RANK, SCALE, OUT, IN = 4, 2.5, 48, 64
KEYS = ("mlp.down_proj", "self_attn.q_proj")


def random_array(*shape: int, seed: int, size: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)


def made_linear(bits: int | None, bias: bool) -> nn.Module:
    linear = nn.Linear(IN, OUT, bias=bias)
    linear.weight = mx.array(random_array(OUT, IN, seed=0))
    if bias:
        linear.bias = mx.array(random_array(OUT, seed=1))
    return nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits) if bits else linear


def made_layer(bits: int | None = None, bias: bool = True) -> DoRALinear:
    """Lengths far from those of W, so that leaving them out could not pass."""
    layer = DoRALinear(made_linear(bits, bias), rank=RANK, scale=SCALE, name="m")
    layer.lora_a = mx.array(random_array(IN, RANK, seed=2))
    layer.lora_b = mx.array(random_array(RANK, OUT, seed=3))
    layer.m = mx.array(np.random.default_rng(4).uniform(0.5, 4, OUT).astype(np.float32))
    return layer


def plain_weight(layer: DoRALinear) -> np.ndarray:
    packed = isinstance(layer.linear, nn.QuantizedLinear)
    weight = dequantized(layer.linear) if packed else layer.linear.weight
    return np.array(weight, np.float64)


def merged_weight(layer: DoRALinear, scale: float) -> np.ndarray:
    """The paper's W' = m (W + scale (A B)^T) / ||W + scale (A B)^T||, a row at a time."""
    a, b, m = (np.array(layer[part], np.float64) for part in ("lora_a", "lora_b", "m"))
    moved = plain_weight(layer) + scale * (a @ b).T
    return np.stack([m[n] * row / np.sqrt((row * row).sum()) for n, row in enumerate(moved)])


def answer(weight: np.ndarray, layer: DoRALinear, x: np.ndarray) -> np.ndarray:
    bias = np.array(layer.linear.bias, np.float64) if "bias" in layer.linear else 0.0
    return x.astype(np.float64) @ weight.T + bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bits", [None, 4, 8])
def test_the_value_is_that_of_the_paper(bits: int | None, bias: bool) -> None:
    layer, x = made_layer(bits, bias), random_array(2, 5, IN, seed=7, size=1)
    wanted = answer(merged_weight(layer, SCALE), layer, x)
    assert np.abs(wanted - answer(plain_weight(layer), layer, x)).mean() > 0.5
    assert np.abs(np.array(layer(mx.array(x))) - wanted).max() < 2e-5


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_stays_half_and_near(dtype: mx.Dtype) -> None:
    layer = made_layer()
    layer.linear.set_dtype(dtype)
    x = mx.array(random_array(2, 5, IN, seed=7, size=1)).astype(dtype)
    wanted = answer_in_half(layer, np.array(x.astype(mx.float32)))
    found = layer(x)
    assert found.dtype == dtype
    error = np.array(found.astype(mx.float32)) - wanted
    # 8 bits of significand in bfloat16; a few roundings one after the other
    assert np.abs(error).max() < 0.03 * np.abs(wanted).max()


def answer_in_half(layer: DoRALinear, x: np.ndarray) -> np.ndarray:
    """The reference on what the half-precision weights stand for."""
    copy = made_layer()
    copy.linear.weight = layer.linear.weight.astype(mx.float32)
    copy.linear.bias = layer.linear.bias.astype(mx.float32)
    return answer(merged_weight(copy, SCALE), copy, x)


@pytest.mark.parametrize("bits", [None, 4])
def test_disabled_is_the_base_to_the_bit(bits: int | None) -> None:
    layer, x = made_layer(bits), mx.array(random_array(3, IN, seed=7, size=1))
    layer.enabled = False
    assert mx.array_equal(layer(x), layer.linear(x))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, -1.0])
def test_strength_turns_the_direction_and_leaves_the_lengths(strength: float) -> None:
    """As mlx-lm's `scale`: the lengths are learnt, not scaled, so 0 is W brought to them."""
    layer, x = made_layer(), random_array(3, IN, seed=7, size=1)
    layer.scale = SCALE * strength
    found = np.array(layer(mx.array(x)))
    assert np.abs(found - answer(merged_weight(layer, SCALE * strength), layer, x)).max() < 2e-5


@pytest.mark.parametrize("bias", [True, False])
def test_lengths_of_the_base_and_no_direction_change_nothing(bias: bool) -> None:
    layer, x = made_layer(bias=bias), random_array(3, IN, seed=7, size=1)
    layer.m = mx.linalg.norm(layer.linear.weight, axis=1)
    layer.scale = 0.0
    assert np.abs(np.array(layer(mx.array(x)) - layer.linear(mx.array(x)))).max() < 1e-6


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_the_exported_weight_is_the_layers(bits: int | None) -> None:
    layer = made_layer(bits)
    a, b, m = (np.array(layer[part]) for part in ("lora_a", "lora_b", "m"))
    found = Delta(a, b, SCALE, m).on(plain_weight(layer).astype(np.float32))
    wanted = merged_weight(layer, SCALE)
    assert found.dtype == np.float32
    assert found.shape == (OUT, IN)
    assert np.abs(found - wanted).max() < 1e-6
    assert np.allclose(np.linalg.norm(found, axis=1), m, rtol=1e-6)


def test_the_exported_weight_without_lengths_is_loras() -> None:
    layer = made_layer()
    a, b = (np.array(layer[part], np.float64) for part in ("lora_a", "lora_b"))
    weight = plain_weight(layer)
    found = Delta(a.astype(np.float32), b.astype(np.float32), SCALE).on(weight.astype(np.float32))
    assert np.abs(found - (weight + SCALE * (a @ b).T)).max() < 1e-6


def shape_of(keys: tuple[str, ...], layers: int) -> AdapterShape:
    return AdapterShape(rank=RANK, scale=SCALE, dropout=0.0, layers=layers, keys=keys, kind="dora")


def test_attaching_makes_dora_layers_and_detaching_takes_them_away(tmp_path: Path) -> None:
    model = load_model(str(make_model(tmp_path / "m"))).module
    ids = mx.array(random_ids(2, 12))
    before = np.array(model(ids))
    adapter = attach(model, shape_of(KEYS, 1))
    names = {f"model.layers.1.{key}" for key in KEYS}
    assert adapter.modules.keys() == names
    assert all(type(module) is DoRALinear for module in adapter.modules.values())
    parts = ("lora_a", "lora_b", "m")
    assert adapter.tensors().keys() == {f"{name}.{part}" for name in names for part in parts}
    randomize_adapter(adapter)
    assert np.abs(np.array(model(ids)) - before).max() > 0.01
    with adapter.disabled():
        assert np.array_equal(np.array(model(ids)), before)
    adapter.detach()
    assert np.array_equal(np.array(model(ids)), before)


def test_our_own_adapters_stay_lora(tmp_path: Path) -> None:
    model = load_model(str(make_model(tmp_path / "m"))).module
    adapter = attach_adapter(model, rank=RANK)
    assert not any(isinstance(module, DoRALinear) for module in adapter.modules.values())


def write_folder(folder: Path, tensors: dict[str, mx.array], shape: AdapterShape) -> None:
    """What mlx-lm writes, which knows nothing of our facts."""
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors, {"format": "mlx"})
    inner = {"rank": shape.rank, "scale": shape.scale, "dropout": 0.0, "keys": list(shape.keys)}
    content = {"fine_tune_type": "dora", "num_layers": shape.layers, "lora_parameters": inner}
    (folder / "adapter_config.json").write_text(json.dumps(content))


def test_a_folder_gives_back_the_lengths(tmp_path: Path) -> None:
    source = str(make_model(tmp_path / "m"))
    base = load_model(source)
    adapter = attach(base.module, shape_of(KEYS, 2))
    randomize_adapter(adapter)
    ids = mx.array(random_ids(2, 12))
    wanted = np.array(base.module(ids))
    write_folder(tmp_path / "adapter", adapter.tensors(), adapter.shape)
    again = load_model(source)
    found = load_adapter(tmp_path / "adapter", again)
    assert found.shape.kind == "dora"
    assert np.array_equal(np.array(again.module(ids)), wanted)
