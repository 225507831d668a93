"""What every kind of file is read to: rows, one after the other."""

from __future__ import annotations

from typing import Any

import msgspec

from mlx_lora.errors import UserError

# a row of more bytes is a fault: no model learns from one, and it would fill the memory
LARGEST = 64 << 20
# lists and objects inside each other; templates and writers of JSON give up some way beyond
DEEPEST = 100
# bytes read at a time
CHUNK = 1 << 20


class Row(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        number: counts on over the files of a split: a line of JSON lines, a record of a table, a
            place in an array, a text file.
        value: what it holds; of a document its text; None where it has a fault.
        document: it is a whole text file, or a part of a very long one.
        file: name of its file.
        line: the line it begins at, 0 where that is not known.
        end: bytes of the file read so far, to tell how far a reading is.
        fault: what is wrong with it, where it cannot be read.
        column: where in its line it begins, in characters from 1; 0 where its number tells more.
        unread: bytes of the file behind it that were not read, because nothing tells where the next
            row begins.
    """

    number: int
    value: Any
    document: bool = False
    file: str = ""
    line: int = 0
    end: int = 0
    fault: UserError | None = None
    column: int = 0
    unread: int = 0


def is_deep(value: object) -> bool:
    """Lists and objects lie deeper in each other than anything that comes after can follow."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return False
        level = inner
    return any(isinstance(item, dict | list) for item in level)


def bad_place(file: str, line: int, column: int, why: str, fix: str = "") -> UserError:
    """A fault at a place of a file; a column of 0 is not known."""
    where = ":".join([file, *(str(n) for n in (line, column) if n)])
    return UserError("bad_data", where, why, fix or "correct this row or take it out")


def too_long(file: str, line: int, column: int = 0) -> UserError:
    """A row beyond every measure."""
    why = f"this row is longer than {LARGEST >> 20} MB"
    return bad_place(file, line, column, why, "split it into shorter rows or take it out")


def not_read(left: int, whole: int) -> str:
    """How much of a file was not read, in words; nothing where that is none of it."""
    if left <= 0:
        return ""
    share = left / max(left, whole)
    return f"; nothing behind it was read: about {left:,} bytes, {share:.1%} of the file"


def bad_row(row: Row, why: str, fix: str = "") -> UserError:
    """What is wrong with a row that could be read."""
    at = f":{row.line}:{row.column}" if row.column else f" row {row.number}"
    where = f"{row.file}{at}"
    return UserError("bad_data", where, why, fix or "correct this row or take it out")


def kind_words(value: object) -> str:
    """What a value is, in words."""
    names = {
        dict: "an object", list: "a list", bool: "true or false", int: "a number",
        float: "a number", str: "text",
    }  # fmt: skip
    return "empty (null)" if value is None else names.get(type(value), "something else")
