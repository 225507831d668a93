"""Generation with a key-value cache, streamed as text that is complete in Unicode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora.generation.sampling import next_token, recent_of, with_latest
from mlx_lora.models.definitions import import_part
from mlx_lora.models.tokenizer import TextStream

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mlx_lora.generation.settings import Sampling
    from mlx_lora.models.tokenizer import Tokenizer

_PREFILL = 512


class Piece(msgspec.Struct, frozen=True):
    """One step of an answer: its token, that token's log-probability, and text now complete.

    `text` is often empty: a character may take several tokens.
    `stop` is "" until the last piece, then `stop` (the model ended it) or `length`.
    """

    text: str
    token: int
    logprob: float
    stop: str = ""


def generate(
    model: Any,
    tokenizer: Tokenizer,
    prompt: list[int],
    stop_ids: Collection[int],
    settings: Sampling,
) -> Iterator[Piece]:
    """Continue a prompt of ids until a stop token or `max_tokens`."""
    stream = TextStream(tokenizer, prompt[-8:])
    drawn = _draw(model, prompt, settings)
    for position, (chosen, likely) in enumerate(drawn):
        token, logprob = int(chosen.item()), likely.item()
        if token in stop_ids:
            yield Piece(stream.finish(), token, logprob, "stop")
            return
        text = stream.add(token)
        if position + 1 == settings.max_tokens:
            yield Piece(text + stream.finish(), token, logprob, "length")
            return
        yield Piece(text, token, logprob)


def complete(
    model: Any,
    tokenizer: Tokenizer,
    prompt: list[int],
    stop_ids: Collection[int],
    settings: Sampling,
) -> str:
    """The whole answer as text."""
    return "".join(piece.text for piece in generate(model, tokenizer, prompt, stop_ids, settings))


def _draw(model: Any, prompt: list[int], settings: Sampling) -> Iterator[tuple[mx.array, mx.array]]:
    """Every next token and its log-probability, one number each, without waiting for either.

    While one is read and told, the one after it is being computed; behind a stop, for nothing.
    """
    cache = import_part("models.cache").make_prompt_cache(model)
    recent, logits, before = recent_of(prompt), _prefill(model, cache, prompt), None
    for position in range(settings.max_tokens):
        if before is not None:
            logits = model(before[0].reshape(1, 1), cache=cache)[0, -1].astype(mx.float32)
        chosen, logprobs = next_token(logits, recent, position, settings)
        drawn = chosen, mx.take(logprobs, chosen)
        recent = with_latest(recent, chosen, settings)
        mx.async_eval(*drawn, recent)
        if before is not None:
            yield before
        before = drawn
    if before is not None:
        yield before


def _prefill(model: Any, cache: list[Any], prompt: list[int]) -> mx.array:
    """Read the prompt in stretches, for bounded memory; logits after its last token."""
    ids = mx.array([prompt])
    for start in range(0, len(prompt) - 1, _PREFILL):
        model(ids[:, start : min(start + _PREFILL, len(prompt) - 1)], cache=cache)
        mx.eval([part.state for part in cache])
    return model(ids[:, -1:], cache=cache)[0, -1].astype(mx.float32)
