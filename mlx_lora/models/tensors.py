"""safetensors files, read as foreign input: every header is checked before a tensor is.

Format: 8 bytes little-endian header length, JSON header, data. The format forbids overlapping or
missing ranges.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.storage import show

WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2,
    "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000


class TensorInfo(msgspec.Struct, frozen=True):
    """Where a tensor is: bytes `start` to `end` of `path`."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, as its index names them.

    Raises:
        UserError: `no_weights`, or `missing_shard` with the name of the file that is not there.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        files = sorted(folder.glob("model*.safetensors")) or sorted(
            folder.glob("weights*.safetensors")
        )
        if not files:
            raise _no_weights(folder)
        return files
    try:
        names = sorted(set(msgspec.json.decode(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(index, "it is no index of safetensors files") from error
    if not names:
        raise _damaged(index, "it names no file")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise _damaged(index, "it names a file outside the model's folder")
        if not (folder / name).is_file():
            fix = "download this file again"
            raise UserError(
                "missing_shard", show(folder / name), "a part of the model is missing", fix
            )
    return [folder / name for name in names]


def read_headers(files: list[Path]) -> dict[str, TensorInfo]:
    """Every tensor of the files by name.

    Raises:
        UserError: `damaged_model`, saying what the file really is where that can be told.
    """
    tensors: dict[str, TensorInfo] = {}
    for path in files:
        for name, info in read_header(path).items():
            if name in tensors:
                raise _damaged(path, f"{name} is in two files")
            tensors[name] = info
    return tensors


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file, ranges and sizes checked."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > min(size - 8, _LONGEST_HEADER):  # noqa: PLR2004
            raise _damaged(path, _what_it_is(path))
        raw = file.read(length)
    try:
        header = msgspec.json.decode(raw)
        header.pop("__metadata__", None)
        infos = {name: _info(path, entry, 8 + length) for name, entry in header.items()}
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _damaged(path, "its table of contents cannot be read") from error
    _check_ranges(path, infos, 8 + length, size)
    return infos


def read_metadata(path: Path) -> dict[str, str]:
    """The free text pairs in a safetensors header; empty where there are none."""
    read_header(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        metadata = msgspec.json.decode(file.read(length)).get("__metadata__") or {}
    if not isinstance(metadata, dict):
        raise _damaged(path, "its notes are no names with texts")
    return {str(key): str(value) for key, value in metadata.items()}


def _info(path: Path, entry: dict[str, Any], offset: int) -> TensorInfo:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(isinstance(n, int) and n >= 0 for n in (start, end, *shape)):
        raise ValueError(shape)
    if entry["dtype"] not in WIDTHS:
        raise ValueError(entry["dtype"])
    if end - start != math.prod(shape) * WIDTHS[entry["dtype"]]:
        raise ValueError(shape)
    return TensorInfo(path, entry["dtype"], shape, offset + start, offset + end)


def _check_ranges(path: Path, infos: dict[str, TensorInfo], begin: int, size: int) -> None:
    at = begin
    for info in sorted(infos.values(), key=lambda i: (i.start, i.end)):
        if info.start != at:
            raise _damaged(path, "its tensors overlap or leave gaps")
        at = info.end
    if at > size:
        raise _damaged(path, f"it is cut short: {size:,} of {at:,} bytes are there")


def disguise(path: Path) -> Literal["", "pointer", "web_page"]:
    """What often lies where a file should be: a Git LFS pointer or a web page; "" for neither."""
    with path.open("rb") as file:
        begin = file.read(64).lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        return "pointer"
    return "web_page" if begin.startswith((b"<!doctype", b"<html")) else ""


def _what_it_is(path: Path) -> str:
    found = disguise(path)
    if found == "pointer":
        return "this is a Git LFS pointer, not the file itself"
    if found == "web_page":
        return "this is a web page, not the file"
    return "it is cut short or no safetensors file"


def _damaged(path: Path, why: str) -> UserError:
    return UserError("damaged_model", show(path), why, "download this file again")


def _no_weights(folder: Path) -> UserError:
    pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    why = "it holds no model*.safetensors"
    if pickles:
        why += f"; {pickles[0].name} is a pickle, which can run code and is never read"
    return UserError("no_weights", show(folder), why, "use a model in safetensors format")
