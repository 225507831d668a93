"""The families beside Llama in NumPy float64 (or complex128), and the loss of a step on each.

What is Llama's too is `reference.Llama`'s; here is only what a family does otherwise. Nothing may
take an absolute value, a conjugate or the larger of two complex numbers (see `reference`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mlx.nn as nn
import numpy as np
from reference import Llama, cross_entropy, linear, rope_frequencies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.data.render import Rendered


class Gemma(Llama):
    """What Gemma 2 and 3 share: norms of gain 1 + w, four of them a layer, GELU, scaled embeddings.

    mlx-lm has no sliding window for Gemma 2, nor has this: 4,096 tokens are longer than any row
    here.
    """

    def _embed(self, ids: np.ndarray) -> np.ndarray:
        return super()._embed(ids) * self._embedding_scale()

    def _embedding_scale(self) -> float:
        return math.sqrt(self._config["hidden_size"])

    def _layer(self, number: int, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        def norm(where: str, value: np.ndarray) -> np.ndarray:
            return self._norm(f"model.layers.{number}.{where}_layernorm", value)

        mixed = self._attend(number, norm("input", x), lora)
        x = x + norm("post_attention", mixed)
        made = self._mlp(number, norm("pre_feedforward", x), lora)
        return x + norm("post_feedforward", made)

    def _scores(self, products: np.ndarray) -> np.ndarray:
        return products / math.sqrt(self._config["query_pre_attn_scalar"])

    def _activate(self, x: np.ndarray) -> np.ndarray:
        # the tanh form (Hendrycks & Gimpel 2016), not the error function
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    def _gain(self, name: str) -> np.ndarray:
        return 1 + super()._gain(name)


class Gemma2(Gemma):
    """Attention scores and logits bounded by a tanh (Gemma 2 report, section 2)."""

    def logits(self, ids: np.ndarray, lora: dict[str, tuple[Any, Any, float]]) -> np.ndarray:
        """Logits (rows, length, vocabulary)."""
        return soft_capped(super().logits(ids, lora), self._config["final_logit_softcapping"])

    def _scores(self, products: np.ndarray) -> np.ndarray:
        return soft_capped(super()._scores(products), self._config["attn_logit_softcapping"])


class Gemma3(Gemma):
    """Layers that see a window, with their own rotary base, between layers that see everything."""

    def _embedding_scale(self) -> float:
        return as_bfloat16(super()._embedding_scale())

    def _slides(self, number: int) -> bool:
        return bool(self._config["layer_types"][number] == "sliding_attention")

    def _seen(self, number: int, length: int) -> np.ndarray:
        seen = super()._seen(number, length)
        if not self._slides(number):
            return seen
        # the window counts the position itself
        return seen & ~np.tril(np.ones((length, length), bool), -self._config["sliding_window"])

    def _frequencies(self, number: int) -> np.ndarray:
        base = "rope_local_base_freq" if self._slides(number) else "rope_theta"
        return rope_frequencies(self._head_width, self._config[base])


class GptOss(Gemma3):
    """Every linear with a bias, attention sinks, and a mixture of experts (GPT-OSS model card).

    A sink is one more score a head that takes its share and gives no value.
    """

    _embed = Llama._embed
    _layer = Llama._layer
    _scores = Llama._scores
    _gain = Llama._gain
    _frequencies = Llama._frequencies

    def _part(self, number: int, module: str, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        bias = self._weights[f"model.layers.{number}.{module}.bias"]
        return super()._part(number, module, x, lora) + bias

    def _shares(self, number: int, scores: np.ndarray) -> np.ndarray:
        sinks = self._weights[f"model.layers.{number}.self_attn.sinks"][None, :, None, None]
        column = np.broadcast_to(sinks, (*scores.shape[:-1], 1))
        return super()._shares(number, np.concatenate([scores, column], axis=-1))[..., :-1]

    def _mlp(self, number: int, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        gates = self._part(number, "mlp.router", x, lora)
        chosen = np.argsort(-gates.real, axis=-1)[..., : self._config["num_experts_per_tok"]]
        picked = np.take_along_axis(gates, chosen, axis=-1)
        shares = Llama._shares(self, number, picked)
        made = np.zeros((*x.shape[:-1], x.shape[-1]), gates.dtype)
        for expert in range(self._config["num_local_experts"]):
            share = np.where(chosen == expert, shares, 0).sum(axis=-1, keepdims=True)
            made = made + share * self._expert(number, expert, x, lora)
        return made

    def _expert(self, number: int, expert: int, x: np.ndarray, lora: dict[str, Any]) -> np.ndarray:
        def part(letters: str, value: np.ndarray) -> np.ndarray:
            name = f"model.layers.{number}.mlp.experts.{letters}_proj"
            weight, bias = (self._weights[f"{name}.{n}"][expert] for n in ("weight", "bias"))
            if name not in lora:
                return linear(value, weight, None) + bias
            a, b, scale = lora[name]
            return linear(value, weight, (a[expert].T, b[expert].T, scale)) + bias

        gate, up = part("gate", x), part("up", x)
        # bounded at 7: a bound value has no slope, as its complex part says too
        gate = np.where(gate.real > 7, 7, gate)
        up = np.where(up.real > 7, 7, np.where(up.real < -7, -7, up))
        return part("down", (up + 1) * gate / (1 + np.exp(-1.702 * gate)))


FAMILIES: dict[str, type[Llama]] = {
    "llama": Llama,
    "qwen3": Llama,
    "gemma2": Gemma2,
    "gemma3_text": Gemma3,
    "gpt_oss": GptOss,
}


def make_reference(config: dict[str, Any], weights: dict[str, np.ndarray]) -> Llama:
    """The reference of a config.json's family on float weights by their names in the model."""
    return FAMILIES[config["model_type"]](config, weights)


