"""Where in the text of a record its values begin: read once more, only where something is wrong."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlx_lora.data.table_dialect import Dialect


class Values(NamedTuple):
    """A record, as its text has it; all places are offsets in that text.

    Attributes:
        starts: where each value begins.
        end: where the record ends, before its line end.
        fault: where a quote opens that is never closed, or where a value goes on behind its closing
            quote; -1 where there is no such place.
        closed: every quote that opens is closed.
        plain: no value that is not in quotes has one in it.
    """

    starts: list[int]
    end: int
    fault: int
    closed: bool
    plain: bool

    def are_whole(self, columns: int) -> bool:
        """A record as a program writes it, with so many values."""
        return self.fault < 0 and self.plain and len(self.starts) == columns


def find_values(text: str, at: int, dialect: Dialect) -> Values:
    """The values of the record that begins at a place of a text, by the rules of Python's csv."""
    quoted, bare = _patterns(dialect.separator, dialect.escape or "")
    starts, plain = list[int](), True
    while True:
        while dialect.spaced and text.startswith(" ", at):
            at += 1
        starts.append(at)
        is_quoted = text.startswith('"', at)
        found = (quoted if is_quoted else bare).match(text, at)
        end = found.end() if found else at
        if is_quoted:
            if end == len(text):
                return Values(starts, end, at, closed=False, plain=plain)
            end += 1
        else:
            plain = plain and '"' not in text[at:end]
        if text.startswith(dialect.separator, end):
            at = end + len(dialect.separator)
        elif end == len(text) or text[end] in "\r\n":
            return Values(starts, end, -1, closed=True, plain=plain)
        else:
            return Values(starts, end, end, closed=True, plain=plain)


@functools.lru_cache(maxsize=8)
def _patterns(separator: str, escape: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What a value is: from its opening quote up to its closing one; without quotes."""
    sign, skip = re.escape(separator), re.escape(escape)
    more = f"|{skip}." if escape else ""
    quoted = f'"(?:[^"{skip}]++|""{more})*+'
    bare = f"(?:[^{sign}{skip}\r\n]++{more})*+"
    return re.compile(quoted, re.DOTALL), re.compile(bare, re.DOTALL)
