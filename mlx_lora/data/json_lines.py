"""JSON lines: one value a line, each read on its own, so that a broken one harms no other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.encodings import damaged_row, explain_encoding
from mlx_lora.data.rows import DEEPEST, Row, bad_place, is_deep, too_long
from mlx_lora.data.text_file import Unpacked, read_lines
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlx_lora.errors import UserError

_AROUND = 20
_NUMBER = re.compile(r"\b(NaN|Infinity)\b")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_FIX = "correct this line or take it out"


def read_json_lines(path: Path, first: int, encoding: str | None) -> Iterator[Row]:
    """The rows of a file with a JSON value a line; blank lines are none.

    Raises:
        UserError: `bad_data`, where it is in another encoding than UTF-8.
    """
    decode, name, offset, at = msgspec.json.Decoder().decode, path.name, first - 1, 0
    judged = False
    with Unpacked(path, encoding) as file:
        for lines, end in read_lines(file):
            for at, line in enumerate(lines, start=at + 1):  # noqa: B020  (counts on)
                try:
                    value = decode(line)  # type: ignore[arg-type]  # None is told apart below
                    if line.count(b"{") + line.count(b"[") > DEEPEST and is_deep(value):  # type: ignore[union-attr]
                        raise RecursionError  # noqa: TRY301  (as of one that is deeper still)
                except (
                    msgspec.DecodeError,
                    UnicodeDecodeError,
                    RecursionError,
                    TypeError,
                ) as error:
                    if line is not None and not line.strip():
                        continue
                    if isinstance(error, UnicodeDecodeError) and not judged:
                        judged = True
                        fault = explain_encoding(path, encoding)
                        if fault is not None:
                            raise fault from error
                    yield Row(
                        offset + at, None, False, name, at, end, _fault(path, line, at, error)
                    )
                else:
                    yield Row(offset + at, value, False, name, at, end)


def _fault(path: Path, line: bytes | None, number: int, error: Exception) -> UserError:
    where = show(path)
    if line is None:
        return too_long(where, number)
    if isinstance(error, UnicodeDecodeError):
        return damaged_row(path, line, number)
    text = line.decode(errors="replace")
    column, reason = json_reason(error, text)
    why = f"this line is no valid JSON ({reason}): {around(text, column)!r}"
    return bad_place(where, number, column, why, _FIX)


def around(text: str, column: int) -> str:
    """What stands around a place of a line, in at most 40 characters."""
    return text[max(0, column - _AROUND) : column + _AROUND].strip()


def json_reason(error: Exception, text: str) -> tuple[int, str]:
    """Where msgspec's decoder stopped in a text, in characters from 1, and why."""
    if isinstance(error, RecursionError):
        return 1, "it is nested too deeply"
    message = str(error)
    found = re.search(r"\(byte (\d+)\)", message)
    if found is not None:
        column = len(text.encode()[: int(found[1])].decode(errors="ignore")) + 1
        word = _NUMBER.match(text, column - 1)
        if word:
            return column, f"{word[0]} is no number"
        return column, message[: found.start()].strip().removeprefix("JSON is malformed: ")
    if "out of range" in message:
        number = re.search(r"\d[\d.eE+-]{3,}", text)
        return (number.start() if number else 0) + 1, "a number is too large"
    half = _HALF.search(text)
    if half is not None and text.rstrip().endswith(("}", "]", '"')):
        return half.start() + 1, "half of a character that is written in two halves"
    return len(text) + 1, "it ends too early"
