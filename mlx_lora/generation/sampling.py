"""From logits to the next token; a pure function of (logits, seed, position)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from mlx_lora.generation.settings import Sampling

_RECENT = 64


def recent_of(tokens: list[int]) -> mx.array:
    """The end of a text (ids) as far back as the penalty looks, (64,) or shorter."""
    return mx.array(tokens[-_RECENT:], mx.uint32)


def with_latest(recent: mx.array, token: mx.array, settings: Sampling) -> mx.array:
    """The end of the text with one more token; as it is where no penalty asks for it."""
    if settings.repetition_penalty == 1.0:
        return recent
    return mx.concatenate([recent, token.reshape(1).astype(mx.uint32)])[-_RECENT:]


def next_token(
    logits: mx.array, recent: mx.array, position: int, settings: Sampling
) -> tuple[mx.array, mx.array]:
    """(token, log-probabilities (vocabulary,)) from float32 logits (vocabulary,) and recent ids.

    The log-probabilities are the model's own, before penalty, temperature and nucleus.
    """
    logprobs = logits - mx.logsumexp(logits)
    logits = _penalized(logits, recent, settings.repetition_penalty)
    if settings.temperature == 0:
        return mx.argmax(logits), logprobs
    key = mx.random.key(_number(settings.seed, position))
    scores = _nucleus(logits / settings.temperature, settings.top_p)
    return mx.random.categorical(scores, key=key), logprobs


def _penalized(logits: mx.array, recent: mx.array, penalty: float) -> mx.array:
    """CTRL's penalty (Keskar et al. 2019): seen words are made less likely, once each."""
    if penalty == 1.0 or not recent.size:
        return logits
    values = logits[recent]
    result = mx.array(logits)
    # a word seen twice is written twice, each time the same number
    result[recent] = mx.where(values > 0, values / penalty, values * penalty)
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
