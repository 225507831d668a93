"""The NumPy references against mlx-lm's own definitions, so that what is tested by them is true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from models_made import LLAMA3_ROPE, make_model, random_ids, random_rows, random_weights
from reference import cross_entropy
from reference_families import as_bfloat16, make_reference, reference_loss, unpacked_weights

from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import quantize_model

if TYPE_CHECKING:
    from pathlib import Path

IDS = random_ids(2, 24)  # three windows of gemma3_text
# the square root of 96 is not a bfloat16, as that of 64 is
WIDER = {"hidden_size": 96, "intermediate_size": 160}
THREE_LAYERS = {
    "num_hidden_layers": 3,
    "sliding_window_pattern": 3,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}
# tight enough to bend these models' scores and logits, which 50 and 30 hardly do
TIGHT_CAPS = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama-untied": {"family": "llama", "tied": False, "rope_scaling": LLAMA3_ROPE},
    "gemma3": {"family": "gemma3_text", **WIDER},
    "gemma3-untied": {"family": "gemma3_text", "tied": False, **THREE_LAYERS},
    "gemma3-scale": {"family": "gemma3_text", "query_pre_attn_scalar": 24},
    "gemma2": {"family": "gemma2", **WIDER},
    "gemma2-capped": {"family": "gemma2", "query_pre_attn_scalar": 24, **TIGHT_CAPS},
    "gpt_oss": {"family": "gpt_oss"},
    "qwen3": {"family": "qwen3"},
    "qwen3-untied": {"family": "qwen3", "tied": False, "num_key_value_heads": 1},
}


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def assert_like(module: Any, expected: np.ndarray) -> None:
    found = np.array(module(mx.array(IDS)).astype(mx.float32))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_mlx_lm(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "m", **MODELS[name])
    config = config_of(folder)
    expected = make_reference(config, random_weights(config, 0)).logits(IDS, {})
    assert_like(load_model(str(folder)).module, expected)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_logits_of_quantized_values(tmp_path: Path, name: str, bits: int) -> None:
    """Packed, and as the floats the numbers stand for, which is how a CPU holds them."""
    folder = make_model(tmp_path / "m", **MODELS[name])
    packed = load_model(str(folder)).module
    assert quantize_model(packed, bits) == []
    expected = make_reference(config_of(folder), unpacked_weights(packed)).logits(IDS, {})
    assert_like(load_model(str(folder), str(bits)).module, expected)
    assert_like(packed, expected)


@pytest.mark.parametrize("name", ["gemma3", "gemma2-capped", "qwen3", "gpt_oss"])
def test_complex_numbers_come_through(tmp_path: Path, name: str) -> None:
    """The imaginary part over the step is the slope that two real losses show."""
    folder = make_model(tmp_path / "m", **MODELS[name])
    config, way = config_of(folder), np.random.default_rng(1)
    weights, rows = random_weights(config, 0), random_rows([20, 7])
    wide = config["hidden_size"]
    a, b = way.normal(0, 0.1, (wide, 3)), way.normal(0, 0.1, (3, 2 * config["head_dim"]))
    direction = way.choice([-1.0, 1.0], a.shape)

    def loss(step: complex) -> Any:
        parts = {"model.layers.0.self_attn.k_proj": (a + step * direction, b, 1.5)}
        return reference_loss(config, weights, parts, rows)

    exact = np.imag(loss(1e-30j)) / 1e-30
    seen = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert abs(exact) > 1e-3
    assert exact == pytest.approx(seen, rel=1e-6)
    assert np.real(loss(1e-30j)) == pytest.approx(loss(0.0), rel=1e-12)


def test_the_loss_is_that_of_learnt_targets_only() -> None:
    config = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "vocab_size": 272}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    config |= {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": True}
    weights = random_weights(config | {"attention_bias": False}, 0)
    rows = random_rows([6, 9], learnt=0.4)
    rows[0].mask[:] = [0] * 6
    row = rows[1]
    logits = make_reference(config, weights).logits(np.array([row.tokens[:-1]]), {})
    mask = np.array([row.mask[1:]])
    alone = cross_entropy(logits, np.array([row.tokens[1:]]), mask)
    assert 0 < mask.sum() < mask.size
    assert reference_loss(config, weights, {}, rows) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("value", [1.0, 96**0.5, 1152**0.5, 640**0.5, 1.00390625, 1.01171875])
def test_numbers_are_rounded_as_bfloat16_is(value: float) -> None:
    assert as_bfloat16(value) == mx.array(value, mx.bfloat16).item()
