"""Quantizing as a base is loaded: which group, what stays plain, and what the values are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import make_model, random_ids

from mlx_lora.errors import UserError
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import (
    dequantize_model,
    dequantized,
    group_for,
    packed_forms,
    quantize_model,
    replace_module,
)

if TYPE_CHECKING:
    from pathlib import Path

DOWN = [f"model.layers.{n}.mlp.down_proj" for n in range(5)]


def unpacked(module: Any) -> np.ndarray:
    """The values worked out from the bits, by the format's definition: q * scale + bias."""
    words = np.array(module.weight)
    bits, group = module.bits, module.group_size
    raw = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    numbers = raw.reshape(len(words), -1, bits) @ (1 << np.arange(bits))
    scales, biases = (
        np.repeat(np.array(a, np.float64), group, 1) for a in (module.scales, module.biases)
    )
    return numbers * scales + biases


@pytest.mark.parametrize(
    ("width", "group"),
    [
        (64, 64),
        (128, 64),
        (192, 64),
        (96, 32),
        (32, 32),
        (160, 32),
        (172, None),
        (16, None),
        (1, None),
    ],
)
def test_group(width: int, group: int | None) -> None:
    assert group_for(width) == group


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_a_width_that_no_group_divides_stays_plain_and_is_named(stories: Path, bits: int) -> None:
    model = load_model(str(stories)).module
    plain = {name: np.array(m.weight) for name, m in model.named_modules() if name in DOWN}
    left = quantize_model(model, bits)
    assert sorted(left) == DOWN
    for name, module in model.named_modules():
        if name in DOWN:
            assert type(module) is nn.Linear
            assert np.array_equal(np.array(module.weight), plain[name])
        elif hasattr(module, "bits"):
            assert (module.bits, module.group_size) == (bits, 64), name
    packed = [n for n, m in model.named_modules() if hasattr(m, "bits")]
    assert len(packed) == 5 * 6 + 1  # q k v o gate up, and the embedding


def test_loading_names_them_too(stories: Path) -> None:
    base = load_model(str(stories), "4")
    assert sorted(base.left_plain) == DOWN
    if mx.default_device() == mx.cpu:
        assert base.form == "4-bit values in float32"
    assert load_model(str(stories)).left_plain == ()


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_values_are_those_of_the_bits(bits: int, group: int) -> None:
    generator = np.random.default_rng(bits)
    linear = nn.Linear(256, 24)
    linear.weight = mx.array(generator.normal(0, 1, (24, 256)).astype(np.float32))
    packed = nn.QuantizedLinear.from_linear(linear, group_size=group, bits=bits)
    wanted = unpacked(packed)
    assert np.abs(np.array(dequantized(packed)) - wanted).max() < 1e-6
    step = np.repeat(np.abs(np.array(packed.scales)), group, 1)
    assert (np.abs(wanted - np.array(linear.weight)) <= 1.01 * step).all()
    x = generator.normal(0, 1, (5, 256)).astype(np.float32)
    found = np.array(packed(mx.array(x))) - np.array(packed.bias)
    assert np.abs(found - x @ wanted.T).max() < 1e-5 * np.abs(x @ wanted.T).max()
    by_mlx = mx.dequantize(packed.weight, packed.scales, packed.biases, group_size=group, bits=bits)
    assert np.array_equal(np.array(dequantized(packed)), np.array(by_mlx))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_scales_are_widened_first(dtype: mx.Dtype) -> None:
    linear = nn.Linear(64, 8, bias=False)
    linear.set_dtype(dtype)
    packed = nn.QuantizedLinear.from_linear(linear, group_size=32, bits=4)
    assert packed.scales.dtype == dtype
    packed.set_dtype(mx.float32)
    wanted = unpacked(packed)
    packed.set_dtype(dtype)
    assert dequantized(packed).dtype == mx.float32
    assert np.abs(np.array(dequantized(packed)) - wanted).max() < 1e-7


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen2", "qwen3", "phi3"])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_packed_and_dequantized_models_say_the_same(tmp_path: Path, family: str, bits: int) -> None:
    folder = make_model(tmp_path / "m", family, tied=family != "phi3", attention_bias=False)
    ids = mx.array(random_ids(2, 15))
    plain = np.array(load_model(str(folder)).module(ids))
    model = load_model(str(folder)).module
    assert quantize_model(model, bits) == []
    assert {m.group_size for m in model.modules() if hasattr(m, "bits")} == {32, 64}
    packed = np.array(model(ids))
    dequantize_model(model, mx.float32)
    assert not any(hasattr(module, "bits") for module in model.modules())
    loaded = load_model(str(folder), str(bits))
    assert loaded.left_plain == ()
    values = np.array(model(ids))
    assert np.abs(values - packed).max() < 1e-4 * np.abs(packed).max()
    if mx.default_device() == mx.cpu:
        assert np.array_equal(values, np.array(loaded.module(ids)))
    assert np.abs(values - plain).max() > 1e-3 * np.abs(plain).max(), "nothing was quantized"


