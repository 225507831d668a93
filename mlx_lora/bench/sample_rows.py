"""Rows to measure with: DATA's own rows, or running text cut to rows."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.bench.lengths import alpaca_lengths
from mlx_lora.config import DataConfig
from mlx_lora.data.examples import Found, no_rows, read_examples
from mlx_lora.data.formats import Document
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlx_lora.bench.results import Work
    from mlx_lora.models.tokenizer import Tokenizer

# rows of DATA looked at; those measured are spread over them
_SEEN = 20_000
# characters of running text that surely hold a token
_CHARACTERS = 12
# what rendering may add to a text: a start and an end token
_ADDED = 2


def sample_rows(work: Work, tokenizer: Tokenizer, limit: int, count: int) -> tuple[list[Any], bool]:
    """At most `count` rows, as a file of JSON lines has them, and whether they were cut from texts.

    Args:
        work: which data, and what running text is cut to.
        tokenizer: that of the model.
        limit: longest row in tokens.
        count: rows wanted.

    Raises:
        UserError: `no_such_data`, `bad_data`.
    """
    source = find_source(DataConfig(source=work.data), _folder(work.root))
    found = _first(read_examples(source, ("train",)))
    texts = [one.example.text for one in found if isinstance(one.example, Document)]
    if texts:
        return _cut(texts, tokenizer, _lengths(work, limit, count)), True
    if not found:
        raise no_rows(source)
    step = max(1.0, len(found) / count)
    places = dict.fromkeys(int(number * step) for number in range(count))
    return [found[at].row.value for at in places if at < len(found)], False


def write_rows(path: Path, rows: list[Any]) -> Path:
    """As JSON lines."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def _first(found: Iterator[Found]) -> list[Found]:
    """Those of the first rows that hold something; no more is read."""
    kept = []
    for one in itertools.islice(found, _SEEN):
        if one.fault is not None:
            raise one.fault
        if one.example is not None:
            kept.append(one)
    return kept


def _lengths(work: Work, limit: int, count: int) -> list[int]:
    """Tokens to cut; of a full row more than fit, so that each is cut at the limit."""
    if work.shape == "blocks":
        return [limit + 2 * _ADDED] * count
    return [length - _ADDED for length in alpaca_lengths(count, limit, work.seed)]


def _cut(texts: list[str], tokenizer: Tokenizer, lengths: list[int]) -> list[Any]:
    """One piece of the texts after the other, each with the next length in tokens.

    Raises:
        UserError: `bad_data` where there is too little for even one.
    """
    text = "\n".join(texts)[: sum(lengths) * _CHARACTERS]
    ids, rows, at = tokenizer.encode(text), [], 0
    for length in lengths:
        if at + length > len(ids):
            break
        rows.append({"text": tokenizer.decode(ids[at : at + length])})
        at += length
    if not rows:
        fix = "choose a longer text, or rows"
        raise UserError("bad_data", "--data", "this text is too short to measure with", fix)
    return rows


def _folder(root: str) -> Path:
    from pathlib import Path

    return Path(root)
