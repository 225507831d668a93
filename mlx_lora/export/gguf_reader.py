"""GGUF read by our own few lines, so that the check of a file does not rest on what wrote it.

Format: magic, version 3, counts, key-value pairs, tensor table, data aligned to 32 bytes (the GGUF
specification in llama.cpp's ggml/docs).
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
# GGUF's value types -> struct's letters
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


class FoundTensor(msgspec.Struct, frozen=True):
    """A tensor in the table of a file; `shape` rows first, `offset` from the file's beginning."""

    kind: int
    shape: tuple[int, ...]
    offset: int


class Content(msgspec.Struct, frozen=True):
    """What a file says it holds: key -> (value type, value), and tensors in their order."""

    fields: dict[str, tuple[int, Any]]
    tensors: dict[str, FoundTensor]


def read_gguf(path: Path) -> Content:
    """Fields and tensor table of a file.

    Raises:
        ValueError, LookupError, struct.error: it is no whole GGUF file of version 3.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data)
        magic, version, tensor_count, field_count = cursor.take("4sIQQ")
        if magic != b"GGUF" or version != 3:  # noqa: PLR2004
            raise ValueError("no GGUF file of version 3")
        fields: dict[str, tuple[int, Any]] = {}
        for _ in range(field_count):
            key, (kind,) = cursor.string(), cursor.take("I")
            if key in fields:
                raise ValueError(f"{key} is there twice")
            fields[key] = (kind, cursor.value(kind))
        table = [_entry(cursor) for _ in range(tensor_count)]
        begin = math.ceil(cursor.at / _ALIGNMENT) * _ALIGNMENT
        tensors = {
            name: msgspec.structs.replace(found, offset=begin + found.offset)
            for name, found in table
        }
        if any(found.offset > len(data) for found in tensors.values()):
            raise ValueError("a tensor lies beyond the end")
    if len(tensors) != len(table):
        raise ValueError("a tensor is there twice")
    return Content(fields, tensors)


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.at = data, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def string(self) -> str:
        (length,) = self.take("Q")
        end = self.at + length
        if end > len(self._data):
            raise ValueError("a text reaches beyond the end")
        raw, self.at = self._data[self.at : end], end
        return raw.decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])[0]
        item, count = self.take("IQ")
        if item == _STRING:
            return [self.string() for _ in range(count)]
        return list(self.take(f"{count}{_SCALARS[item]}"))


def _entry(cursor: _Cursor) -> tuple[str, FoundTensor]:
    name, (rank,) = cursor.string(), cursor.take("I")
    extents = cursor.take(f"{rank}Q")
    kind, offset = cursor.take("IQ")
    return name, FoundTensor(kind, tuple(reversed(extents)), offset)
