"""DATA to the files behind it, by split. No data is read: only listings of folders are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.file_kinds import LINES, TEXT, check_kind, inner_stem, kind_of
from mlx_lora.data.folder_files import folder_files
from mlx_lora.data.hub import fetched_files, is_hub_id
from mlx_lora.data.samples import PREFIX, find_sample
from mlx_lora.data.shakespeare import find_shakespeare
from mlx_lora.errors import UserError
from mlx_lora.models.library import assets
from mlx_lora.storage import digest, expanded

if TYPE_CHECKING:
    from mlx_lora.config import DataConfig

__all__ = ["LINES", "TEXT", "Source", "find_source"]


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
    def paths(self) -> list[Path]:
        """All files."""
        return [path for paths in self.files.values() for path in paths]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.paths)


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
    path = find_sample(source) if source.startswith(PREFIX) else expanded(source)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # a name no file system takes
        is_folder = is_file = False
    if is_folder:
        return path.resolve().name, folder_files(path)
    if not is_file and is_hub_id(source):
        return source.rpartition("/")[2], fetched_files(data, root)
    if not is_file:
        fix = (
            "name a file, a folder, a Hugging Face dataset id, a sample (understudy data samples), "
            "tiny-shakespeare, or demo"
        )
        raise UserError("no_such_data", source, "there is no such file or folder", fix)
    if not kind_of(path):
        check_kind(path, _beginning(path))
    return inner_stem(path), {"train": (path,)}


def _beginning(path: Path) -> bytes:
    """A few bytes of a file that is refused, to say what it is."""
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b""
