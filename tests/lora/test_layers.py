"""The adapter layer: value, gradient, start and dropout, each against NumPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter, make_model, random_ids, randomize_adapter

from mlx_lora.lora.layers import DropoutKey, LoRALinear, widths
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import dequantized, quantize_model

if TYPE_CHECKING:
    from pathlib import Path


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


# The product in the type of its input, against factors that stay float32 as mlx-lm's do


def wide_call(self: Any, x: mx.array) -> mx.array:
    """mlx-lm's formula."""
    y = self.linear(x)
    z = (self._dropped(x) @ self.lora_a) @ self.lora_b
    return y + (self.scale * z).astype(y.dtype)


class Wide(LoRALinear):
    __call__ = wide_call


def value_and_gradients(layer: LoRALinear, x: mx.array) -> tuple[mx.array, list[mx.array]]:
    weights = mx.array(inputs(*x.shape[:-1], widths(layer.linear)[0], seed=9))

    def out(a: mx.array, b: mx.array, x: mx.array) -> mx.array:
        layer.lora_a, layer.lora_b = a, b
        return (layer(x).astype(mx.float32) * weights).sum()

    a, b = layer.lora_a, layer.lora_b
    _, gradients = mx.value_and_grad(out, argnums=(0, 1, 2))(a, b, x)
    layer.lora_a, layer.lora_b = a, b
    return layer(x), list(gradients)


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("bits", [None, 4, 8])
def test_on_float32_bases_not_a_bit_differs(bits: int | None, share: float) -> None:
    linear: nn.Module = random_linear(48, 64)
    if bits:
        linear = nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits)
    key, x, found = DropoutKey(), mx.array(inputs(2, 5, 64)), []
    for kind in (LoRALinear, Wide):
        layer = kind(linear, rank=4, scale=1.7, name="m")
        for part, seed in (("lora_a", 1), ("lora_b", 2)):
            layer[part] = mx.array(inputs(*layer[part].shape, seed=seed))
        layer.use_dropout(share, key)
        layer.train(True)
        value, gradients = value_and_gradients(layer, x)
        found.append([value, *gradients])
    assert all(mx.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize(("dtype", "digits"), [(mx.bfloat16, 8), (mx.float16, 11)])
def test_half_precision_stays_half_and_masters_learn_in_float32(
    dtype: mx.Dtype, digits: int, bits: int | None
) -> None:
    linear: nn.Module = random_linear(48, 64)
    linear.set_dtype(dtype)
    if bits:
        linear = nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits)
    layer, x = filled(linear, 4, 2.5), mx.array(inputs(2, 50, 64)).astype(dtype)
    value, gradients = value_and_gradients(layer, x)
    assert value.dtype == dtype
    assert [g.dtype for g in gradients] == [mx.float32, mx.float32, dtype]
    low = layer._dropped(x) @ layer.lora_a.astype(x.dtype)
    assert low.dtype == dtype
    # the same numbers in float32
    wide = nn.Linear(64, 48)
    wide.weight = dequantized(linear) if bits else linear.weight.astype(mx.float32)
    wide.bias = linear.bias.astype(mx.float32)
    wanted_value, wanted = value_and_gradients(filled(wide, 4, 2.5), x.astype(mx.float32))
    # a few roundings to `digits` binary digits one after the other, relative to the largest entry
    for found, exact in zip([value, *gradients], [wanted_value, *wanted], strict=True):
        error = mx.abs(found.astype(mx.float32) - exact).max() / mx.abs(exact).max()
        assert 0 < error.item() < 4 * 2.0**-digits


def test_dropout_stays_half() -> None:
    layer = filled(random_linear(48, 64), 4, 2.5)
    layer.linear.set_dtype(mx.bfloat16)
    layer.use_dropout(0.3, DropoutKey())
    layer.train(True)
    x = mx.array(inputs(2, 5, 64)).astype(mx.bfloat16)
    assert layer._dropped(x).dtype == layer(x).dtype == mx.bfloat16
    assert (layer._dropped(x) == 0).any().item()


