"""Text from the clipboard as a dataset file of the person's own, in the data root."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.storage import storage_errors, write_file

if TYPE_CHECKING:
    from pathlib import Path


def kind_of(text: str) -> str:
    """The ending its file gets: .jsonl where every line is an object, .json for a list."""
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and all(line.lstrip().startswith("{") and _reads(line) for line in lines):
        return ".jsonl"
    return ".json" if text.lstrip().startswith("[") and _reads(text) else ".txt"


def free_file(folder: Path, name: str, text: str) -> Path:
    """A file that is not there yet, for a name as a person types it."""
    stem = re.sub(r"[^\w .-]+", " ", name).strip(" .")[:60] or "Pasted text"
    ending = kind_of(text)
    path, number = folder / f"{stem}{ending}", 2
    while path.exists():
        path, number = folder / f"{stem} {number}{ending}", number + 1
    return path


def save_text(root: Path, name: str, text: str) -> Path:
    """Write it; a file that is there is never written over.

    Raises:
        UserError: `disk_full`, `no_permission` or `storage`.
    """
    folder = root / "datasets"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = free_file(folder, name, text)
    write_file(path, text.encode("utf-8", "replace"))
    return path


def _reads(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
