"""LoRA beside the experts of a mixture: value, gradient, files, and mlx-lm's own layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter, make_model, random_ids, randomize_adapter
from test_store import facts_of, reconfigure

from mlx_lora.errors import UserError
from mlx_lora.lora.attach import choose_shape, linears, total_parameters
from mlx_lora.lora.layers import (
    DropoutKey,
    LoRASwitchLinear,
    factor_shapes,
    lora_layer,
    widths,
)
from mlx_lora.lora.store import load_adapter, save_adapter
from mlx_lora.models.experts import is_packed_switch, is_switch, make_switch
from mlx_lora.models.loading import LoadedModel, load_model
from mlx_lora.models.quantize import dequantize_model, dequantized
from mlx_lora.models.shape import parameters, shape_of

if TYPE_CHECKING:
    from pathlib import Path

EXPERTS, OUT, IN, RANK = 3, 48, 64, 4
INSIDE = {
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.experts.{name}_proj" for name in ("gate", "up", "down")),
}
# row -> expert, in the order mlx-lm sorts them in, and not
CHOSEN = np.array([0, 0, 0, 2, 2, 2, 2, 2])


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def switch(mode: str = "", bits: int = 4) -> Any:
    made = make_switch(mx.array(drawn(EXPERTS, OUT, IN)), mx.array(drawn(EXPERTS, OUT, seed=1)))
    return made.to_quantized(group_size=32, bits=bits, mode=mode) if mode else made


def filled(linear: Any, scale: float = 2.5) -> Any:
    layer = lora_layer(linear, rank=RANK, scale=scale, name="m")
    layer.lora_a = mx.array(drawn(*layer.lora_a.shape, seed=2))
    layer.lora_b = mx.array(drawn(*layer.lora_b.shape, seed=3))
    return layer


def call(layer: Any, x: np.ndarray, chosen: np.ndarray, dtype: mx.Dtype = mx.float32) -> mx.array:
    """One row of x a chosen expert: (n, 1, in) to (n, 1, out)."""
    return layer(
        mx.array(x[:, None]).astype(dtype),
        mx.array(chosen.astype(np.uint32)),
        sorted_indices=bool((np.diff(chosen) >= 0).all()),
    )


def plain_values(linear: Any) -> np.ndarray:
    values = dequantized(linear) if is_packed_switch(linear) else linear.weight
    return np.array(values.astype(mx.float32)).astype(np.float64)


@pytest.mark.parametrize("mode", ["", "affine", "mxfp4"])
@pytest.mark.parametrize(
    "dtype",
    # on the CPU MLX's gather_mm takes float32 only, as the CPU's bases are
    [mx.float32, pytest.param(mx.bfloat16, marks=pytest.mark.apple)],
)
def test_a_new_layer_changes_no_bit(mode: str, dtype: mx.Dtype) -> None:
    linear = switch(mode)
    layer = lora_layer(linear, rank=RANK, scale=16.0, name="m")
    assert isinstance(layer, LoRASwitchLinear)
    layer.initialize(3)
    assert widths(linear) == (OUT, IN)
    assert factor_shapes(linear, RANK) == ((EXPERTS, RANK, IN), (EXPERTS, OUT, RANK))
    assert layer.lora_a.shape == (EXPERTS, RANK, IN)
    assert layer.lora_b.shape == (EXPERTS, OUT, RANK)
    bound = float(mx.abs(layer.lora_a).max())
    assert 0.9 * IN**-0.5 < bound <= IN**-0.5
    x = drawn(8, IN, seed=5)
    assert mx.array_equal(call(layer, x, CHOSEN, dtype), call(linear, x, CHOSEN, dtype))


@pytest.mark.parametrize("chosen", [CHOSEN, CHOSEN[::-1].copy()], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("mode", ["", "affine", "mxfp4"])
def test_value_and_gradients_are_those_worked_out_by_hand(mode: str, chosen: np.ndarray) -> None:
    layer, x, way = filled(switch(mode)), drawn(8, IN, seed=5), drawn(8, OUT, seed=6)
    ordered = bool(chosen[0] < chosen[-1])
    layer.freeze()
    layer.unfreeze(recurse=False, keys=["lora_a", "lora_b"])
    weight = plain_values(layer.linear)
    a, b, bias = (np.array(m, np.float64) for m in (layer.lora_a, layer.lora_b, layer.linear.bias))
    hidden = np.einsum("ni,nri->nr", x, a[chosen])
    wanted = np.einsum("ni,noi->no", x, weight[chosen]) + bias[chosen]
    wanted += 2.5 * np.einsum("nr,nor->no", hidden, b[chosen])
    assert np.abs(np.array(call(layer, x, chosen))[:, 0] - wanted).max() < 1e-5

    def loss(given: mx.array) -> mx.array:
        indices = mx.array(chosen.astype(np.uint32))
        return (layer(given, indices, sorted_indices=ordered)[:, 0] * mx.array(way)).sum()

    _, tree = nn.value_and_grad(layer, loss)(mx.array(x[:, None]))
    to_x = np.array(mx.grad(loss)(mx.array(x[:, None])))[:, 0]
    back = 2.5 * np.einsum("no,nor->nr", way, b[chosen])
    grad_a, grad_b = np.zeros_like(a), np.zeros_like(b)
    np.add.at(grad_a, chosen, np.einsum("nr,ni->nri", back, x))
    np.add.at(grad_b, chosen, 2.5 * np.einsum("no,nr->nor", way, hidden))
    wanted_x = np.einsum("no,noi->ni", way, weight[chosen])
    wanted_x += np.einsum("nr,nri->ni", back, a[chosen])
    assert tree.keys() == {"linear", "lora_a", "lora_b"}
    assert not tree["linear"]
    for found, exact in ((tree["lora_a"], grad_a), (tree["lora_b"], grad_b), (to_x, wanted_x)):
        assert np.abs(np.array(found) - exact).max() < 1e-5 * np.abs(exact).max()
    assert not np.array(tree["lora_a"])[1].any()  # no row chose expert 1


def test_switched_off_it_is_the_base() -> None:
    layer, x = filled(switch("affine")), drawn(8, IN, seed=5)
    assert not mx.array_equal(call(layer, x, CHOSEN), call(layer.linear, x, CHOSEN))
    layer.enabled = False
    assert mx.array_equal(call(layer, x, CHOSEN), call(layer.linear, x, CHOSEN))


def test_dropout_hides_the_same_inputs_for_the_same_key() -> None:
    key, x = DropoutKey(), drawn(8, IN, seed=5)
    layer = filled(switch())
    layer.use_dropout(0.5, key)
    layer.train(True)
    key.set(1, 2, 3)
    first = call(layer, x, CHOSEN)
    assert mx.array_equal(first, call(layer, x, CHOSEN))
    key.set(1, 2, 4)
    assert not mx.array_equal(first, call(layer, x, CHOSEN))
    layer.train(False)
    assert not mx.array_equal(first, call(layer, x, CHOSEN))


@pytest.mark.parametrize("mode", ["", "mxfp4"])
def test_it_is_mlx_lms_own_layer(mode: str) -> None:
    from mlx_lm.tuner.lora import LoRASwitchLinear as Theirs

    linear = switch(mode)
    ours, theirs = filled(linear), Theirs.from_base(linear, r=RANK, scale=2.5, dropout=0.0)
    assert (theirs.lora_a.shape, theirs.lora_b.shape) == factor_shapes(linear, RANK)
    theirs.lora_a, theirs.lora_b = ours.lora_a, ours.lora_b
    x = drawn(8, IN, seed=5)
    assert mx.array_equal(call(ours, x, CHOSEN), call(theirs, x, CHOSEN))


@pytest.fixture
def base(tmp_path: Path) -> LoadedModel:
    return load_model(str(make_model(tmp_path / "base-model", "gpt_oss")))


def logits(base: LoadedModel) -> np.ndarray:
    return np.array(base.module(mx.array(random_ids(3, 21))))  # 126 choices: sorted by mlx-lm


def test_all_is_every_linear_but_the_router(base: LoadedModel) -> None:
    from mlx_lora.config import AdapterConfig

    def keys(*targets: str) -> set[str]:
        shape, _ = choose_shape(base.module, AdapterConfig(targets=targets, rank=2))
        return set(shape.keys)

    assert keys("all") == INSIDE
    assert keys("mlp") == {key for key in INSIDE if "experts" in key}
    assert keys("attention") == {key for key in INSIDE if "attn" in key}
    assert keys("all", "router") == {*INSIDE, "mlp.router"}
    assert keys("down_proj") == {"mlp.experts.down_proj"}


@pytest.mark.parametrize("bits", ["keep", "4"])
def test_every_number_is_counted_once(tmp_path: Path, bits: str) -> None:
    folder = make_model(tmp_path / "m", "gpt_oss")
    config = json.loads((folder / "config.json").read_text())
    module = load_model(str(folder), bits, "packed").module
    count = parameters(shape_of(config))
    assert total_parameters(module) == count
    adapter = attach_adapter(module, rank=2)
    assert total_parameters(module) == count
    assert len(adapter.modules) == 2 * len(INSIDE)


def test_packed_experts_can_be_held_plain(tmp_path: Path) -> None:
    make_model(tmp_path / "m", "gpt_oss")
    packed = load_model(str(tmp_path / "m"), "4", "packed")
    assert any(is_packed_switch(one) for one in packed.module.modules())
    before = logits(packed)
    dequantize_model(packed.module, mx.float32)
    assert not any(hasattr(one, "bits") for one in packed.module.modules())
    assert sum(is_switch(one) for one in linears(packed.module).values()) == 6
    assert np.abs(logits(packed) - before).max() < 1e-5 * np.abs(before).max()


def test_an_adapter_comes_back_from_its_folder(base: LoadedModel, tmp_path: Path) -> None:
    plain = logits(base)
    adapter = attach_adapter(base.module, rank=3, alpha=6.0)
    randomize_adapter(adapter)
    adapted = logits(base)
    assert np.abs(adapted - plain).max() > 0.1
    save_adapter(tmp_path / "adapter", adapter.tensors(), adapter.shape, facts_of(base))
    adapter.detach()
    assert np.array_equal(logits(base), plain)
    load_adapter(tmp_path / "adapter", base)
    assert np.array_equal(logits(base), adapted)


def test_dora_on_experts_is_refused(base: LoadedModel, tmp_path: Path) -> None:
    adapter = attach_adapter(base.module, rank=3)
    save_adapter(tmp_path / "adapter", adapter.tensors(), adapter.shape, facts_of(base))
    adapter.detach()
    reconfigure(tmp_path / "adapter", fine_tune_type="dora")
    with pytest.raises(UserError, match="DoRA adapter on experts") as found:
        load_adapter(tmp_path / "adapter", base)
    assert found.value.code == "bad_adapter"
