"""Tables (.csv, .tsv): the separator and the header are found; every value is text."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, NamedTuple

from mlx_lora.data.columns import is_field
from mlx_lora.data.rows import LARGEST, Row, bad_place, too_long
from mlx_lora.data.text_file import Unpacked, wrap_text
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def read_table(path: Path, first: int, encoding: str | None, head: bytes) -> Iterator[Row]:
    """The records of a table; `head` are its first bytes. Blank records are none.

    Raises:
        UserError: `bad_data`, where the header cannot be used.
    """
    dialect = find_dialect(head.decode(errors="ignore"), tabs=".tsv" in path.name.lower())
    # the module's own limit is 128 kB a value, and holds for the whole process
    csv.field_size_limit(LARGEST)
    with Unpacked(path, encoding) as raw:
        text = wrap_text(raw)
        for _ in range(dialect.skipped):
            text.readline()
        records = _records(path, text, dialect)
        names: list[str] = []
        if dialect.header:
            names = _header(path, records)
        number = first
        for line, record in records:
            end = raw.position()
            if isinstance(record, UserError):
                yield Row(number, None, False, path.name, line, end, record)
            elif any(map(str.strip, record)):
                names = names or [f"column {n}" for n in range(1, len(record) + 1)]
                if len(record) == len(names):
                    row = dict(zip(names, record, strict=True))
                    yield Row(number, row, False, path.name, line, end)
                else:
                    fault = _ragged(path, line, record, names)
                    yield Row(number, None, False, path.name, line, end, fault)
            else:
                continue
            number += 1


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


def _reader(lines: Iterator[str] | io.TextIOWrapper, dialect: Dialect) -> Iterator[list[str]]:
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
    records = _reader(iter(lines if len(head) < 1 << 16 else lines[:-1]), dialect)
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


def _records(
    path: Path, text: io.TextIOWrapper, dialect: Dialect
) -> Iterator[tuple[int, list[str] | UserError]]:
    """Every record with the line it begins at."""
    counted = dialect.skipped

    def count() -> Iterator[str]:
        nonlocal counted
        for line in text:
            counted += 1
            yield line

    reader = _reader(count(), dialect)
    while True:
        start = counted + 1
        try:
            record = next(reader)
        except csv.Error as error:
            yield start, _fault(path, start, counted, str(error))
        except StopIteration:
            return
        else:
            yield start, record


def _fault(path: Path, start: int, last: int, reason: str) -> UserError:
    """What the csv module says, in words."""
    where = show(path)
    if "field larger" in reason:
        return too_long(where, start)
    if "unexpected end" in reason:
        why = "a double quote opened in this row is never closed"
        return bad_place(where, start, 0, why, 'close it, or write a quote in a value as ""')
    if "expected after" in reason:
        why = "a value goes on behind its closing double quote"
        return bad_place(where, last, 0, why, 'write a quote in a value as ""')
    return bad_place(where, start, 0, f"this row cannot be read ({reason})")


def _ragged(path: Path, line: int, record: list[str], names: list[str]) -> UserError:
    shown = "; ".join(cell[:20] for cell in record[:4])
    count = f"{len(record)} value{'s' if len(record) != 1 else ''}"
    columns = f"{len(names)} column{'s' if len(names) != 1 else ''}"
    why = f"this row has {count}, the table has {columns}: {shown!r}"
    fix = "put a value with a separator in it into double quotes, or take the row out"
    return bad_place(show(path), line, 0, why, fix)


def _header(path: Path, records: Iterator[tuple[int, list[str] | UserError]]) -> list[str]:
    for line, record in records:
        if isinstance(record, UserError):
            raise record
        cells = [cell.strip() for cell in record]
        if not any(cells):
            continue
        names = [cell or f"column {n}" for n, cell in enumerate(cells, start=1)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            why = f"two columns are named {twice}"
            raise bad_place(show(path), line, 0, why, "give every column a name of its own")
        return names
    return []
