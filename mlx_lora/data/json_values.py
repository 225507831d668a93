"""JSON that is not one value a line: arrays, objects with one, values one after the other.

Read through a window on the text, so that a file of any size needs no more memory than its longest
row. A fault inside an array that is written a row a line is passed over; any other ends the file.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.formats import form_of
from mlx_lora.data.json_lines import around, json_reason
from mlx_lora.data.rows import CHUNK, DEEPEST, LARGEST, Row, bad_place, is_deep
from mlx_lora.data.text_file import Unpacked, wrap_text
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLANK = re.compile(r"[ \t\n\r]*")
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
# the last characters of a window may be half of something; no row begins further in its line
_EDGE = 16


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_constant)


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
        _, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        line = error.doc.find("\n") < 0
        more = not whole and error.pos > len(text) - _EDGE
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

    Raises:
        UserError: `bad_data` with line and column.
    """
    with Unpacked(path, encoding) as raw:
        window, name = _Window(path, raw), path.name
        for number, (line, value) in enumerate(_values(window), start=first):
            fault = value if isinstance(value, UserError) else None
            shown = None if fault else value
            yield Row(number, shown, False, name, line, raw.position(), fault)


class _Window:
    """A part of the text, and where in the file it lies."""

    def __init__(self, path: Path, raw: Unpacked) -> None:
        self._path, self._text = path, wrap_text(raw, newline=None)
        self.buffer, self.at, self._ended = "", 0, False
        # the line of `at`, and the place in the buffer it begins at (negative: before the buffer)
        self.line, self._line_start = 1, 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            if self.at < len(self.buffer) and self.buffer[self.at] > " ":
                return self.buffer[self.at]
            match = _BLANK.match(self.buffer, self.at)
            self._move(match.end() if match else self.at)
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._fill():
                return ""

    def take(self, signs: str) -> str:
        """The next character, which must be one of these.

        Raises:
            UserError: it is another one.
        """
        found = self.peek()
        if not found or found not in signs:
            raise self.fault(self.at, f"expected {' or '.join(map(repr, signs))}")
        self._move(self.at + 1)
        return found

    def follows(self, pattern: str) -> bool:
        """What stands here looks like this."""
        if len(self.buffer) - self.at < 1 << 10:
            self._fill()
        return re.match(pattern, self.buffer[self.at : self.at + (1 << 10)]) is not None

    def value(self) -> Any:
        """The value that begins here.

        Raises:
            UserError: it is no valid JSON.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                inside = error.msg.startswith("Unterminated")
                if not inside and error.pos < len(self.buffer) - _EDGE:
                    raise self.fault(error.pos, _words(error.msg)) from error
                if not self._grow():
                    at = len(self.buffer.rstrip()) if inside else error.pos
                    early = inside or at >= len(self.buffer.rstrip())
                    why = "it ends too early" if early else _words(error.msg)
                    raise self.fault(at, why) from error
            except (ValueError, RecursionError) as error:
                raise self._explained(error) from error
            else:
                if end < len(self.buffer) or not self._grow():
                    break
        self._check_halves(end)
        many = self.buffer.count("{", self.at, end) + self.buffer.count("[", self.at, end)
        if many > DEEPEST and is_deep(value):
            raise self.fault(self.at, "it is nested too deeply")
        self._move(end)
        return value

    def complete(self) -> tuple[Any, bool]:
        """(the value that begins here, True) where the window holds all of it; nothing is taken."""
        if len(self.buffer) - self.at < CHUNK:
            self._fill()
        try:
            value, end = _DECODER.raw_decode(self.buffer, self.at)
        except (ValueError, RecursionError):
            return None, False
        return value, end < len(self.buffer) or not self._fill()

    def indent(self) -> str | None:
        """The blanks before what stands here, None where it does not begin a line."""
        if self.line == 1 or not 0 <= self._line_start >= self.at - _EDGE:
            return None
        before = self.buffer[self._line_start : self.at]
        return None if before.strip() else before

    def recover(self, indent: str) -> bool:
        """Go on at the next line that begins as a row of this array does."""
        while True:
            at = self.buffer.find(f"\n{indent}{{", self.at)
            if at >= 0:
                self._move(at + 1 + len(indent))
                return True
            if not self._grow():
                return False

    def fault(self, at: int, reason: str) -> UserError:
        """What is wrong at a place of the buffer."""
        text = self.buffer
        line = self.line + text.count("\n", self.at, at)
        start = text.rfind("\n", self.at, at) + 1 if line > self.line else self._line_start
        end = text.find("\n", at)
        shown = text[max(0, start) : len(text) if end < 0 else end]
        why = f"it is no valid JSON ({reason}): {around(shown, at - max(0, start) + 1)!r}"
        return bad_place(show(self._path), line, at - start + 1, why, "correct the file there")

    def _explained(self, error: Exception) -> UserError:
        """A fault Python's decoder gives no place for, found once more with msgspec."""
        part = self.buffer[self.at :]
        if isinstance(error, RecursionError):
            return self.fault(self.at, "it is nested too deeply")
        reason = "a number is too large" if "digits" in str(error) else str(error)
        try:
            msgspec.json.decode(part)
        except (msgspec.DecodeError, RecursionError) as found:
            column, _ = json_reason(found, part)
            if column <= len(part):
                return self.fault(self.at + column - 1, reason)
        return self.fault(self.at, reason)

    def _check_halves(self, end: int) -> None:
        """Python reads half of a surrogate pair without a word, and nobody can write it then."""
        if (
            self.buffer.find("\\ud", self.at, end) < 0
            and self.buffer.find("\\uD", self.at, end) < 0
        ):
            return
        part = self.buffer[self.at : end]
        try:
            msgspec.json.decode(part)
        except msgspec.DecodeError as error:
            column, reason = json_reason(error, part)
            raise self.fault(self.at + column - 1, reason) from error

    def _grow(self) -> bool:
        """More of the value that begins here; False at the end of the file."""
        held = len(self.buffer) - self.at
        if held > LARGEST:
            raise self.fault(self.at, f"a row is longer than {LARGEST >> 20} MB")
        return self._fill(held)

    def _fill(self, size: int = 0) -> bool:
        """Let go of what was read, and read on."""
        piece = "" if self._ended else self._text.read(max(size, CHUNK))
        self._ended = not piece
        if piece:
            # the blanks before a row are kept with it: they tell where the next one begins
            near = 0 <= self.at - self._line_start <= _EDGE
            gone = min(self.at, max(0, self._line_start)) if near else self.at
            self.buffer = self.buffer[gone:] + piece
            self._line_start -= gone
            self.at -= gone
        return bool(piece)

    def _move(self, to: int) -> None:
        lines = self.buffer.count("\n", self.at, to)
        if lines:
            self.line += lines
            self._line_start = self.buffer.rfind("\n", self.at, to) + 1
        self.at = to


def _words(message: str) -> str:
    """Python's reasons, as a person reads them."""
    return message.partition(" (")[0].removesuffix(" at").lower()


def _values(window: _Window) -> Iterator[tuple[int, Any]]:
    """Every row with its line; a row that is a fault is a `UserError`."""
    count = 0
    while sign := window.peek():
        if sign == "[":
            yield from _array(window)
        elif sign == "{" and count == 0:
            yield from _first_object(window)
        else:
            line = window.line
            yield line, window.value()
        count += 1


def _array(window: _Window) -> Iterator[tuple[int, Any]]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        window.peek()
        line, indent = window.line, window.indent()
        try:
            yield line, window.value()
        except UserError as fault:
            if indent is None or not window.recover(indent):
                raise
            yield line, fault
            continue
        if window.take(",]") == "]":
            return
        if window.peek() == "]":
            raise window.fault(window.at, "a comma behind the last row")


def _first_object(window: _Window) -> Iterator[tuple[int, Any]]:
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


def _members(window: _Window, line: int) -> Iterator[tuple[int, Any]]:
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
