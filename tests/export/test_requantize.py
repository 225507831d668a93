"""Packing that keeps a layer's answers, against plain rounding and NumPy float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter, make_model, random_ids, randomize_adapter

from mlx_lora.export.requantize import input_grams, quantize_weight
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from pathlib import Path

Packed = tuple[mx.array, mx.array, mx.array]


def _values(packed: Packed, bits: int, group: int) -> np.ndarray:
    weight, scales, biases = packed
    floats = (scales.astype(mx.float32), biases.astype(mx.float32))
    return np.array(mx.dequantize(weight, *floats, group_size=group, bits=bits))


def _case(width: int = 128, *, correlated: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(weight, inputs): inputs as a layer sees them, each much like its neighbours."""
    generator = np.random.default_rng(0)
    weight = generator.normal(0, 0.05, (96, width)).astype(np.float32)
    inputs = generator.normal(0, 1, (512, width))
    if correlated:
        inputs = inputs @ generator.normal(0, 1, (width, width)) * np.geomspace(1, 0.02, width)
    return weight, inputs.astype(np.float32)


def _loss(weight: np.ndarray, inputs: np.ndarray, packed: Packed, bits: int, group: int) -> float:
    return float(np.linalg.norm(inputs @ (weight - _values(packed, bits, group)).T))


def _both(weight: np.ndarray, inputs: np.ndarray, bits: int, group: int) -> tuple[float, float]:
    """(ours, round-to-nearest), the error of the layer's answers."""
    form: dict[str, Any] = {"bits": bits, "group_size": group, "dtype": mx.float32}
    ours = quantize_weight(weight, gram=inputs.T @ inputs, **form)
    plain = quantize_weight(weight, gram=None, **form)
    return _loss(weight, inputs, ours, bits, group), _loss(weight, inputs, plain, bits, group)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_answers_change_less_than_by_rounding(bits: int, group: int) -> None:
    ours, plain = _both(*_case(), bits, group)
    assert ours < 0.65 * plain


def test_inputs_that_have_nothing_to_do_with_each_other_lose_nothing() -> None:
    ours, plain = _both(*_case(correlated=False), 4, 64)
    assert ours < plain


@pytest.mark.parametrize(("bits", "group"), [(4, 64), (6, 32), (8, 128)])
def test_layout_is_that_of_mlx(bits: int, group: int) -> None:
    weight, inputs = _case()
    packed = quantize_weight(
        weight, bits=bits, group_size=group, gram=inputs.T @ inputs, dtype=mx.float32
    )
    plain = mx.quantize(mx.array(weight), group, bits)
    assert [(p.shape, p.dtype) for p in packed] == [(p.shape, p.dtype) for p in plain]
    linear = nn.QuantizedLinear(128, 96, bias=False, group_size=group, bits=bits)
    linear.weight, linear.scales, linear.biases = packed
    wanted = inputs[:8] @ _values(packed, bits, group).T
    np.testing.assert_allclose(np.array(linear(mx.array(inputs[:8]))), wanted, rtol=1e-4, atol=1e-3)


def test_without_inputs_it_is_plain_rounding() -> None:
    weight, _ = _case()
    ours = quantize_weight(weight, bits=4, group_size=64, gram=None, dtype=mx.float16)
    plain = mx.quantize(mx.array(weight), 64, 4)
    assert mx.array_equal(ours[0], plain[0])
    assert ours[1].dtype == mx.float16


def test_codes_are_chosen_for_the_rounded_scales() -> None:
    weight, inputs = _case()
    gram = inputs.T @ inputs
    coarse = quantize_weight(weight, bits=8, group_size=64, gram=gram, dtype=mx.bfloat16)
    late = quantize_weight(weight, bits=8, group_size=64, gram=gram, dtype=mx.float32)
    rounded = (late[0], late[1].astype(mx.bfloat16), late[2].astype(mx.bfloat16))
    assert _loss(weight, inputs, coarse, 8, 64) < _loss(weight, inputs, rounded, 8, 64)


def test_a_small_delta_is_not_erased() -> None:
    base, inputs = _case()
    grid = _values(mx.quantize(mx.array(base), 64, 4), 4, 64)
    generator = np.random.default_rng(1)
    delta = generator.normal(0, 0.004, (96, 2)) @ generator.normal(0, 1, (2, 128))
    merged = (grid + delta).astype(np.float32)
    packed = quantize_weight(
        merged, bits=4, group_size=64, gram=inputs.T @ inputs, dtype=mx.float32
    )
    wanted, left = inputs @ delta.T, inputs @ (_values(packed, 4, 64) - grid).T
    kept = float((wanted * left).sum() / (wanted * wanted).sum())
    assert 0.9 < kept < 1.1


def test_inputs_never_seen_do_no_harm() -> None:
    weight, inputs = _case()
    inputs[:, 40:80] = 0.0
    packed = quantize_weight(
        weight, bits=4, group_size=64, gram=inputs.T @ inputs, dtype=mx.float32
    )
    values = _values(packed, 4, 64)
    assert np.isfinite(values).all()
    assert np.abs(values - weight)[:, 40:80].max() < 0.2
    nothing = quantize_weight(
        weight, bits=4, group_size=64, gram=np.zeros((128, 128), np.float32), dtype=mx.float32
    )
    assert np.isfinite(_values(nothing, 4, 64)).all()


class _Witness(nn.Module):
    """Keeps what a linear is given."""

    def __init__(self, inner: nn.Module, seen: list[np.ndarray]) -> None:
        super().__init__()
        self.inner, self._seen = inner, seen

    def __call__(self, x: mx.array) -> mx.array:
        self._seen.append(np.array(x).astype(np.float64).reshape(-1, x.shape[-1]))
        return self.inner(x)


def test_grams_are_those_of_the_adapted_models_inputs(tmp_path: Path) -> None:
    base = load_model(str(make_model(tmp_path / "model")))
    randomize_adapter(attach_adapter(base.module))
    rows = tuple(tuple(map(int, row)) for row in random_ids(3, 12))
    grams = input_grams(base.module, rows, tmp_path)
    assert len(grams) == 14  # seven linears in each of two layers
    mlp = base.module.model.layers[1].mlp
    seen: list[np.ndarray] = []
    mlp.down_proj = _Witness(mlp.down_proj, seen)
    for row in rows:
        mx.eval(base.module(mx.array([row])))
    inputs = np.concatenate(seen)
    found = grams["model.layers.1.mlp.down_proj"]
    np.testing.assert_allclose(found, inputs.T @ inputs, rtol=1e-4, atol=1e-4)
