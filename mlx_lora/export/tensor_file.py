"""safetensors written tensor by tensor: the table of contents first, then each as it is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import mlx.core as mx
import msgspec
import numpy as np

from mlx_lora.models.tensor_pieces import TYPES, bytes_of
from mlx_lora.models.tensors import WIDTHS, read_header

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class Part(msgspec.Struct, frozen=True):
    """A tensor of a file: name, type as safetensors calls it, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return int(np.prod(self.shape)) * WIDTHS[self.dtype]


class Group(msgspec.Struct, frozen=True):
    """Tensors that are made together: a packed weight with its scales and biases, or one alone."""

    parts: list[Part]
    make: Callable[[], list[mx.array]]
    bits: int = 0
    group_size: int = 0


def write(
    path: Path, groups: list[Group], made_for: str = "pt"
) -> Generator[tuple[int, int], None, dict[str, tuple[str, str]]]:
    """Write a file and flush it to the disk; yields (groups done, of how many).

    Returns:
        What was written: name -> (type, SHA-256 of the bytes).
    """
    written: dict[str, tuple[str, str]] = {}
    header: dict[str, object] = {"__metadata__": {"format": made_for}}
    at = 0
    for part in (part for group in groups for part in group.parts):
        span = [at, at + part.nbytes]
        header[part.name] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": span}
        at = span[1]
    table = msgspec.json.encode(header)
    table += b" " * (-len(table) % 8)
    with path.open("wb") as file:
        file.write(len(table).to_bytes(8, "little") + table)
        for done, group in enumerate(groups):
            yield done, len(groups)
            for part, tensor in zip(group.parts, group.make(), strict=True):
                if TYPES[tensor.dtype] != part.dtype or tensor.shape != part.shape:
                    raise ValueError(f"{part.name} is {tensor.dtype} {tensor.shape}")
                raw = bytes_of(tensor)
                file.write(raw)
                written[part.name] = (part.dtype, hashlib.sha256(raw).hexdigest())
        file.flush()
        os.fsync(file.fileno())
    return written


def read_back(
    path: Path, written: dict[str, tuple[str, str]]
) -> Generator[tuple[int, int], None, str]:
    """Compare a file with what was written; returns the first name that differs, or ""."""
    found = read_header(path)
    if found.keys() != written.keys():
        return min(found.keys() ^ written.keys())
    with path.open("rb") as file:
        for done, (name, info) in enumerate(found.items()):
            yield done, len(found)
            file.seek(info.start)
            content = file.read(info.end - info.start)
            if written[name] != (info.dtype, hashlib.sha256(content).hexdigest()):
                return name
    return ""


def nbytes(groups: list[Group]) -> int:
    """Bytes of all tensors."""
    return sum(part.nbytes for group in groups for part in group.parts)
