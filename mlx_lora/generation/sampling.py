"""From logits to the next token; a pure function of (logits, seed, position)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from mlx_lora.generation.settings import Sampling

_RECENT = 64


def next_token(
    logits: mx.array, recent: list[int], position: int, settings: Sampling
) -> tuple[mx.array, mx.array]:
    """(token, log-probabilities (vocabulary,)) from float32 logits (vocabulary,).

    The log-probabilities are the model's own, before penalty, temperature and nucleus.
    """
    logprobs = logits - mx.logsumexp(logits)
    logits = _penalized(logits, recent[-_RECENT:], settings.repetition_penalty)
    if settings.temperature == 0:
        return mx.argmax(logits), logprobs
    key = mx.random.key(_number(settings.seed, position))
    scores = _nucleus(logits / settings.temperature, settings.top_p)
    return mx.random.categorical(scores, key=key), logprobs


def _penalized(logits: mx.array, recent: list[int], penalty: float) -> mx.array:
    """CTRL's penalty (Keskar et al. 2019): seen words are made less likely."""
    if penalty == 1.0 or not recent:
        return logits
    seen = mx.array(sorted(set(recent)))
    values = logits[seen]
    result = mx.array(logits)
    result[seen] = mx.where(values > 0, values / penalty, values * penalty)
    return result


def _number(seed: int, position: int) -> int:
    """64 bits of every pair; a seed may have 53, more than fit beside a position."""
    digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _nucleus(scores: mx.array, share: float) -> mx.array:
    """The fewest likeliest words that together have `share` (Holtzman et al. 2020)."""
    if share >= 1.0:
        return scores
    order = mx.argsort(-scores)
    probabilities = mx.softmax(scores[order])
    before = mx.cumsum(probabilities) - probabilities
    kept = mx.where(before < share, scores[order], -mx.inf)
    result = mx.full(scores.shape, -mx.inf)
    result[order] = kept
    return result