def test_biases_of_linears_stay() -> None:
    linear = nn.Linear(64, 8)
    linear.bias = mx.arange(8).astype(mx.float32)
    model = nn.Sequential(nn.QuantizedLinear.from_linear(linear, group_size=32, bits=4))
    x = mx.array(np.random.default_rng(0).normal(0, 1, (3, 64)).astype(np.float32))
    before = np.array(model(x))
    dequantize_model(model, mx.float32)
    assert np.array_equal(np.array(model.layers[0].bias), np.arange(8))
    assert np.abs(np.array(model(x)) - before).max() < 1e-5


def test_a_quantized_folder_is_loaded_as_it_is(tmp_path: Path) -> None:
    """As mlx-lm writes them: packed tensors, and `quantization` in config.json."""
    folder = make_model(tmp_path / "m")
    model = load_model(str(folder)).module
    quantize_model(model, 4)
    packed = tmp_path / "packed"
    make_model(packed, quantization={"group_size": 64, "bits": 4})
    tensors = dict(nn.utils.tree_flatten(model.parameters()))
    (packed / "model.safetensors").unlink()
    mx.save_safetensors(str(packed / "model.safetensors"), tensors)
    ids = mx.array(random_ids(2, 9))
    for bits in ("keep", "4"):
        found = load_model(str(packed), bits)
        assert found.form.startswith("4-bit")
        difference = np.abs(np.array(found.module(ids)) - np.array(model(ids))).max()
        assert difference < 1e-4 * np.abs(np.array(model(ids))).max()
    with pytest.raises(UserError) as raised:
        load_model(str(packed), "8")
    assert raised.value.code == "bad_option"


def test_replacing_reaches_into_lists() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    new = nn.Linear(5, 5)
    replace_module(model, "layers.1.layers.0", new)
    assert model.layers[1].layers[0] is new


def test_routers_of_experts_stay_as_their_family_says(tmp_path: Path) -> None:
    """mlx-lm packs GPT-OSS's routers to 8 bit, whatever the rest is packed to."""
    source = make_model(tmp_path / "m", "gpt_oss")
    base = load_model(str(source), "4", "packed")
    bits = {name: m.bits for name, m in base.module.named_modules() if hasattr(m, "bits")}
    routers = {name: width for name, width in bits.items() if name.endswith("router")}
    assert list(routers.values()) == [8, 8]
    assert {width for name, width in bits.items() if name not in routers} == {4}
    assert base.form == "4/8-bit"
    forms, left = packed_forms(load_model(str(source)).module, 4)
    assert {name: form["bits"] for name, form in forms.items()} == bits
    assert left == []


def test_what_a_family_leaves_alone_is_not_named() -> None:
    """It is meant so; named is only what no group of weights divides."""

    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept, self.packed, self.odd = (nn.Linear(n, 8) for n in (64, 64, 24))

        @property
        def quant_predicate(self) -> Any:
            return lambda name, _: name != "kept"

    model = Picky()
    assert quantize_model(model, 4) == ["odd"]
    assert [n for n, m in model.named_modules() if hasattr(m, "bits")] == ["packed"]
