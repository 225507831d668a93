"""JSON that is not one value a line: arrays, objects with one, values one after the other.

Read through a window on the text, so that a file of any size needs no more memory than its longest
row. A broken row is passed over where the next one is sure to be found; else reading ends there.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mlx_lora.data.formats import form_of
from mlx_lora.data.json_window import DECODER, EDGE, Window
from mlx_lora.data.rows import Row, not_read
from mlx_lora.data.text_file import Unpacked
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# lists that lie in a row; a list of objects under any other name is the rows
_INNER = {
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "tools",
}
_TEXTS = {"text", "content", "instruction", "output", "question", "answer", "response"}


def are_lines(head: str, *, whole: bool, named: bool) -> bool:
    """Whether a JSON file holds one value a line, by its beginning.

    Args:
        head: what it begins with.
        whole: that is all of it.
        named: its name says that it does.
    """
    text = head.lstrip()
    if text.startswith("["):
        return False
    try:
        _, end = DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        line = error.doc.find("\n") < 0
        more = not whole and error.pos > len(text) - EDGE
        return named and (line or not more)
    except (ValueError, RecursionError):
        return named
    if re.search(r"[\n\r]", text[:end]):
        return False
    rest = text[end:]
    alone = not rest.strip() and whole
    return not alone and (named or re.match(r"[ \t]*[\n\r]", rest) is not None)


def read_json_values(path: Path, first: int, encoding: str | None) -> Iterator[Row]:
    """The rows of a JSON file of any form but one value a line.

    Where nothing tells how to go on, a last row says so, and how much was not read.

    Raises:
        UserError: `bad_data` with line and column, where that is so before any row.
    """
    with Unpacked(path, encoding) as raw:
        window, name, number = Window(path, raw), path.name, first
        try:
            for line, value in _values(window):
                fault = value if isinstance(value, UserError) else None
                shown = None if fault else value
                yield Row(number, shown, False, name, line, raw.position(), fault)
                number += 1
        except UserError as error:
            if number == first:
                raise
            unread, whole = raw.left(used) if (used := window.used()) else (0, 0)
            why = error.why + not_read(unread, whole)
            fault = UserError(error.code, error.where, why, error.fix)
            end = raw.position()
            yield Row(number, None, False, name, window.line, end, fault, 0, unread)


def _values(window: Window) -> Iterator[tuple[int, Any]]:
    """Every row with its line; a row that is a fault is a `UserError`."""
    count = 0
    while sign := window.peek():
        if sign == "[":
            yield from _array(window)
        elif sign == "{" and count == 0:
            yield from _first_object(window)
        else:
            yield from _value(window)
        count += 1


def _value(window: Window) -> Iterator[tuple[int, Any]]:
    """One of several values that stand one after the other."""
    line, indent = window.line, window.indent()
    try:
        value = window.value()
    except UserError as fault:
        if indent is None or not window.recover(indent):
            raise
        value = fault
    yield line, value


def _array(window: Window) -> Iterator[tuple[int, Any]]:
    window.take("[")
    last: Any = None
    ended = window.peek() == "]" and window.take("]") == "]"
    while not ended:
        window.peek()
        line, indent = window.line, window.indent()
        try:
            value = window.value()
        except UserError as fault:
            if not window.resume(indent, last):
                raise
            yield line, fault
            ended = window.peek() == "]" and window.take("]") == "]"
            continue
        yield line, value
        last = value
        if window.peek() == ",":
            window.at += 1
            if window.peek() != "]":
                continue
            yield window.line, window.fault(window.at, "a comma behind the last row")
        ended, missing = _behind_row(window, indent, last)
        if missing is not None:
            yield line, missing


def _behind_row(window: Window, indent: str | None, last: Any) -> tuple[bool, UserError | None]:
    """(the array ends here, what is wrong behind a row that no comma follows)."""
    if window.peek() == "{":
        return False, window.fault(window.at, "expected ',' or ']'")
    try:
        window.take("]")
    except UserError:
        fault = window.fault(window.at, "expected ',' or ']'")
        if not window.resume(indent, last):
            raise fault from None
        return window.peek() == "]" and window.take("]") == "]", fault
    return True, None


def _first_object(window: Window) -> Iterator[tuple[int, Any]]:
    """The object a file begins with: a row, or what holds the list of them."""
    line = window.line
    value, complete = window.complete()
    if complete:
        taken = window.value()
        lists = [
            v for v in value.values() if isinstance(v, list) and all(isinstance(e, dict) for e in v)
        ]
        if len(lists) == 1 and not window.peek() and not _is_row(value):
            for inner in lists[0]:
                yield line, inner
        else:
            yield line, taken
        return
    yield from _members(window, line)


def _members(window: Window, line: int) -> Iterator[tuple[int, Any]]:
    """A large object, member by member; its list of objects is read row by row."""
    window.take("{")
    members: dict[str, Any] = {}
    found = ""
    while True:
        window.peek()
        key = window.value()
        if not isinstance(key, str):
            raise window.fault(window.at, "expected a name in double quotes")
        window.take(":")
        window.peek()
        if not _is_row({**members, key: ""}) and window.follows(r"\[\s*\{"):
            if found:
                raise window.fault(window.at, f"two lists of rows, {found} and {key}; keep one")
            found = key
            yield from _array(window)
        else:
            members[key] = window.value()
        if window.take(",}") == "}":
            break
    nothing = [value for value in members.values() if isinstance(value, list)] == [[]]
    if not found and (_is_row(members) or not nothing):
        yield line, members


def _is_row(value: dict[str, Any]) -> bool:
    return not value.keys().isdisjoint(_INNER | _TEXTS) or form_of(value, {}) != ""
