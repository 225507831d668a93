"""What the engine should compute, in NumPy float64, written from the papers, not from the engine.

The forward takes complex numbers too: with one weight moved by i*h the imaginary part of the loss
divided by h is the exact derivative (complex-step method), no difference of near numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

STEP = 1e-30


def linear(x: np.ndarray, weight: np.ndarray, lora: tuple[Any, Any, float] | None) -> np.ndarray:
    """W x + scale * (x A) B."""
    y = _by_real(x, weight.T)
    if lora is None:
        return y
    a, b, scale = lora
    return y + scale * ((x @ a) @ b)


def _by_real(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """x @ matrix; a complex x part by part, which saves making the matrix complex."""
    if not np.iscomplexobj(x):
        return x @ matrix
    return (x.real @ matrix) + 1j * (x.imag @ matrix)


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
    """Llama in float64 (or complex128): RMSNorm, rotary positions, grouped queries, SwiGLU.

    Queries and keys are normed head by head where the weights have norms for them, which makes it
    Qwen 3 too. Other families (`reference_families`) replace the parts in which they differ.
    """

    def __init__(self, config: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self._config = config
        self._weights = {n: array.astype(np.float64, copy=False) for n, array in weights.items()}
        width = config["hidden_size"] // config["num_attention_heads"]
        self._head_width = int(config.get("head_dim") or width)

    def logits(self, ids: np.ndarray, lora: dict[str, tuple[Any, Any, float]]) -> np.ndarray:
        """Logits (rows, length, vocabulary); `lora` has (A, B, scale) by module name."""
        x = self._embed(ids)
        for number in range(self._config["num_hidden_layers"]):
            x = self._layer(number, x, lora)
        x = self._norm("model.norm", x)
        head = "model.embed_tokens" if self._config["tie_word_embeddings"] else "lm_head"
        return linear(x, self._weights[f"{head}.weight"], lora.get(head))

    def _embed(self, ids: np.ndarray) -> np.ndarray:
        return self._weights["model.embed_tokens.weight"][ids]

    def _layer(self, number: int, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        name = f"model.layers.{number}"
        x = x + self._attend(number, self._norm(f"{name}.input_layernorm", x), lora)
        return x + self._mlp(number, self._norm(f"{name}.post_attention_layernorm", x), lora)

    def _attend(self, number: int, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        heads, shared = self._config["num_attention_heads"], self._config["num_key_value_heads"]
        rows, length, _ = x.shape

        def split(letter: str, count: int) -> np.ndarray:
            value = self._part(number, f"self_attn.{letter}_proj", x, lora)
            return value.reshape(rows, length, count, -1).transpose(0, 2, 1, 3)

        def place(letter: str, value: np.ndarray) -> np.ndarray:
            norm = f"model.layers.{number}.self_attn.{letter}_norm"
            value = self._norm(norm, value) if f"{norm}.weight" in self._weights else value
            return rotate(value, self._frequencies(number))

        queries, keys = place("q", split("q", heads)), place("k", split("k", shared))
        keys, values = (np.repeat(v, heads // shared, axis=1) for v in (keys, split("v", shared)))
        scores = self._scores(queries @ keys.swapaxes(-1, -2))
        scores = np.where(self._seen(number, length), scores, -1e9)
        mixed = self._shares(number, scores) @ values
        mixed = mixed.transpose(0, 2, 1, 3).reshape(rows, length, -1)
        return self._part(number, "self_attn.o_proj", mixed, lora)

    def _shares(self, number: int, scores: np.ndarray) -> np.ndarray:  # noqa: ARG002
        scores = np.exp(scores - scores.real.max(axis=-1, keepdims=True))
        return scores / scores.sum(axis=-1, keepdims=True)

    def _scores(self, products: np.ndarray) -> np.ndarray:
        return products / math.sqrt(self._head_width)

    def _seen(self, number: int, length: int) -> np.ndarray:  # noqa: ARG002
        """Which positions (columns) each position (rows) attends to."""
        return np.tril(np.ones((length, length), bool))

    def _frequencies(self, number: int) -> np.ndarray:  # noqa: ARG002
        plain = rope_frequencies(self._head_width, self._config["rope_theta"])
        scaling = self._config.get("rope_scaling")
        return slow_long_waves(plain, scaling) if scaling else plain

    def _mlp(self, number: int, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        gate = self._activate(self._part(number, "mlp.gate_proj", x, lora))
        up = self._part(number, "mlp.up_proj", x, lora)
        return self._part(number, "mlp.down_proj", gate * up, lora)

    def _activate(self, x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    def _part(self, number: int, module: str, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        name = f"model.layers.{number}.{module}"
        return linear(x, self._weights[f"{name}.weight"], lora.get(name))

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        # x * x and no absolute value: complex numbers must come through
        size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._config["rms_norm_eps"])
        return x / size * self._gain(name)

    def _gain(self, name: str) -> np.ndarray:
        return self._weights[f"{name}.weight"]


def rotate(x: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Rotary positions (Su et al. 2021) on (rows, heads, length, width): halves, not pairs."""
    angles = np.arange(x.shape[2])[:, None] * frequencies
    cos, sin = np.cos(angles), np.sin(angles)
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rope_frequencies(width: int, base: float) -> np.ndarray:
    """Radians a position for each half of a head: base^(-2i / width)."""
    return base ** -(np.arange(0, width, 2) / width)


def slow_long_waves(plain: np.ndarray, scaling: dict[str, Any]) -> np.ndarray:
    """Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended."""
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
