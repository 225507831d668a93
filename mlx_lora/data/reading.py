"""Files to rows, one after the other, in bounded memory. The source is never altered.

Plain text (.txt, .md) is one document a file; .jsonl is one row a line; .json is an array of rows,
an object with one, or rows one after the other; .csv and .tsv are tables; all of them may be packed
with gzip; .parquet is read with pyarrow. UTF-8 with or without a byte-order mark, any line ends,
blank lines: all fine. A row that cannot be read is a `Row` with a fault, and the rows after it are
read all the same; a file that cannot be read is refused with line and column.
"""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_lora.data.encodings import check_head, explain_encoding, guess_encoding
from mlx_lora.data.file_kinds import check_kind
from mlx_lora.data.json_lines import read_json_lines
from mlx_lora.data.json_values import are_lines, read_json_values
from mlx_lora.data.parquet_file import read_parquet
from mlx_lora.data.rows import CHUNK, Row
from mlx_lora.data.table_file import read_table
from mlx_lora.data.text_file import open_text, read_documents, read_head
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Row", "guess_encoding", "open_text", "read_rows"]

# enough to tell what a file is; JSON may need more of it
_HEAD = 1 << 16


def read_rows(
    path: Path, *, first: int = 1, may_be_empty: bool = False, encoding: str | None = None
) -> Iterator[Row]:
    """The rows of one file, numbered from `first`.

    Args:
        path: the file.
        first: number of its first row (of its first line, where a line is a row).
        may_be_empty: a file without rows is no error.
        encoding: what it is written in, where that is not UTF-8.

    Raises:
        UserError: `bad_data` with line and column, where the file itself cannot be read.
    """
    found = False
    with _reading_errors(path, encoding):
        for row in _rows(path, first, encoding):
            found = True
            yield row
    if not found and not may_be_empty:
        raise UserError("bad_data", show(path), "it is empty", "choose a file with text in it")


def _rows(path: Path, first: int, encoding: str | None) -> Iterator[Row]:
    head = read_head(path, _HEAD, encoding)
    if not head.strip():
        return iter(())
    kind = check_kind(path, head)
    if kind == "parquet":
        return read_parquet(path, first)
    check_head(path, head, by_line=kind == "lines")
    if kind == "text":
        return read_documents(path, first, encoding)
    if kind == "table":
        return read_table(path, first, encoding, head)
    if len(head) == _HEAD and not head.lstrip().startswith(b"["):
        head = read_head(path, CHUNK, encoding)
    beginning = head.decode(errors="replace")
    if are_lines(beginning, whole=len(head) < _HEAD, named=kind == "lines"):
        return read_json_lines(path, first, encoding)
    return read_json_values(path, first, encoding)


@contextmanager
def _reading_errors(path: Path, encoding: str | None) -> Iterator[None]:
    """What the disk, gzip and the decoding of text refuse, in words."""
    try:
        yield
    except UnicodeDecodeError as error:
        fault = explain_encoding(path, encoding)
        if fault is None:
            why, fix = "some of its bytes are no UTF-8 text", "save it as UTF-8"
            fault = UserError("bad_data", show(path), why, fix)
        raise fault from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        cut = isinstance(error, EOFError)
        why = f"the gzip file is {'cut off' if cut else 'damaged'}"
        raise UserError("bad_data", show(path), why, "download or pack it once more") from error
    except OSError as error:
        reason = error.strerror or str(error)
        why = f"it cannot be read ({reason})"
        raise UserError("bad_data", show(path), why, "check the file") from error
