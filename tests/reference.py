"""What the engine should compute, in NumPy float64, written from the papers, not from the engine.

The Llama forward takes complex numbers too: with one weight moved by i*h the imaginary part of the
loss divided by h is the exact derivative (complex-step method), no difference of near numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

STEP = 1e-30


def linear(x: np.ndarray, weight: np.ndarray, lora: tuple[Any, Any, float] | None) -> np.ndarray:
    """W x + scale * (x A) B."""
    y = x @ weight.T
    if lora is None:
        return y
    a, b, scale = lora
    return y + scale * ((x @ a) @ b)


def cross_entropy(logits: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> Any:
    """Mean of -log p(target) where mask is 1."""
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1))
    picked = np.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
    return ((total - picked) * mask).sum() / mask.sum()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class Llama:
    """Llama in float64 (or complex128): RMSNorm, rotary positions, grouped queries, SwiGLU."""

    def __init__(self, config: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self._config = config
        self._weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self._frequencies = _frequencies(config)

    def logits(self, ids: np.ndarray, lora: dict[str, tuple[Any, Any, float]]) -> np.ndarray:
        """Logits (rows, length, vocabulary); `lora` has (A, B, scale) by module name."""
        x = self._weights["model.embed_tokens.weight"][ids]
        for number in range(self._config["num_hidden_layers"]):
            x = self._layer(f"model.layers.{number}", x, lora)
        x = self._norm("model.norm", x)
        head = "model.embed_tokens" if self._config["tie_word_embeddings"] else "lm_head"
        return linear(x, self._weights[f"{head}.weight"], lora.get(head))

    def _layer(self, name: str, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        def part(module: str, value: np.ndarray) -> np.ndarray:
            whole = f"{name}.{module}"
            return linear(value, self._weights[f"{whole}.weight"], lora.get(whole))

        heads, shared = self._config["num_attention_heads"], self._config["num_key_value_heads"]
        rows, length, hidden = x.shape
        width = hidden // heads
        y = self._norm(f"{name}.input_layernorm", x)

        def split(value: np.ndarray, count: int) -> np.ndarray:
            return value.reshape(rows, length, count, width).transpose(0, 2, 1, 3)

        queries = self._rotate(split(part("self_attn.q_proj", y), heads))
        keys = self._rotate(split(part("self_attn.k_proj", y), shared))
        values = split(part("self_attn.v_proj", y), shared)
        keys, values = (np.repeat(v, heads // shared, axis=1) for v in (keys, values))
        scores = queries @ keys.swapaxes(-1, -2) / math.sqrt(width)
        scores = np.where(np.tril(np.ones((length, length), bool)), scores, -1e9)
        scores = np.exp(scores - scores.real.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ values
        x = x + part("self_attn.o_proj", mixed.transpose(0, 2, 1, 3).reshape(rows, length, hidden))
        y = self._norm(f"{name}.post_attention_layernorm", x)
        gate = part("mlp.gate_proj", y)
        return x + part("mlp.down_proj", gate / (1 + np.exp(-gate)) * part("mlp.up_proj", y))

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._config["rms_norm_eps"])
        return x / size * self._weights[f"{name}.weight"]

    def _rotate(self, x: np.ndarray) -> np.ndarray:
        angles = np.arange(x.shape[2])[:, None] * self._frequencies
        cos, sin = np.cos(angles), np.sin(angles)
        half = x.shape[-1] // 2
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _frequencies(config: dict[str, Any]) -> np.ndarray:
    width = config["hidden_size"] // config["num_attention_heads"]
    plain = config["rope_theta"] ** -(np.arange(0, width, 2) / width)
    scaling = config.get("rope_scaling")
    if not scaling:
        return plain
    # Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended
    turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return kept * plain + (1 - kept) * plain / scaling["factor"]


def directional(loss: Any, tensors: dict[str, np.ndarray], name: str, way: np.ndarray) -> float:
    """Derivative of loss(tensors) when `name` moves along `way`, by complex step."""
    moved = tensors | {name: tensors[name] + 1j * STEP * way}
    return float(np.imag(loss(moved)) / STEP)


def adamw(
    values: np.ndarray, gradients: list[np.ndarray], rates: list[float], decay: float
) -> np.ndarray:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2): betas .9 and .999, eps 1e-8."""
    w = values.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        g = gradient.astype(np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        unbiased = m / (1 - 0.9**step), v / (1 - 0.999**step)
        w = w - rate * decay * w - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return w
