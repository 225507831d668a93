"""DATA to the files behind it, by split. Nothing is read but folder listings."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.shakespeare import find_shakespeare
from mlx_lora.errors import UserError
from mlx_lora.models.library import assets
from mlx_lora.storage import digest, expanded, show

if TYPE_CHECKING:
    from mlx_lora.config import DataConfig

TEXT, LINES, ARRAY = {".txt", ".md"}, {".jsonl", ".ndjson"}, {".json"}
_KNOWN = TEXT | LINES | ARRAY
_SPLITS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}


class Source(msgspec.Struct, frozen=True):
    """The files behind DATA.

    Attributes:
        files: the files of each split (train, valid, test), in the order they are read.
        columns: which column is which field, as the person said (`DataConfig.columns`).
    """

    name: str
    files: dict[str, tuple[Path, ...]]
    columns: dict[str, str] = {}

    def stamp(self) -> str:
        """Sizes and times of all files: another stamp means that something was written to them."""
        found = [(s, path.stat()) for s, paths in sorted(self.files.items()) for path in paths]
        return " ".join(f"{split}:{at.st_size}:{at.st_mtime_ns}" for split, at in found)

    def sha256(self) -> str:
        """One hash over all files."""
        lines = [
            f"{split}={digest(path)}\n"
            for split, paths in sorted(self.files.items())
            for path in paths
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for paths in self.files.values() for path in paths)


def find_source(data: DataConfig, root: Path) -> Source:
    """The files DATA names; `root` is the data root, where a downloaded set is kept.

    Raises:
        UserError: `no_such_data`, `bad_data`, `network`.
    """
    name, files = _find(data, root)
    return Source(name, files, data.columns)


def _find(data: DataConfig, root: Path) -> tuple[str, dict[str, tuple[Path, ...]]]:
    source = data.source
    if source == "demo":
        return "demo", {"train": (assets() / "demo" / "shakespeare.txt",)}
    if source == "tiny-shakespeare":
        return source, {"train": (find_shakespeare(root),)}
    path = expanded(source)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # a name no file system takes
        is_folder = is_file = False
    if is_folder:
        return path.resolve().name, _folder_files(path)
    if not is_file:
        fix = "name a file, a folder with train and valid files, tiny-shakespeare, or demo"
        raise UserError("no_such_data", source, "there is no such file or folder", fix)
    _check_kind(path)
    return path.stem, {"train": (path,)}


def _folder_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    files: dict[str, tuple[Path, ...]] = {}
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
        raise UserError("bad_data", show(folder), why, "check the folder") from error
    for path in listed:
        split = _SPLITS.get(path.stem.lower())
        if split and path.suffix.lower() in _KNOWN and path.is_file():
            if split in files:
                why = f"{files[split][0].name} and {path.name} both name the {split} rows"
                raise UserError("bad_data", show(folder), why, "keep one of them")
            files[split] = (path,)
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
