"""The records of a table one after the other, each with its place; broken ones are passed over."""

from __future__ import annotations

import csv
import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from mlx_lora.data.rows import CHUNK, bad_place, not_read, too_long
from mlx_lora.data.table_dialect import Dialect, make_reader
from mlx_lora.data.table_values import find_values
from mlx_lora.data.text_file import Unpacked, wrap_text
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlx_lora.errors import UserError

_LINE_END = re.compile(r"\r\n|\r|\n")
# lines tried as the next record, records read there to be sure, and characters looked at for them
_TRIED, _SURE, _FAR = 1000, 8, 1 << 20


class Broken(NamedTuple):
    """A record that cannot be read, and the bytes behind it that were not read either."""

    fault: UserError
    unread: int = 0


class Records:
    """Reads a table in bounded memory; the lines of the record at hand can be looked at again.

    Attributes:
        columns: values a record must have, 0 while that is not known.
        line: the line the record at hand begins at.
        position: bytes of the file read so far.
    """

    def __init__(self, path: Path, raw: Unpacked, dialect: Dialect) -> None:
        self._where, self._raw, self._dialect = show(path), raw, dialect
        self._text = wrap_text(raw)
        for _ in range(dialect.skipped):
            self._text.readline()
        self.columns, self.position = 0, 0
        self.line = self._first = dialect.skipped + 1
        # lines read, from `_first` on; those before the record at hand are let go now and then
        self._held: list[str] = []
        self._source = itertools.chain.from_iterable(self._pieces())
        # the lines before the first one that the reader was given
        self._reader, self._before = make_reader(self._source, dialect), dialect.skipped

    def __iter__(self) -> Iterator[list[str] | Broken]:
        reader, before = self._reader, self._before
        while True:
            self.line = before + reader.line_num + 1
            try:
                record = next(reader)
            except csv.Error as error:
                lines = self._lines()
                broken, following = self._broken(lines, str(error))
                yield broken
                if following:
                    # the lines behind are read once more, this time as records of their own
                    again = itertools.chain(lines[following:], self._source)
                    reader = self._reader = make_reader(again, self._dialect)
                    before = self._before = self.line + following - 1
            except StopIteration:
                return
            else:
                yield record

    def uneven(self, record: list[str]) -> UserError:
        """A record of another number of values: where one is too many, or the next is missing."""
        text = "".join(self._lines())
        values = find_values(text, 0, self._dialect)
        many = len(values.starts) > self.columns
        at = values.starts[self.columns] if many else values.end
        shown = "; ".join(cell[:20] for cell in record[:4])
        count = f"{len(record)} value{'s' if len(record) != 1 else ''}"
        columns = f"{self.columns} column{'s' if self.columns != 1 else ''}"
        why = f"this row has {count}, the table has {columns}: {shown!r}"
        fix = "put a value with a separator in it into double quotes, or take the row out"
        return bad_place(self._where, *self._place(text, at), why, fix)

    def place_of_value(self, number: int) -> tuple[str, int, int]:
        """(file, line, column) of a value of the record at hand, counted from 0."""
        text = "".join(self._lines())
        return self._where, *self._place(text, find_values(text, 0, self._dialect).starts[number])

    def _pieces(self) -> Iterator[list[str]]:
        while lines := self._text.readlines(CHUNK):
            del self._held[: self.line - self._first]
            self._first = self.line
            self._held += lines
            self.position = self._raw.position()
            yield lines

    def _lines(self) -> list[str]:
        """Those of the record at hand, as far as the reader has come."""
        last = self._before + self._reader.line_num
        return self._held[self.line - self._first : last - self._first + 1]

    def _place(self, text: str, at: int) -> tuple[int, int]:
        """(line, column) of a place in the text of the record at hand."""
        ends = [end.end() for end in _LINE_END.finditer(text, 0, at)]
        return self.line + len(ends), at - (ends[-1] if ends else 0) + 1

    def _broken(self, lines: list[str], reason: str) -> tuple[Broken, int]:
        """(what is wrong with the record at hand, how many of its lines are passed over).

        The second is 0 where all of them are; `reason` is what the csv module says.
        """
        at_end = "unexpected end" in reason
        following = self._resume(lines, at_end=at_end)
        if not following and not at_end:
            return Broken(self._explain(reason, "".join(lines))), 0
        text = "".join(lines[: following or len(lines)])
        at = max(0, find_values(text, 0, self._dialect).fault)
        left = 0 if following else len("".join(lines[1:]).encode())
        unread, whole = self._raw.left(self._raw.given - left) if left else (0, 0)
        why = f"a double quote opened in this row is never closed{not_read(unread, whole)}"
        fix = 'close it, or write a quote in a value as ""'
        return Broken(bad_place(self._where, *self._place(text, at), why, fix), unread), following

    def _explain(self, reason: str, text: str) -> UserError:
        """What the csv module says, in words."""
        values = find_values(text, 0, self._dialect)
        if "field larger" in reason:
            return too_long(self._where, *self._place(text, values.starts[-1]))
        line, column = self._place(text, max(values.fault, 0))
        if "expected after" in reason:
            why, fix = (
                "a value goes on behind its closing double quote",
                'write a quote in a value as ""',
            )
            return bad_place(self._where, line, column, why, fix)
        return bad_place(self._where, line, column, f"this row cannot be read ({reason})")

    def _resume(self, lines: list[str], *, at_end: bool) -> int:
        """The first of these lines at which records go on; 0 where none is sure to.

        A quote that is not closed swallows the records behind it. Lines inside a long value look
        like records now and then, so those behind must be records too, as a program writes them; in
        a table of one column every line does.
        """
        if self.columns < 2 or len(lines) < 2:  # noqa: PLR2004
            return 0
        text = "".join(lines)
        at = len(lines[0])
        for number, line in enumerate(lines[1 : _TRIED + 1], start=1):
            if line.strip() and self._are_records(text, at, sure=at_end):
                return number
            at += len(line)
        return 0

    def _are_records(self, text: str, at: int, *, sure: bool) -> bool:
        """Whole records stand here, up to the end of the text or as many as are enough.

        The last may go on behind the text; one that does so is not enough where it must be `sure`.
        """
        for number in range(_SURE):
            near = text[at : at + _FAR]
            values = find_values(near, 0, self._dialect)
            if not values.closed:
                return bool(number or not sure) and len(values.starts) <= self.columns
            if not values.are_whole(self.columns):
                return False
            at += values.end
            while text.startswith(("\r", "\n"), at):
                at += 1
            if at >= len(text):
                return True
        return True
