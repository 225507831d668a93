"""How a table is written, found from its beginning: separator, header, quotes."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, NamedTuple

from mlx_lora.data.columns import is_field

if TYPE_CHECKING:
    from _csv import Reader as CsvReader
    from collections.abc import Iterable

_SEPARATORS = (",", ";", "\t", "|")
# parts no text: a table of one column
_NONE = "\x1f"
_SAMPLE_ROWS = 200
# a name of a column: no sentence, no number
_NAME = re.compile(r"[^\W\d][\w .:/()#&'-]{0,59}")
_NAMED = re.compile(r"sep=([,;|\t])\r?\n", re.IGNORECASE)


class Dialect(NamedTuple):
    """How a table is written.

    Attributes:
        header: the first record names the columns.
        skipped: lines before the first record (`sep=;`).
    """

    separator: str
    header: bool
    spaced: bool = False
    escape: str | None = None
    skipped: int = 0


def find_dialect(head: str, *, tabs: bool = False) -> Dialect:
    """How a table is written, by its beginning."""
    head = head.removeprefix("\ufeff")
    named = _NAMED.match(head)
    if named:
        head = head[named.end() :]
    order = ("\t", ",", ";", "|") if tabs else _SEPARATORS
    choices = (named[1],) if named else order
    found = max(choices, key=lambda sign: _fit(_sample(head, Dialect(sign, header=True))))
    if not named and _fit(_sample(head, Dialect(found, header=True)))[0] == 0:
        found = _NONE
    spaced = f'{found} "' in head
    dialect = Dialect(found, header=True, spaced=spaced, skipped=int(bool(named)))
    if '\\"' in head and _fit(_sample(head, dialect)) < _fit(
        _sample(head, escaped := dialect._replace(escape="\\"))
    ):
        dialect = escaped
    return dialect._replace(header=_has_header(_sample(head, dialect)))


def make_reader(lines: Iterable[str], dialect: Dialect) -> CsvReader:
    """Python's own reader of such a table; a quote out of place is an error."""
    return csv.reader(
        lines,
        delimiter=dialect.separator,
        escapechar=dialect.escape,
        skipinitialspace=dialect.spaced,
        strict=True,
    )


def _sample(head: str, dialect: Dialect) -> list[list[str]]:
    """The first records; the last one of the beginning may be half, and is left out."""
    lines = io.StringIO(head, newline="").readlines()
    found: list[list[str]] = []
    records = make_reader(iter(lines if len(head) < 1 << 16 else lines[:-1]), dialect)
    while len(found) < _SAMPLE_ROWS:
        try:
            found.append(next(records))
        except csv.Error:
            found.append([])
        except StopIteration:
            break
    return found


def _fit(records: list[list[str]]) -> tuple[float, int]:
    """(share of the records with as many values as the first, how many those are)."""
    wide = [len(record) for record in records if len(record) != 0]
    broken = sum(len(record) == 0 for record in records)
    if not wide or wide[0] == 1:
        return 0, 0
    return wide.count(wide[0]) / (len(wide) + broken), wide[0]


def _has_header(records: list[list[str]]) -> bool:
    """The first record names columns: it has words the others do not have, and no sentences."""
    rows = [record for record in records if any(map(str.strip, record))]
    if not rows:
        return False
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    if any(is_field(cell) for cell in first):
        return True
    if not all(_NAME.fullmatch(cell) or not cell for cell in first) or not any(first):
        return False
    seen = {cell.strip() for record in rest for cell in record}
    return bool(rest) and not seen.intersection(cell for cell in first if cell)
