"""The data files of a folder: those named by split, else its texts, else the only one there is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlx_lora.data.file_kinds import inner_stem, kind_of
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path

Files = dict[str, tuple["Path", ...]]
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
}
# train, train-00000-of-00002, train_3
_NAME = re.compile(r"([a-z]+)((?:[-_.]\d+)(?:[-_.]of[-_.]\d+)?(?:-[0-9a-f]{16})?)?")
# what lies beside data and is none
_ASIDE = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|contributing|authors|citation|requirements"
    r"|dataset_card|dataset_infos?|dataset_dict|metadata|config|package|package-lock|state)(\b.*)?"
)


def folder_files(folder: Path) -> Files:
    """The files of each split, in the order they are read.

    Raises:
        UserError: `no_such_data` or `bad_data`, naming what is there instead.
    """
    listed = _listed(folder)
    files = _named(folder, listed)
    inner = folder / "data"
    if "train" not in files and inner.is_dir():
        found = _named(inner, _listed(inner))
        files = found if "train" in found else files
    if "train" in files:
        return files
    if files:
        splits = " and ".join(path.name for paths in files.values() for path in paths[:1])
        fix = "name the file with the rows to learn train.jsonl, train.csv or the like"
        raise UserError("no_such_data", show(folder), f"it holds {splits}, no train file", fix)
    for place in (listed, _listed(inner) if inner.is_dir() else []):
        if place and (single := _unnamed(folder, place)):
            return {"train": single}
    raise _nothing(folder)


def _listed(folder: Path) -> list[Path]:
    """Files of a folder in natural order: 2 before 10. Hidden ones are none."""
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
        return sorted((path for path in found if path.is_file()), key=_natural)
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
        raise UserError("bad_data", show(folder), why, "check the folder") from error


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _named(folder: Path, listed: list[Path]) -> Files:
    """Files named by split, shards together."""
    files: dict[str, list[Path]] = {}
    for path in listed:
        match = _NAME.fullmatch(inner_stem(path).lower())
        split = _SPLITS.get(match[1]) if match else None
        if match is None or split is None or not kind_of(path):
            continue
        others = files.setdefault(split, [])
        shard = bool(match[2])
        if others and not (shard and _same_series(others[0], path)):
            why = f"{others[0].name} and {path.name} both name the {split} rows"
            raise UserError("bad_data", show(folder), why, "keep one of them")
        others.append(path)
    return {split: tuple(paths) for split, paths in files.items()}


def _same_series(first: Path, other: Path) -> bool:
    """Parts of one file: the same name but for the number."""
    return re.sub(r"\d+", "0", first.name) == re.sub(r"\d+", "0", other.name)


def _unnamed(folder: Path, listed: list[Path]) -> tuple[Path, ...]:
    """The texts of a folder without splits, else its only data file."""
    known = [path for path in listed if kind_of(path)]
    data = [path for path in known if not _ASIDE.fullmatch(path.stem.lower())] or [
        path for path in known if kind_of(path) == "text"
    ]
    kinds = {kind_of(path) for path in data}
    series = {re.sub(r"\d+-of-\d+", "", path.name) for path in data}
    if len(data) <= 1 or kinds == {"text"} or (len(series) == 1 and "-of-" in data[0].name):
        return tuple(data)
    names = [path.name for path in data]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")  # noqa: PLR2004
    fix = "choose one of them, or name them train and valid"
    raise UserError("bad_data", show(folder), f"it holds several data files: {shown}", fix)


def _nothing(folder: Path) -> UserError:
    fix = "put a train.jsonl, train.csv or train.txt into it, or name one file"
    entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if any(name.endswith(".arrow") for name in entries):
        why = "it holds Arrow files, as datasets' save_to_disk writes them"
        return UserError("bad_data", show(folder), why, "write it with to_parquet or to_json")
    if not entries:
        return UserError("no_such_data", show(folder), "it is empty", fix)
    shown = ", ".join(entries[:3]) + (" and more" if len(entries) > 3 else "")  # noqa: PLR2004
    why = f"it holds no train file and no other data ({shown})"
    return UserError("no_such_data", show(folder), why, fix)
