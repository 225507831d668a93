"""Where an array of rows goes on behind a row that is no valid JSON, as far as that is sure.

Brackets that match tell where the broken row ends, unless a quote is missing or too many: then what
is text and what is not has changed sides. So the next row must also read as one: an object with
most fields of the row before the broken one, and behind it a comma and an object, or the end.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import NamedTuple

# a text, or a bracket; a text that does not end is neither
_SIGNS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]', re.DOTALL)
_BETWEEN = re.compile(r",\s*+(?=\{)")
_FIELD = re.compile(r'\{\s*+("(?:[^"\\]++|\\.)*+")\s*+:', re.DOTALL)
_FOLLOWED = re.compile(r"\s*+,\s*+(?=\{)")
_ENDED = re.compile(r"\s*+(?=\])")
_END = re.compile(r"\}\s*+(\])\s*+\Z")
_LAST = re.compile(r"\s*+\](?:\s*+[,}]|\s*+\Z)")
_DECODER = json.JSONDecoder()
# places tried as the next row
_TRIED = 10_000


class Shape(NamedTuple):
    """What tells a row from an object inside one.

    Attributes:
        names: the fields of the row before the broken one; none where there was no such row.
        first: the field the broken one begins with, as it is written; empty where it is not known.
    """

    names: frozenset[str]
    first: str

    @classmethod
    def of(cls, last: object, broken: str, at: int) -> Shape:
        """That of the rows of an array: `last` is the one before, the broken one begins at `at`."""
        found = _FIELD.match(broken, at)
        return cls(frozenset(last if isinstance(last, dict) else ()), found[1] if found else "")

    @property
    def is_known(self) -> bool:
        """Something is known of it."""
        return bool(self.names or self.first)

    def fits(self, value: dict[str, object], text: str, at: int) -> bool:
        """Whether an object that stands at a place of a text is such a row."""
        if self.names:
            return 2 * len(self.names & value.keys()) > len(self.names)
        found = _FIELD.match(text, at)
        return not self.first or (found is not None and found[1] == self.first)


def next_row(text: str, shape: Shape, *, whole: bool) -> int | None:
    """The place in a text that begins with a broken row at which its array goes on.

    Args:
        text: the row, and as much of what stands behind it as there is.
        shape: what rows look like.
        whole: the text goes up to the end of the file.

    Returns:
        The place of the next row, or of the bracket that ends the array; None where it is not sure.
    """
    close, rows = _behind(text), False
    for found in itertools.islice(_BETWEEN.finditer(text), _TRIED):
        at = found.end()
        if close is not None and close <= at:
            break
        if _goes_on(text, at, shape, close, whole=whole):
            return at
        rows = rows or _row_end(text, at, shape) is not None
    if close is None:
        # no row stands behind it, so it is the last one
        end = _END.search(text) if whole and shape.is_known and not rows else None
        return end.start(1) if end else None
    if text[close] == "]":
        return close if whole and _LAST.match(text, close) else None
    return close if _row_end(text, close, shape) else None


def _behind(text: str) -> int | None:
    """The place behind the row and its comma where brackets match, or that of the array's end."""
    depth = 0
    for sign in _SIGNS.finditer(text):
        if sign[0] == '"':
            return None
        depth += (sign[0] in {"{", "["}) - (sign[0] in {"}", "]"})
        if depth <= 0 and sign[0] == "}":
            found = _FOLLOWED.match(text, sign.end()) or _ENDED.match(text, sign.end())
            return found.end() if found else None
        if depth < 0:
            return None
    return None


def _row_end(text: str, at: int, shape: Shape) -> int | None:
    """Where a row that begins here ends; None where it is none."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return end if isinstance(value, dict) and shape.fits(value, text, at) else None


def _goes_on(text: str, at: int, shape: Shape, close: int | None, *, whole: bool) -> bool:
    """Rows stand here; where matching brackets give a place too, row by row up to that."""
    while (end := _row_end(text, at, shape)) is not None:
        following = _FOLLOWED.match(text, end)
        if close is None:
            last = whole and re.match(r"\s*+\]\s*+\Z", text[end:])
            return shape.is_known and bool(following or last)
        if following is None:
            ended = _ENDED.match(text, end)
            return ended is not None and ended.end() == close
        at = following.end()
        if at >= close:
            return at == close
    return False