class Half:
    """A model with an adapter, and one step of it in another type."""

    def __init__(self, folder: Path, family: str, bits: int | None = None) -> None:
        sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
        self.model = load_model(str(make_model(folder, family, **sizes))).module
        # quantized products in bfloat16 are slow on the CPU
        self.ids = mx.array(random_ids(2, 25) if bits else random_ids(4, 65))
        self.bits = bits

    def adapt(self, dtype: mx.Dtype) -> None:
        self.model.set_dtype(mx.bfloat16)  # the same values in every type
        if self.bits:
            quantize_model(self.model, self.bits)
        self.model.set_dtype(dtype)
        randomize_adapter(attach_adapter(self.model, rank=8))
        mx.eval(self.model.parameters())

    def logits(self) -> np.ndarray:
        return np.array(self.model(self.ids).astype(mx.float32))

    def step(self) -> tuple[float, np.ndarray, int]:
        """Loss, gradient in one piece, and the bytes both took at most."""

        def loss(_: int) -> mx.array:
            logits = self.model(self.ids[:, :-1]).astype(mx.float32)
            return nn.losses.cross_entropy(logits, self.ids[:, 1:]).mean()

        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        value, tree = nn.value_and_grad(self.model, loss)(0)
        flat = nn.utils.tree_flatten(tree)
        mx.eval(value, tree)
        peak = mx.get_peak_memory() - before
        assert flat
        assert {g.dtype for _, g in flat} == {mx.float32}
        return value.item(), np.concatenate([np.array(g).ravel() for _, g in sorted(flat)]), peak


@pytest.mark.parametrize(
    ("family", "bits"), [("llama", None), ("gemma3_text", None), ("qwen3", None), ("llama", 4)]
)
def test_a_step_in_bfloat16_is_near_and_takes_less(
    tmp_path: Path, family: str, bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, half = Half(tmp_path / "full", family, bits), Half(tmp_path / "half", family, bits)
    full.adapt(mx.float32)
    half.adapt(mx.bfloat16)
    hidden = half.model.model(half.ids)
    assert hidden.dtype == half.model(half.ids).dtype == mx.bfloat16
    loss, gradient, peak = half.step()
    exact_loss, exact, _ = full.step()
    # 8 binary digits: one rounding is 0.4 %, so 1 % of the loss is a few that do not cancel
    assert loss == pytest.approx(exact_loss, rel=0.01)
    monkeypatch.setattr(LoRALinear, "__call__", wide_call)
    _, wide, wide_peak = half.step()

    def off(found: np.ndarray) -> float:
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    print(f"{family}: {peak / wide_peak:.2f} of the memory, {off(gradient):.3f} {off(wide):.3f}")  # noqa: T201
    # most of the distance is what the base itself rounds
    assert off(gradient) < 1.5 * off(wide)
    assert peak < 0.9 * wide_peak


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [None, 4])
def test_mlx_lm_answers_within_the_rounding_of_bfloat16(tmp_path: Path, bits: int | None) -> None:
    """It multiplies in float32 and rounds once; ours rounds the low-rank product too."""
    from mlx_lm.tuner.lora import LoRALinear as Theirs

    full, half = (Half(tmp_path / name, "llama", bits) for name in ("full", "half"))
    full.adapt(mx.float32)
    half.adapt(mx.bfloat16)
    exact, ours = full.logits(), half.logits()
    for layer in half.model.layers:
        for name, module in list(layer.named_modules()):
            if isinstance(module, LoRALinear):
                theirs = Theirs.from_base(module.linear, r=8, scale=module.scale)
                theirs.lora_a, theirs.lora_b = module.lora_a, module.lora_b
                part, _, last = name.partition(".")
                setattr(layer[part], last, theirs)
    assert not any(isinstance(module, LoRALinear) for module in half.model.modules())
    found = half.logits()
    rounding = np.sqrt(np.square(found - exact).mean())
    assert np.sqrt(np.square(ours - exact).mean()) < 1.5 * rounding
    assert 0 < np.sqrt(np.square(ours - found).mean()) < 1.5 * rounding
