"""Files to rows. The source is never altered.

Plain text (.txt, .md) is one document a file; .jsonl is one row a line; .json is an array of rows.
UTF-8 with or without a byte-order mark, any line ends, blank lines: all fine. Anything else is
refused with line and column.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from mlx_lora.data.shakespeare import find_shakespeare
from mlx_lora.errors import UserError
from mlx_lora.models.library import assets
from mlx_lora.storage import digest, expanded, show

TEXT, LINES, ARRAY = {".txt", ".md"}, {".jsonl", ".ndjson"}, {".json"}
_KNOWN = TEXT | LINES | ARRAY
_LINE_END = re.compile(r"\r\n|\n|\r")
_SPLITS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}


class Row(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        number: its line, its place in an array, or 1 for a text file.
        document: it is a whole text file.
    """

    number: int
    value: Any
    document: bool = False


class Source(msgspec.Struct, frozen=True):
    """The files behind DATA, by the split a folder names them for."""

    name: str
    files: dict[str, Path]

    def stamp(self) -> str:
        """Sizes and times of all files: another stamp means that something was written to them."""
        files = {split: path.stat() for split, path in sorted(self.files.items())}
        return " ".join(f"{s}:{found.st_size}:{found.st_mtime_ns}" for s, found in files.items())

    def sha256(self) -> str:
        """One hash over all files."""
        joined = "".join(f"{split}={digest(path)}\n" for split, path in sorted(self.files.items()))
        return hashlib.sha256(joined.encode()).hexdigest()


def find_source(source: str, root: Path) -> Source:
    """The files DATA names; `root` is the data root, where a downloaded set is kept.

    Raises:
        UserError: `no_such_data`, `bad_data`, `network`.
    """
    if source == "demo":
        return Source("demo", {"train": assets() / "demo" / "shakespeare.txt"})
    if source == "tiny-shakespeare":
        return Source(source, {"train": find_shakespeare(root)})
    path = expanded(source)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # a name no file system takes
        is_folder = is_file = False
    if is_folder:
        return Source(path.resolve().name, _folder_files(path))
    if not is_file:
        fix = "name a file, a folder with train and valid files, tiny-shakespeare, or demo"
        raise UserError("no_such_data", source, "there is no such file or folder", fix)
    _check_kind(path)
    return Source(path.stem, {"train": path})


def read_rows(path: Path, *, may_be_empty: bool = False) -> list[Row]:
    """All rows of one file.

    Raises:
        UserError: `bad_data` with line and column.
    """
    text = _read_text(path)
    if not text.strip():
        rows = []
    elif path.suffix.lower() in TEXT:
        rows = [Row(1, text, document=True)]
    elif path.suffix.lower() in LINES:
        lines = enumerate(_LINE_END.split(text), start=1)
        rows = [Row(number, _parse(path, line, number)) for number, line in lines if line.strip()]
    else:
        rows = [Row(number, value) for number, value in enumerate(_read_array(path, text), start=1)]
    if not rows and not may_be_empty:
        raise UserError("bad_data", show(path), "it is empty", "choose a file with text in it")
    return rows


def _folder_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
        raise UserError("bad_data", show(folder), why, "check the folder") from error
    for path in listed:
        split = _SPLITS.get(path.stem.lower())
        if split and path.suffix.lower() in _KNOWN and path.is_file():
            if split in files:
                why = f"{files[split].name} and {path.name} both name the {split} rows"
                raise UserError("bad_data", show(folder), why, "keep one of them")
            files[split] = path
    if "train" not in files:
        fix = "put a train.jsonl, train.json or train.txt into it, or name one file"
        raise UserError("no_such_data", show(folder), "it holds no train file", fix)
    return files


def _check_kind(path: Path) -> None:
    if path.suffix.lower() not in _KNOWN:
        known = ", ".join(sorted(_KNOWN))
        raise UserError(
            "bad_data", show(path), "this kind of file is not understood", f"use one of {known}"
        )


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


def _parse(path: Path, line: str, number: int) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        column, reason = _column(error, line)
        where = f"{show(path)}:{number}:{column}"
        around = line[max(0, column - 20) : column + 20].strip()
        why = f"this line is no valid JSON ({reason}): {around!r}"
        raise UserError("bad_data", where, why, "correct this line or take it out") from error


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
