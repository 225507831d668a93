"""Where adapters go, that the base stays as it was, and what is counted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import (
    LLAMA3_ROPE,
    as_numpy,
    attach_adapter,
    base_weights,
    lora_parts,
    make_model,
    random_ids,
    random_rows,
    random_weights,
    randomize_adapter,
)
from reference import Llama

from mlx_lora.config import AdapterConfig, TrainingConfig
from mlx_lora.data.batching import make_batch
from mlx_lora.errors import UserError
from mlx_lora.lora.attach import choose_shape, target_linears, total_parameters, trainable_names
from mlx_lora.lora.layers import LoRALinear
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import quantize_model
from mlx_lora.training.loss import clipped, step_gradient
from mlx_lora.training.optimizers import AdamW

if TYPE_CHECKING:
    from pathlib import Path

ATTENTION = [f"self_attn.{name}_proj" for name in "koqv"]
MLP = [f"mlp.{name}_proj" for name in ("down", "gate", "up")]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama-untied": {"family": "llama", "tied": False},
    "llama-rope": {"family": "llama", "rope_scaling": LLAMA3_ROPE},
    "gemma3_text": {"family": "gemma3_text"},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    "phi3": {"family": "phi3", "tied": False},
}


@pytest.fixture
def llama(tmp_path: Path) -> Any:
    return load_model(str(make_model(tmp_path / "llama"))).module


def logits(model: Any, ids: np.ndarray | None = None) -> np.ndarray:
    ids = random_ids(2, 17) if ids is None else ids
    return np.array(model(mx.array(ids)))


def shape_of(model: Any, **config: Any) -> Any:
    return choose_shape(model, AdapterConfig(**config))[0]


@pytest.mark.parametrize("bits", ["keep", "4", "8"])
@pytest.mark.parametrize("made", FAMILIES)
def test_before_the_first_step_logits_are_those_of_the_base(
    tmp_path: Path, made: str, bits: str
) -> None:
    model = load_model(str(make_model(tmp_path / made, **FAMILIES[made])), bits).module
    before = logits(model)
    adapter = attach_adapter(model, rank=4, dropout=0.3)
    adapter.train(False)
    assert np.array_equal(before, logits(model))
    randomize_adapter(adapter)
    assert np.abs(before - logits(model)).max() > 0.05


@pytest.mark.parametrize("bits", ["keep", "4", "8"])
def test_before_the_first_step_a_real_model_is_the_base(stories: Path, bits: str) -> None:
    model = load_model(str(stories), bits).module
    ids = random_ids(2, 40)
    before = logits(model, ids)
    attach_adapter(model)
    assert np.array_equal(before, logits(model, ids))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_model_is_the_base_before_the_first_step_and_after_detaching(
    llama: Any, bits: int
) -> None:
    quantize_model(llama, bits)
    before = logits(llama)
    adapter = attach_adapter(llama, targets=("all",))
    assert all(isinstance(m.linear, nn.QuantizedLinear) for m in adapter.modules.values())
    assert np.array_equal(before, logits(llama))
    randomize_adapter(adapter)
    assert not np.allclose(before, logits(llama))
    with adapter.disabled():
        assert np.array_equal(before, logits(llama))
    adapter.detach()
    assert np.array_equal(before, logits(llama))


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"rope_scaling": LLAMA3_ROPE}])
def test_adapted_logits_are_those_of_a_float64_llama(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = make_model(tmp_path / "m", **changes)
    model = load_model(str(folder)).module
    adapter = attach_adapter(model, rank=3, alpha=4.5)
    randomize_adapter(adapter)
    config = _config_of(folder)
    parts = lora_parts(as_numpy(adapter.tensors()), 1.5)
    ids = random_ids(2, 60)
    wanted = Llama(config, random_weights(config, 0)).logits(ids, parts)
    found = logits(model, ids)
    assert wanted.std() > 0.5
    assert np.abs(found - wanted).max() < 2e-4
    plain = Llama(config, random_weights(config, 0)).logits(ids, {})
    assert np.abs(plain - wanted).mean() > 0.05


@pytest.mark.parametrize(
    ("targets", "keys"),
    [
        (("all",), MLP + ATTENTION),
        (("attention",), ATTENTION),
        (("mlp",), MLP),
        (("q_proj", "v_proj"), ["self_attn.q_proj", "self_attn.v_proj"]),
        (("self_attn.q_proj",), ["self_attn.q_proj"]),
        (("attention", "down_proj"), ["mlp.down_proj", *ATTENTION]),
    ],
)
def test_targets(llama: Any, targets: tuple[str, ...], keys: list[str]) -> None:
    shape = shape_of(llama, targets=targets)
    assert sorted(keys) == list(shape.keys)
    assert set(target_linears(llama, shape)) == {
        f"model.layers.{n}.{k}" for n in (0, 1) for k in keys
    }


def test_only_the_last_layers(llama: Any) -> None:
    adapter = attach_adapter(llama, targets=("attention",), layers=1)
    assert set(adapter.modules) == {f"model.layers.1.{key}" for key in ATTENTION}
    assert trainable_names(llama) == set(adapter.tensors())


def test_the_head_is_adapted_only_by_name(tmp_path: Path) -> None:
    model = load_model(str(make_model(tmp_path / "m", tied=False))).module
    assert "lm_head" not in shape_of(model).keys
    adapter = attach_adapter(model, targets=("lm_head", "q_proj"), layers=1)
    assert set(adapter.modules) == {"lm_head", "model.layers.1.self_attn.q_proj"}


def test_fused_linears_of_phi3(tmp_path: Path) -> None:
    model = load_model(str(make_model(tmp_path / "m", "phi3", tied=False))).module
    assert shape_of(model, targets=("attention",)).keys == (
        "self_attn.o_proj",
        "self_attn.qkv_proj",
    )
    assert shape_of(model, targets=("mlp",)).keys == ("mlp.down_proj", "mlp.gate_up_proj")


def test_a_wrong_name_lists_what_exists(llama: Any) -> None:
    with pytest.raises(UserError) as raised:
        shape_of(llama, targets=("q_prj",))
    assert raised.value.code == "bad_option"
    assert "q_prj" in raised.value.where
    assert "did you mean q_proj?" in raised.value.fix
    for name in (
        "attention",
        "mlp",
        "all",
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "up_proj",
    ):
        assert name in raised.value.fix


def test_more_layers_than_there_are(llama: Any) -> None:
    with pytest.raises(UserError) as raised:
        shape_of(llama, layers=3)
    assert raised.value.code == "bad_option"
    assert "2" in raised.value.why


def test_targets_that_the_last_layers_do_not_have(llama: Any) -> None:
    llama.layers[1].mlp.gate_proj = nn.Identity()
    with pytest.raises(UserError) as raised:
        shape_of(llama, targets=("gate_proj",), layers=1)
    assert raised.value.code == "bad_option"


def test_rank_above_the_width_is_said(llama: Any) -> None:
    narrow, wide = (AdapterConfig(rank=rank, targets=("k_proj",)) for rank in (32, 33))
    assert choose_shape(llama, narrow)[1] == []
    (notice,) = choose_shape(llama, wide)[1]
    assert notice.code == "rank_above_width"
    assert "33" in notice.text
    assert "32" in notice.text


def train(model: Any, adapter: Any, steps: int = 3) -> list[float]:
    config = TrainingConfig(learning_rate=0.01, weight_decay=0.1)
    optimizer, losses = AdamW(model, config), []
    batches = [make_batch(random_rows([9, 12, 5], seed=1)), make_batch(random_rows([7, 3], seed=2))]
    for step in range(1, steps + 1):
        adapter.train(True)
        gradient = step_gradient(model, batches, key=adapter.dropout_key, seed=0, step=step)
        adapter.train(False)
        optimizer.update(clipped(gradient, 1.0), 0.01)
        losses.append(gradient.loss)
    return losses


@pytest.mark.parametrize("packed", [None, 4])
def test_training_changes_a_and_b_and_nothing_else(llama: Any, packed: int | None) -> None:
    if packed:
        quantize_model(llama, packed)
    plain, before = base_weights(llama), logits(llama)
    adapter = attach_adapter(llama, rank=4, dropout=0.2)
    wanted = {f"{name}.{part}" for name in adapter.modules for part in ("lora_a", "lora_b")}
    assert trainable_names(llama) == wanted == set(adapter.tensors())
    start = as_numpy(adapter.tensors())
    losses = train(llama, adapter, 4)
    assert losses[-1] < losses[0]
    assert trainable_names(llama) == wanted
    after = base_weights(llama)
    assert after.keys() == plain.keys()
    assert all(np.array_equal(after[name], plain[name]) for name in plain)
    assert all(not np.array_equal(t, start[n]) for n, t in as_numpy(adapter.tensors()).items())
    assert np.abs(logits(llama) - before).max() > 0.01
    with adapter.disabled():
        assert np.array_equal(before, logits(llama))
    assert np.abs(logits(llama) - before).max() > 0.01, "the adapter is off after the block"
    adapter.detach()
    assert np.array_equal(before, logits(llama))
    assert not any(isinstance(module, LoRALinear) for module in llama.modules())


def test_attaching_freezes_the_base(llama: Any) -> None:
    llama.unfreeze()
    adapter = attach_adapter(llama, layers=1)
    assert trainable_names(llama) == set(adapter.tensors())


def test_disabled_ends_when_its_block_fails(llama: Any) -> None:
    adapter = attach_adapter(llama)
    randomize_adapter(adapter)
    adapted = logits(llama)
    with pytest.raises(KeyError), adapter.disabled():
        raise KeyError("x")
    assert np.array_equal(adapted, logits(llama))


def test_strength_is_linear_and_one_is_what_was_trained(llama: Any) -> None:
    adapter = attach_adapter(llama, rank=4, alpha=8.0)
    randomize_adapter(adapter)
    module = adapter.modules["model.layers.0.mlp.up_proj"]
    x = mx.array(np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32))

    def effect(strength: float) -> np.ndarray:
        adapter.scale_by(strength)
        return np.array(module(x), np.float64) - np.array(module.linear(x), np.float64)

    whole = effect(1.0)
    a, b = (np.array(module[part], np.float64) for part in ("lora_a", "lora_b"))
    assert np.abs(whole - 2.0 * (np.array(x) @ a @ b)).max() < 1e-5
    for strength in (0.0, 0.25, 0.5, 2.0, -1.0):
        assert np.abs(effect(strength) - strength * whole).max() < 2e-6
    adapter.scale_by(0.0)
    before = logits(llama)
    adapter.detach()
    assert np.array_equal(before, logits(llama))


@pytest.mark.parametrize("made", FAMILIES)
def test_the_count_is_that_of_the_file(tmp_path: Path, made: str) -> None:
    folder = make_model(tmp_path / made, **FAMILIES[made])
    config = _config_of(folder)
    wanted = sum(array.size for array in random_weights(config, 0).values())
    model = load_model(str(folder)).module
    assert total_parameters(model) == wanted
    attach_adapter(model)
    assert total_parameters(model) == wanted, "adapter weights are counted as the base's"
    for bits in (2, 3, 4, 6, 8):
        packed = load_model(str(folder)).module
        quantize_model(packed, bits)
        assert total_parameters(packed) == wanted, bits
        attach_adapter(packed)
        assert total_parameters(packed) == wanted, bits


def test_the_count_of_a_real_model(stories: Path, demo_model: Path) -> None:
    for folder in (stories, demo_model):
        if not folder.is_dir():
            continue
        stored = mx.load(str(folder / "model.safetensors"))
        wanted = sum(t.size for n, t in stored.items() if not n.endswith(("scales", "biases")))
        for bits in ("keep", "4", "8"):
            assert total_parameters(load_model(str(folder), bits).module) == wanted


def test_adapter_parameters(llama: Any) -> None:
    adapter = attach_adapter(llama, rank=8, targets=("q_proj", "k_proj"))
    assert adapter.parameter_count() == 2 * 8 * ((64 + 64) + (64 + 32))


def _config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())
