"""Tables (.csv, .tsv): the separator and the header are found; every value is text."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from mlx_lora.data.rows import LARGEST, Row, bad_place
from mlx_lora.data.table_dialect import find_dialect
from mlx_lora.data.table_records import Broken, Records
from mlx_lora.data.text_file import Unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_table(path: Path, first: int, encoding: str | None, head: bytes) -> Iterator[Row]:
    """The records of a table; `head` are its first bytes. Blank records are none.

    Raises:
        UserError: `bad_data`, where the header cannot be used.
    """
    dialect = find_dialect(head.decode(errors="ignore"), tabs=".tsv" in path.name.lower())
    # the module's own limit is 128 kB a value, and holds for the whole process
    csv.field_size_limit(LARGEST)
    with Unpacked(path, encoding) as raw:
        table = Records(path, raw, dialect)
        records = iter(table)
        names = _header(table, records) if dialect.header else []
        table.columns = len(names)
        name, number = path.name, first
        for record in records:
            line, end = table.line, table.position
            if isinstance(record, Broken):
                yield Row(number, None, False, name, line, end, record.fault, 1, record.unread)
            elif any(map(str.strip, record)):
                if not names:
                    names = [f"column {n}" for n in range(1, len(record) + 1)]
                    table.columns = len(names)
                if len(record) == len(names):
                    row = dict(zip(names, record, strict=True))
                    yield Row(number, row, False, name, line, end, None, 1)
                else:
                    fault = table.uneven(record)
                    yield Row(number, None, False, name, line, end, fault, 1)
            else:
                continue
            number += 1


def _header(table: Records, records: Iterator[list[str] | Broken]) -> list[str]:
    for record in records:
        if isinstance(record, Broken):
            raise record.fault
        cells = [cell.strip() for cell in record]
        if not any(cells):
            continue
        names = [cell or f"column {n}" for n, cell in enumerate(cells, start=1)]
        for at, name in enumerate(names):
            if name in names[:at]:
                place = table.place_of_value(at)
                raise bad_place(
                    *place, f"two columns are named {name}", "give every column a name of its own"
                )
        return names
    return []
