"""Files to rows, one after the other, in bounded memory. The source is never altered.

Plain text (.txt, .md) is one document a file; .jsonl is one row a line; .json is an array of rows.
UTF-8 with or without a byte-order mark, any line ends, blank lines: all fine. A row that cannot be
read is a `Row` with a fault, and the rows after it are read all the same; a file that cannot be
read is refused with line and column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.source import LINES, TEXT
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINE_END = re.compile(r"\r\n|\n|\r")


class Row(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        number: counts on over the files of a split: a line of JSON lines, a record of a table, a
            place in an array, a text file.
        value: what it holds; of a document its text; None where it has a fault.
        document: it is a whole text file.
        file: name of its file.
        line: the line it begins at, 0 where that is not known.
        end: bytes of the file read so far, to tell how far a reading is.
        fault: what is wrong with it, where it cannot be read.
    """

    number: int
    value: Any
    document: bool = False
    file: str = ""
    line: int = 0
    end: int = 0
    fault: UserError | None = None


def read_rows(path: Path, *, first: int = 1, may_be_empty: bool = False) -> Iterator[Row]:
    """The rows of one file, numbered from `first`.

    Raises:
        UserError: `bad_data` with line and column, where the file itself cannot be read.
    """
    text = _read_text(path)
    size, rows = len(text), 0
    if not text.strip():
        pass
    elif path.suffix.lower() in TEXT:
        rows = 1
        yield Row(first, text, document=True, file=path.name, line=1, end=size)
    elif path.suffix.lower() in LINES:
        for number, line in enumerate(_LINE_END.split(text), start=1):
            if line.strip():
                rows += 1
                yield _parse(path, line, number, first + number - 1)
    else:
        for rows, value in enumerate(_read_array(path, text), start=1):
            yield Row(first + rows - 1, value, file=path.name)
    if not rows and not may_be_empty:
        raise UserError("bad_data", show(path), "it is empty", "choose a file with text in it")


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            "bad_data", show(path), f"it cannot be read ({reason})", "check the file"
        ) from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError("bad_data", show(path), "it is UTF-16 text", "save it as UTF-8")
    if b"\x00" in raw:
        raise UserError(
            "bad_data", show(path), "it holds zero bytes, so it is no text", "choose a text file"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(raw[: error.start].decode("latin-1"))) + 1
        where = f"{show(path)}:{line}"
        raise UserError(
            "bad_data", where, "it is not UTF-8 text", "save the file as UTF-8"
        ) from error


def _parse(path: Path, line: str, at: int, number: int) -> Row:
    try:
        return Row(number, msgspec.json.decode(line), file=path.name, line=at)
    except (msgspec.DecodeError, RecursionError) as error:
        column, reason = _column(error, line)
        where = f"{show(path)}:{at}:{column}"
        around = line[max(0, column - 20) : column + 20].strip()
        why = f"this line is no valid JSON ({reason}): {around!r}"
        fault = UserError("bad_data", where, why, "correct this line or take it out")
        return Row(number, None, file=path.name, line=at, fault=fault)


def _read_array(path: Path, text: str) -> list[Any]:
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        at, reason = _column(error, text)
        before = text[: at - 1]
        line, column = len(_LINE_END.findall(before)) + 1, len(_LINE_END.split(before)[-1]) + 1
        where = f"{show(path)}:{line}:{column}"
        raise UserError(
            "bad_data", where, f"it is no valid JSON ({reason})", "correct the file there"
        ) from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise UserError(
            "bad_data", show(path), "it is no list of rows", "make it an array of objects"
        )
    return content


def _column(error: Exception, text: str) -> tuple[int, str]:
    """Where a decoder stopped, counted in characters from 1, and its reason."""
    if isinstance(error, RecursionError):
        return 1, "it is nested too deeply"
    message = str(error)
    found = re.search(r"\(byte (\d+)\)", message)
    if found is None:
        return len(text) + 1, "it ends too early"
    start = len(text.encode()[: int(found[1])].decode(errors="ignore")) + 1
    return start, message[: found.start()].strip().removeprefix("JSON is malformed: ")
