"""The adapter layer: value, gradient, start and dropout, each against NumPy."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import random_ids

from mlx_lora.lora.layers import DropoutKey, LoRALinear, widths
from mlx_lora.models.quantize import dequantized


def random_linear(out_width: int, in_width: int, seed: int = 0, bias: bool = True) -> nn.Linear:
    generator = np.random.default_rng(seed)
    linear = nn.Linear(in_width, out_width, bias=bias)
    linear.weight = mx.array(generator.normal(0, 0.3, (out_width, in_width)).astype(np.float32))
    if bias:
        linear.bias = mx.array(generator.normal(0, 0.3, out_width).astype(np.float32))
    return linear


def filled(linear: nn.Module, rank: int, scale: float, seed: int = 1) -> LoRALinear:
    layer = LoRALinear(linear, rank=rank, scale=scale, name=f"layer{seed}")
    generator = np.random.default_rng(seed)
    for part in ("lora_a", "lora_b"):
        layer[part] = mx.array(generator.normal(0, 0.4, layer[part].shape).astype(np.float32))
    return layer


def inputs(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("bits", [None, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_a_new_layer_changes_no_bit(bits: int | None, dtype: mx.Dtype) -> None:
    linear: nn.Module = random_linear(48, 64)
    linear.set_dtype(dtype)
    if bits:
        linear = nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits)
    layer = LoRALinear(linear, rank=4, scale=16.0, name="m")
    layer.initialize(3)
    x = mx.array(inputs(2, 5, 64)).astype(dtype)
    assert widths(linear) == (48, 64)
    assert layer.lora_a.shape == (64, 4)
    assert layer.lora_b.shape == (4, 48)
    assert layer(x).dtype == linear(x).dtype
    assert mx.array_equal(layer(x), linear(x))
    assert float(mx.abs(layer.lora_a).max()) > 0


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_the_value_is_that_of_the_paper(bits: int | None) -> None:
    linear: nn.Module = random_linear(48, 64)
    weight = np.array(linear.weight, np.float64)
    if bits:
        linear = nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits)
        weight = np.array(dequantized(linear), np.float64)
    layer, x = filled(linear, 4, 2.5), inputs(2, 5, 64)
    a, b = (np.array(layer[part], np.float64) for part in ("lora_a", "lora_b"))
    wanted = x @ weight.T + np.array(linear.bias, np.float64) + 2.5 * (x @ a @ b)
    assert np.abs(2.5 * (x @ a @ b)).mean() > 1
    assert np.abs(np.array(layer(mx.array(x))) - wanted).max() < 2e-5
    layer.enabled = False
    assert mx.array_equal(layer(mx.array(x)), linear(mx.array(x)))


def test_gradients_of_a_and_b_are_those_worked_out_by_hand() -> None:
    first, second = (
        filled(random_linear(5, 6), 2, 1.5, 1),
        filled(random_linear(7, 5, 3), 3, 0.5, 2),
    )
    x, mask = inputs(9, 6), np.array([1, 1, 0, 1, 0, 1, 1, 0, 1], np.float32)
    targets = random_ids(1, 9)[0] % 7
    model = nn.Sequential(first, nn.Tanh(), second)
    model.freeze()
    for layer in (first, second):
        layer.unfreeze(recurse=False, keys=["lora_a", "lora_b"])

    def loss(_: int) -> mx.array:
        logits = model(mx.array(x))
        losses = nn.losses.cross_entropy(logits, mx.array(targets))
        return (losses * mx.array(mask)).sum() / mask.sum()

    value, tree = nn.value_and_grad(model, loss)(0)
    found = {name: np.array(g) for name, g in nn.utils.tree_flatten(tree)}

    parts = ("lora_a", "lora_b")
    (a1, b1), (a2, b2) = ([np.array(m[p], np.float64) for p in parts] for m in (first, second))
    (w1, c1), (w2, c2) = (
        [np.array(m.linear[p], np.float64) for p in ("weight", "bias")] for m in (first, second)
    )
    h = np.tanh(x @ w1.T + c1 + 1.5 * (x @ a1 @ b1))
    logits = h @ w2.T + c2 + 0.5 * (h @ a2 @ b2)
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = share[np.arange(9), targets]
    d2 = (share - np.eye(7)[targets]) * mask[:, None] / mask.sum()
    dh = d2 @ w2 + 0.5 * d2 @ b2.T @ a2.T
    d1 = dh * (1 - h * h)
    wanted = {
        "layers.0.lora_a": 1.5 * x.T @ d1 @ b1.T,
        "layers.0.lora_b": 1.5 * (x @ a1).T @ d1,
        "layers.2.lora_a": 0.5 * h.T @ d2 @ b2.T,
        "layers.2.lora_b": 0.5 * (h @ a2).T @ d2,
    }
    assert found.keys() == wanted.keys()
    assert value.item() == pytest.approx(-(np.log(picked) * mask).sum() / mask.sum(), rel=1e-6)
    for name, gradient in wanted.items():
        assert np.abs(found[name] - gradient).max() < 1e-5 * np.abs(gradient).max(), name


def test_a_starts_uniform_and_b_at_zero() -> None:
    layer = LoRALinear(nn.Linear(400, 30, bias=False), rank=50, scale=1.0, name="m")
    layer.initialize(0)
    a, bound = np.array(layer.lora_a, np.float64), 1 / math.sqrt(400)
    assert not np.array(layer.lora_b).any()
    assert np.abs(a).max() <= bound * (1 + 1e-6)
    counts, _ = np.histogram(a, bins=10, range=(-bound, bound))
    assert ((counts - 2000) ** 2 / 2000).sum() < 33.7  # chi-square, 9 degrees, p = 1e-4
    assert a.var() == pytest.approx(bound**2 / 3, rel=0.03)


def test_a_depends_on_seed_and_module_only() -> None:
    def start(name: str, seed: int) -> np.ndarray:
        layer = LoRALinear(nn.Linear(32, 8), rank=4, scale=1.0, name=name)
        layer.initialize(seed)
        return np.array(layer.lora_a)

    first = start("layers.0.q", 5)
    mx.random.seed(1234)
    mx.random.normal((3,))
    assert np.array_equal(first, start("layers.0.q", 5))
    others = [start("layers.0.q", 6), start("layers.1.q", 5), start("layers.0.k", 5)]
    others.append(start("layers.0.q", 2**53))
    assert all(np.abs(np.corrcoef(first.ravel(), o.ravel())[0, 1]) < 0.3 for o in others)


def dropping(name: str, share: float, key: DropoutKey) -> LoRALinear:
    """A layer that gives out exactly what its adapter is shown."""
    linear = nn.Linear(64, 64, bias=False)
    linear.weight = mx.zeros((64, 64))
    layer = LoRALinear(linear, rank=64, scale=1.0, name=name)
    layer.lora_a = layer.lora_b = mx.eye(64)
    layer.use_dropout(share, key)
    layer.train(True)
    return layer


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_hides_the_share_and_keeps_the_mean(share: float) -> None:
    key = DropoutKey()
    key.set(0, 1, 0)
    shown = np.array(dropping("m", share, key)(mx.ones((400, 64))))
    count = shown.size
    kept = 1 / (1 - share)
    assert np.allclose(np.unique(shown), [0, kept])
    assert abs((shown == 0).mean() - share) < 4 * math.sqrt(share * (1 - share) / count)
    assert abs(shown.mean() - 1) < 4 * kept * math.sqrt(share * (1 - share) / count)
    by_column = (shown == 0).mean(axis=0)
    assert np.abs(by_column - share).max() < 5 * math.sqrt(share * (1 - share) / 400)


def test_dropout_depends_on_seed_step_micro_batch_and_module_only() -> None:
    key, x = DropoutKey(), mx.ones((100, 64))
    layers = {name: dropping(name, 0.5, key) for name in ("a", "b")}

    def mask(seed: int, step: int, micro_batch: int, name: str) -> np.ndarray:
        key.set(seed, step, micro_batch)
        return np.array(layers[name](x)) > 0

    first = mask(1, 2, 3, "a")
    mx.random.seed(99)
    mx.random.normal((5,))
    state = np.array(mx.random.state[0])
    assert np.array_equal(first, mask(1, 2, 3, "a"))
    assert np.array_equal(first, np.array(layers["a"](x)) > 0), "a second call draws another mask"
    assert np.array_equal(state, np.array(mx.random.state[0])), "the global state was used"
    # the last two would collide if the three numbers were simply written one after the other
    others = [(2, 2, 3, "a"), (1, 3, 3, "a"), (1, 2, 4, "a"), (1, 2, 3, "b"), (12, 3, 0, "a")]
    for other in others:
        assert 0.45 < (first == mask(*other)).mean() < 0.55, other
    assert 0.45 < (mask(12, 3, 0, "a") == mask(1, 23, 0, "a")).mean() < 0.55


def test_dropout_is_off_while_measuring_and_at_zero() -> None:
    key, x = DropoutKey(), mx.array(inputs(4, 64))
    layer = dropping("m", 0.5, key)
    assert not np.allclose(np.array(layer(x)), np.array(x))
    layer.train(False)
    assert np.array_equal(np.array(layer(x)), np.array(x))
    assert np.array_equal(np.array(dropping("m", 0.0, key)(x)), np.array(x))
