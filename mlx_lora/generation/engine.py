"""Generation with a key-value cache, streamed as text that is complete in Unicode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora.generation.sampling import next_token
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
    """Continue a prompt of ids until a stop token or `max_tokens`.

    The scores behind a token are being computed while the token itself is read and told; those
    behind the last one are for nothing.
    """
    cache = import_part("models.cache").make_prompt_cache(model)
    tokens = list(prompt)
    logits = _prefill(model, cache, prompt)
    stream = TextStream(tokenizer, prompt[-8:])
    for position in range(settings.max_tokens):
        chosen, logprobs = next_token(logits, tokens, position, settings)
        likely, last = mx.take(logprobs, chosen), position + 1 == settings.max_tokens
        if not last:
            logits = model(chosen.reshape(1, 1), cache=cache)[0, -1].astype(mx.float32)
        mx.async_eval(chosen, likely, *(() if last else (logits,)))
        token, logprob = int(chosen.item()), likely.item()
        if token in stop_ids:
            yield Piece(stream.finish(), token, logprob, "stop")
            return
        tokens.append(token)
        text = stream.add(token)
        if last:
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


def _prefill(model: Any, cache: list[Any], prompt: list[int]) -> mx.array:
    """Read the prompt in stretches, for bounded memory; logits after its last token."""
    ids = mx.array([prompt])
    for start in range(0, len(prompt) - 1, _PREFILL):
        model(ids[:, start : min(start + _PREFILL, len(prompt) - 1)], cache=cache)
        mx.eval([part.state for part in cache])
    return model(ids[:, -1:], cache=cache)[0, -1].astype(mx.float32)
