"""Parquet, a few rows at a time; nested lists and structs become lists and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlx_lora.data.rows import LARGEST, Row, bad_place
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH = 256
_BUFFER = 1 << 20


def read_parquet(path: Path, first: int) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        UserError: `bad_data`, where it is cut off, damaged, or in a form pyarrow cannot read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    size, number = path.stat().st_size, first
    try:
        # pages as they are needed: whole row groups may be gigabytes
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            total = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=_BATCH):
                end = size * (number - first + batch.num_rows) // total
                yield from _rows(batch, path, number, end)
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).partition("\n")[0][:120]
        why = f"it is cut off, damaged, or no Parquet file ({reason})"
        fix = "download or write it once more"
        raise UserError("bad_data", show(path), why, fix) from error


def _rows(batch: Any, path: Path, number: int, end: int) -> Iterator[Row]:
    try:
        values = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        values = [_row(batch, at) for at in range(batch.num_rows)]
    heavy = batch.nbytes > LARGEST
    for at, value in enumerate(values, start=number):
        fault = None
        if value is None:
            fault = bad_place(f"{path.name} row {at}", 0, 0, "a value of it cannot be read")
        elif heavy and _weight(value) > LARGEST:
            fault = bad_place(
                f"{path.name} row {at}", 0, 0, f"it is longer than {LARGEST >> 20} MB"
            )
        yield Row(at, None if fault else value, False, path.name, 0, end, fault)


def _row(batch: Any, at: int) -> dict[str, Any] | None:
    """One row, None where a text in it is no UTF-8, or a date none of the calendar's."""
    try:
        row: dict[str, Any] = batch.slice(at, 1).to_pylist()[0]
    except (UnicodeDecodeError, ValueError, OverflowError):
        return None
    return row


def _weight(value: dict[str, Any]) -> int:
    return sum(len(part) for part in value.values() if isinstance(part, str | bytes))
