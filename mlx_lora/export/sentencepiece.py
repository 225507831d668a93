"""The pieces of a SentencePiece vocabulary, from `tokenizer.model`, without SentencePiece.

The file is a protobuf message: field 1, repeated, is a piece, {1: text, 2: score, 3: kind}. What
else is in it is passed over, but must be whole. The app reads texts with tokenizer.json, so a file
that says otherwise is another tokenizer's, or damaged, and is left aside. So is what it alone calls
control, user-defined or unused: the app reads and writes those like any other piece.
"""

from __future__ import annotations

import math
import re
import struct
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gguf import TokenType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "tokenizer.model"
_LARGEST = 64_000_000
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}
_PARTS = {1: _LENGTH, 2: 5, 3: _VARINT}
_VARINT_BYTES = 10
_NUMBER_ENDS = 0x80
_TRIFLE = 2.0**-23  # a float32's last digit
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Piece(NamedTuple):
    """One entry; its place in the file is its id."""

    text: str
    score: float
    kind: TokenType


def own_pieces(folder: Path, definition: dict[str, Any]) -> tuple[list[Piece], str]:
    """The pieces of a model folder, where they say what its tokenizer.json says.

    Returns:
        (pieces, ""); (none, "") where there is no file; (none, why) where it is left aside.
    """
    path = folder / NAME
    if not path.is_file():
        return [], ""
    try:
        if path.stat().st_size > _LARGEST:
            return [], "it is too large to be one"
        # one more than there can be is enough to know better
        most = len(definition["model"]["vocab"]) + len(definition["added_tokens"]) + 1
        pieces = list(islice(read_pieces(path.read_bytes()), most))
    except OSError as error:
        return [], f"it cannot be read ({error.strerror})"
    except ValueError as error:
        return [], f"it is damaged: {error}"
    why = _disagreement(pieces, definition)
    if why:
        return [], why
    pieces = _in_order(pieces, definition)
    return pieces, "" if pieces else "its scores are in another order than tokenizer.json's merges"


def read_pieces(content: bytes) -> Iterator[Piece]:
    """Every piece in order.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    for number, wire, value in _fields(content):
        if number == 1:
            if wire != _LENGTH:
                raise ValueError("a piece is no message")
            yield _piece(value)


def _piece(content: bytes) -> Piece:
    parts: dict[int, Any] = {1: b"", 2: bytes(4), 3: int(TokenType.NORMAL)}
    for number, wire, value in _fields(content):
        if number in _PARTS:
            if wire != _PARTS[number]:
                raise ValueError("a part of a piece is of the wrong type")
            parts[number] = value
    text, score = parts[1].decode(), struct.unpack("<f", parts[2])[0]
    if not text or not math.isfinite(score):
        raise ValueError("a piece has no text or no score")
    return Piece(text, score, TokenType(parts[3]))


def _fields(content: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field of a message; a value is bytes or a whole number."""
    at = 0
    while at < len(content):
        key, at = _whole(content, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _whole(content, at)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            size, at = _whole(content, at)
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            raise ValueError("it has a field of an unknown type")
        if size > len(content) - at:
            raise ValueError("it is cut off")
        yield number, wire, content[at : at + size]
        at += size


def _whole(content: bytes, at: int) -> tuple[int, int]:
    """The whole number that begins at `at`, and where it ends."""
    value = 0
    for place in range(_VARINT_BYTES):
        if at + place >= len(content):
            raise ValueError("it is cut off")
        byte = content[at + place]
        value |= (byte & (_NUMBER_ENDS - 1)) << (7 * place)
        if byte < _NUMBER_ENDS:
            return value, at + place + 1
    raise ValueError("it has a number without an end")


def _disagreement(pieces: list[Piece], definition: dict[str, Any]) -> str:
    """Why these pieces are not those of tokenizer.json, or ""."""
    vocabulary: dict[str, int] = definition["model"]["vocab"]
    added = {token["id"] for token in definition["added_tokens"]}
    same = {
        number
        for text, number in vocabulary.items()
        if number < len(pieces) and pieces[number].text == text
    }
    if not pieces or {*vocabulary.values(), *range(len(pieces))} - added - same:
        return "its pieces are not those of tokenizer.json"
    if any((piece.kind == TokenType.BYTE) != is_byte(piece.text) for piece in pieces):
        return "its bytes are not those of tokenizer.json"
    return ""


def _in_order(pieces: list[Piece], definition: dict[str, Any]) -> list[Piece]:
    """With scores that fall along the merges of tokenizer.json, none where they rise.

    Where pieces share a score, as runs of spaces do, SentencePiece joins the leftmost first and
    tokenizer.json those merged earlier: they are set apart by a trifle.
    """
    found, (before, last) = list(pieces), (math.inf, math.inf)
    for text in merge_ranks(definition):
        number = definition["model"]["vocab"][text]
        if number >= len(pieces) or pieces[number].score > before:
            return []
        before = pieces[number].score
        last = min(before, float(np.float32(last - max(abs(last), 8.0) * _TRIFLE)))
        found[number] = pieces[number]._replace(score=last)
    return found


def is_byte(text: str) -> bool:
    """Whether an entry stands for a byte no other entry has."""
    return _BYTE.fullmatch(text) is not None


def merge_ranks(definition: dict[str, Any]) -> dict[str, int]:
    """The rank of the first merge that makes an entry, in that order."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(definition["model"]["merges"]):
        ranks.setdefault("".join(merge_parts(merge)), rank)
    return ranks


def merge_parts(merge: Any) -> list[str]:
    """A merge is a pair, or one text with a space between the halves, as older files have it."""
    return merge.split(" ", 1) if isinstance(merge, str) else list(merge)