def reference_loss(
    config: dict[str, Any],
    weights: dict[str, np.ndarray],
    parts: dict[str, tuple[Any, Any, float]],
    rows: Sequence[Rendered],
) -> Any:
    """Mean loss (nats) a learnt target, every document on its own and without padding.

    `parts` has (A, B, scale) by module name; complex where a derivative is wanted.
    """
    reference, total, count = make_reference(config, weights), 0.0, 0
    for row in rows:
        ids, mask = np.array(row.tokens), np.array(row.mask[1:])
        learnt = int(mask.sum())
        if learnt:
            logits = reference.logits(ids[None, :-1], parts)
            total += cross_entropy(logits, ids[None, 1:], mask[None]) * learnt
            count += learnt
    return total / count


def unpacked_weights(model: Any) -> dict[str, np.ndarray]:
    """A model's tensors by name, 4- and 8-bit ones as the float64 numbers they stand for."""
    tensors = dict(nn.utils.tree_flatten(model.parameters()))
    modules = dict(model.named_modules())
    weights = {}
    for name, tensor in tensors.items():
        owner, _, part = name.rpartition(".")
        if part == "weight" and f"{owner}.scales" in tensors:
            scales, biases = (np.array(tensors[f"{owner}.{n}"]) for n in ("scales", "biases"))
            weights[name] = unpacked(np.array(tensor), scales, biases, modules[owner].bits)
        elif part not in {"scales", "biases"}:
            weights[name] = np.array(tensor).astype(np.float64)
    return weights


def unpacked(words: np.ndarray, scales: np.ndarray, biases: np.ndarray, bits: int) -> np.ndarray:
    """Affine quantization undone: scale * q + bias, q packed from the low bits of uint32 up."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    numbers = (words[..., None] >> shifts) & np.uint32(2**bits - 1)
    grouped = numbers.reshape(*scales.shape, -1).astype(np.float64)
    values = grouped * scales[..., None].astype(np.float64) + biases[..., None]
    return values.reshape(*words.shape[:-1], -1)


def soft_capped(x: np.ndarray, cap: float) -> np.ndarray:
    """Bounded by cap * tanh(x / cap)."""
    return cap * np.tanh(x / cap)


def as_bfloat16(value: float) -> float:
    """The nearest number with 8 significant bits, ties to even (positive numbers)."""
    spacing = 2.0 ** (math.floor(math.log2(value)) - 7)
    return round(value / spacing) * spacing
