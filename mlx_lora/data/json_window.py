"""A window on the text of a JSON file: values are taken from it, the rest is let go.

A file of any size so needs no more memory than its longest row.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.json_lines import around, json_reason
from mlx_lora.data.json_resume import Shape, next_row
from mlx_lora.data.rows import CHUNK, DEEPEST, LARGEST, bad_place, is_deep
from mlx_lora.data.text_file import Unpacked, wrap_text
from mlx_lora.storage import show

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path

    from mlx_lora.errors import UserError

_BLANK = re.compile(r"[ \t\n\r]*")
# the last characters of a window may be half of something; no row begins further in its line
EDGE = 16
# characters looked at for the row behind a broken one, at first
_NEAR = 1 << 16
# characters around a fault that may be shown with it
_SHOWN = 64


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_constant)


class Window:
    """A part of the text, and where in the file it lies."""

    def __init__(self, path: Path, raw: Unpacked) -> None:
        self._path, self._text = path, wrap_text(raw, newline=None)
        self.buffer, self.at, self._ended = "", 0, False
        # the line of `at`, and the place in the buffer it begins at (negative: before the buffer)
        self.line, self._line_start = 1, 0
        # where in the buffer the last fault is; bytes of text read into it
        self._fault_at, self._read = 0, 0

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
                value, end = DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                inside = error.msg.startswith("Unterminated")
                if not inside and error.pos < len(self.buffer) - EDGE:
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
            value, end = DECODER.raw_decode(self.buffer, self.at)
        except (ValueError, RecursionError):
            return None, False
        return value, end < len(self.buffer) or not self._fill()

    def indent(self) -> str | None:
        """The blanks before what stands here, None where it does not begin a line."""
        if self.line == 1 or not 0 <= self._line_start >= self.at - EDGE:
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
            if not self._hold(len(self.buffer) - self.at + 1):
                return False

    def resume(self, indent: str | None, last: object) -> bool:
        """Go on at the row behind a broken one, or at the end of their array, where that is sure.

        `indent` is that of the broken row, `last` the row before, if there was one. What is looked
        at does not depend on how much of the file happens to be here.
        """
        if indent is not None and self.recover(indent):
            return True
        shape, reach = Shape.of(last, self.buffer, self.at), _NEAR
        while True:
            whole = not self._hold(reach + 1)
            found = next_row(self.buffer[self.at : self.at + reach], shape, whole=whole)
            if found is not None:
                self._move(self.at + found)
                return True
            if whole or reach > LARGEST:
                return False
            reach *= 4

    def used(self) -> int:
        """Bytes of text up to the last fault; 0 where nothing stands behind it."""
        if not self.buffer[self._fault_at :].strip() and not self._fill():
            return 0
        return self._read - _size(self.buffer[self._fault_at :], self._text)

    def fault(self, at: int, reason: str) -> UserError:
        """What is wrong at a place of the buffer."""
        inside = at - self.at
        self._hold(inside + _SHOWN)
        text, at = self.buffer, self.at + inside
        self._fault_at = at
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

    def _hold(self, size: int) -> bool:
        """So many characters of what is not read yet are here; False where there are no more."""
        while (held := len(self.buffer) - self.at) < size:
            if held > LARGEST or not self._fill(held):
                return False
        return True

    def _fill(self, size: int = 0) -> bool:
        """Let go of what was read, and read on."""
        piece = "" if self._ended else self._text.read(max(size, CHUNK))
        self._ended = not piece
        if piece:
            # what stands before a row tells where the next one begins, and is shown with a fault
            gone = max(0, self.at - _SHOWN)
            self.buffer = self.buffer[gone:] + piece
            self._line_start -= gone
            self.at -= gone
            self._fault_at -= gone
            self._read += _size(piece, self._text)
        return bool(piece)

    def _move(self, to: int) -> None:
        lines = self.buffer.count("\n", self.at, to)
        if lines:
            self.line += lines
            self._line_start = self.buffer.rfind("\n", self.at, to) + 1
        self.at = to


def _size(text: str, file: TextIOWrapper) -> int:
    """Bytes of a text as the file has it; line ends of two characters are read as one."""
    size = len(text) if text.isascii() else len(text.encode())
    return size + text.count("\n") if file.newlines == "\r\n" else size


def _words(message: str) -> str:
    """Python's reasons, as a person reads them."""
    return message.partition(" (")[0].removesuffix(" at").lower()
