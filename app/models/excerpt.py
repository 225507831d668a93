"""The lines around what is wrong in a file. Reads a file: run it off the window's thread."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.source import LINES, find_source

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from mlx_lora.config import DataConfig

_AROUND, _WIDTH, _MARGIN = 2, 96, 40
# a line beyond it takes too long to come to
_FAR = 1_000_000


class Excerpt(msgspec.Struct, frozen=True):
    """Where something is wrong.

    Attributes:
        column: in characters from 1, 0 where only the line is known.
        lines: (number, text) of the line and its neighbours, each cut to what is seen of it.
        mark: place of the fault in the shown text of its line, -1 where it is not known.
    """

    file: str
    line: int
    column: int
    lines: tuple[tuple[int, str], ...]
    mark: int


def read_excerpt(data: DataConfig, root: Path, where: str) -> Excerpt | None:
    """The text around `where` (`file:7:23`, `file:7`, `file.jsonl row 7`), or None.

    Raises:
        UserError: the source cannot be found any more.
    """
    place = _place(where)
    if place is None:
        return None
    name, line, column, is_row = place
    files = find_source(data, root).files.values()
    path = next((path for paths in files for path in paths if path.name == name), None)
    if path is None or line > _FAR or (is_row and _kind(path) not in LINES):
        return None
    start = max(0, column - 1 - _MARGIN)
    first, last, found = line - _AROUND, line + _AROUND, list[tuple[int, str]]()
    try:
        with _open(path) as file:
            for number, text in enumerate(file, start=1):
                if number > last:
                    break
                if number >= first:
                    found.append((number, _window(text, start if number == line else 0)))
    except (OSError, EOFError, zlib.error):
        return None
    if not any(number == line for number, _ in found):
        return None
    mark = column - 1 - start + (1 if start else 0) if column else -1
    return Excerpt(path.name, line, column, tuple(found), mark)


def _kind(path: Path) -> str:
    """The ending, of a packed file that of what is in it."""
    return path.with_suffix("").suffix.lower() if _is_packed(path) else path.suffix.lower()


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _open(path: Path) -> IO[str]:
    if _is_packed(path):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace")
    return path.open(encoding="utf-8-sig", errors="replace")


def _place(where: str) -> tuple[str, int, int, bool] | None:
    """(file name, line, column, whether the line is a row's number)."""
    if match := re.search(r"([^/\\]+?):(\d+)(?::(\d+))?$", where):
        return match[1], int(match[2]), int(match[3] or 0), False
    if match := re.search(r"([^/\\,]+) row (\d+)$", where):
        return match[1], int(match[2]), 0, True
    return None


def _window(text: str, start: int) -> str:
    """What is seen of a line, on one line."""
    line = text.rstrip("\r\n").replace("\t", " ")
    shown = ("\u2026" if start else "") + line[start : start + _WIDTH]
    return shown + ("\u2026" if len(line) > start + _WIDTH else "")
