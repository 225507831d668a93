"""Rows to show: as the person wrote them, and token by token as the model sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.formats import Conversation
from mlx_lora.events import Report
from mlx_lora.models.tokenizer import TextStream, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_lora.data.examples import Found
    from mlx_lora.data.render import Rendered

# a longer row is shown up to here: a person reads no more of it, and a window shows no more
LONGEST_VIEW = 8_000
_SHORT, _LINE, _COLUMNS = 160, 32_000, 8
Piece = tuple[str, str]


def row_pieces(tokenizer: Tokenizer, row: Rendered, most: int | None = None) -> list[Piece]:
    """A row as text in pieces, each `trained`, `masked` or `cut`; joined, they are its decoding.

    A piece is a token, or a few where only together they make a character; those of the first
    `most` tokens.
    """
    ids, states = row.whole()
    ids, states = ids[:most], states[:most]
    texts = tokenizer.decode_each(ids)
    if "".join(texts) == tokenizer.decode(ids, keep_special=True):
        return list(zip(texts, states, strict=True))
    stream, pieces = TextStream(tokenizer, [], keep_special=True), list[Piece]()
    for token, state in zip(ids, states, strict=True):
        if text := stream.add(token):
            pieces.append((text, state))
    rest = stream.finish()
    return [*pieces, (rest, states[-1])] if rest else pieces


def say_rows(
    found: list[Found], rendered: list[Rendered], tokenizer: Tokenizer
) -> Iterator[Report]:
    """Training rows as the person wrote them, each with its tokens and why it is left out."""
    training = [one for one in found if one.split == "train"]
    if any(one.row.document for one in training):
        shown = [
            _line(row.row, {"text": _short(tokenizer.decode(row.tokens))}, [row])
            for row in rendered
        ]
    else:
        by_number: dict[int, list[Rendered]] = {}
        for row in rendered:
            by_number.setdefault(row.row, []).append(row)
        shown = [_written(one, by_number.get(one.row.number, [])) for one in training]
    yield from _in_lines("preview", {}, "rows", shown)


def say_pieces(tokenizer: Tokenizer, row: Rendered) -> Iterator[Report]:
    """A row token by token, as far as anybody reads."""
    total, pieces = len(row.tokens) + row.cut, row_pieces(tokenizer, row, LONGEST_VIEW)
    yield from _in_lines("pieces", {"row": row.row, "tokens": total}, "pieces", pieces)


def values_of(one: Found) -> dict[str, str]:
    """Field to short text, as the row has them; of a conversation its first turns and the last."""
    if isinstance(one.example, Conversation):
        turns = one.example.messages
        first = {m.role: m.content for m in reversed(turns)}
        first["assistant"] = next(m.content for m in reversed(turns) if m.role == "assistant")
        shown = {role: first[role] for role in ("system", "user", "assistant") if role in first}
        return {**{role: _short(text) for role, text in shown.items()}, "turns": f"{len(turns)}"}
    value = one.row.value
    if not isinstance(value, dict):
        return {}
    texts = {str(name): _short(text) for name, text in value.items() if isinstance(text, str)}
    return dict(list(texts.items())[:_COLUMNS])


def _written(one: Found, rows: list[Rendered]) -> dict[str, Any]:
    if one.fault is not None:
        broken = {"row": one.row.number, "values": values_of(one), "tokens": 0, "cut": 0}
        return {**broken, "left_out": "broken", "why": one.fault.why}
    return _line(one.row.number, values_of(one), rows)


def _line(number: int, values: dict[str, str], rows: list[Rendered]) -> dict[str, Any]:
    tokens = sum(len(row.tokens) + row.cut for row in rows)
    learnt = any(row.targets for row in rows)
    dropped = any(row.dropped for row in rows)
    reason = "" if learnt else "dropped" if dropped else "no_target" if rows else "empty"
    cut = sum(row.cut for row in rows)
    return {"row": number, "values": values, "tokens": tokens, "cut": cut, "left_out": reason}


def _in_lines(kind: str, facts: dict[str, Any], name: str, items: list[Any]) -> Iterator[Report]:
    """A long list as several reports, each with `facts` and where its part starts."""
    part, size, start = list[Any](), 0, 0
    for at, item in enumerate(items):
        part.append(item)
        size += len(msgspec.json.encode(item)) + 1
        if size > _LINE or at + 1 == len(items):
            yield Report(kind=kind, data={**facts, "start": start, name: part})
            part, size, start = [], 0, at + 1


def _short(text: str) -> str:
    head = text[: 20 * _SHORT]
    line = " \u21b5 ".join(part.strip() for part in head.strip().splitlines() if part.strip())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "\u2026"
