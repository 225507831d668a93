"""Which files of a dataset repository are which configuration and split.

First what its card says (`configs:` in the YAML at the head of README.md), else what folders and
names say, as the `datasets` library reads them.
https://huggingface.co/docs/hub/datasets-data-files-configuration
"""

from __future__ import annotations

import difflib
import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlx_lora.data.file_kinds import inner_stem, kind_of
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# configuration to split to files, as paths in the repository
Layout = dict[str, dict[str, list[str]]]

DEFAULT = "default"
_VALIDATION = ("validation", "valid", "val", "dev", "eval")
_SPLITS = ("train", "training", *_VALIDATION, "test", "testing")
_WORD = re.compile(rf"(?:^|[^a-z])({'|'.join(_SPLITS)})(?=$|[^a-z])")
_CONVERTED = re.compile(r"([^/]+)/(?:partial-)?([^/]+)/\d+\.parquet")


def layout_of(names: Sequence[str], card: dict[str, Any]) -> Layout:
    """The configurations of a repository with these files; empty where none of them is data."""
    data = [name for name in names if _is_data(name)]
    declared = _declared(data, card.get("configs"))
    if declared:
        return declared
    layout: Layout = {}
    for name in data:
        config, split = _place(PurePosixPath(name))
        layout.setdefault(config, {}).setdefault(split, []).append(name)
    return layout


def converted_layout(names: Iterable[str]) -> Layout:
    """Configurations of the branch of the hub's own parquet files (`refs/convert/parquet`)."""
    layout: Layout = {}
    for name in sorted(names):
        if match := _CONVERTED.fullmatch(name):
            layout.setdefault(match[1], {}).setdefault(match[2], []).append(name)
    return layout


def choose_files(
    repository: str, layout: Layout, card: dict[str, Any], subset: str, split: str
) -> dict[str, list[str]]:
    """Files to learn from (train) and, where the rows to learn are the usual ones, to hold out.

    Raises:
        UserError: `no_such_data`, naming the configurations or splits there are.
    """
    config = _choose(repository, "--subset", subset, list(layout), _preferred(layout, card))
    splits = layout[config]
    names = list(splits)
    learnt = _choose(
        repository, "--split", split, names, [n for n in names if n.startswith("train")]
    )
    files = {"train": splits[learnt]}
    held = next((name for name in _VALIDATION if name in splits), None)
    if held and held != learnt and learnt in {"train", "training"}:
        files["valid"] = splits[held]
    return files


def _preferred(layout: Layout, card: dict[str, Any]) -> list[str]:
    """Configurations taken where none is named."""
    configs = card.get("configs")
    marked = [
        str(entry.get("config_name", DEFAULT))
        for entry in (configs if isinstance(configs, list) else [])
        if isinstance(entry, dict) and entry.get("default")
    ]
    return [name for name in (*marked, DEFAULT) if name in layout]


def _choose(
    repository: str, option: str, wanted: str, names: list[str], preferred: list[str]
) -> str:
    if wanted in names:
        return wanted
    if not wanted and (len(names) == 1 or preferred):
        return preferred[0] if preferred else names[0]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")  # noqa: PLR2004
    what = "configurations" if option == "--subset" else "splits"
    near = difflib.get_close_matches(wanted, names, n=1) if wanted else []
    first = (
        f"did you mean {option} {near[0]}? " if near else f"choose one with {option} {names[0]}. "
    )
    why = f"it has no {wanted}" if wanted else f"it has several {what}"
    raise UserError("no_such_data", repository, f"{why}: {shown}", f"{first}".strip().rstrip("."))


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    if any(part.startswith((".", "_")) for part in path.parts):
        return False
    kind = kind_of(Path(path.name))
    aside = path.name.lower() in {"dataset_infos.json", "dataset_info.json", "state.json"}
    return bool(kind) and path.suffix.lower() != ".md" and not aside and not _is_note(path)


def _is_note(path: PurePosixPath) -> bool:
    return bool(re.match(r"(?i)(readme|licen[cs]e|notice|requirements)", path.name))


def _declared(data: list[str], configs: object) -> Layout:
    """What the card says, as far as its patterns name files that are there."""
    layout: Layout = {}
    for entry in configs if isinstance(configs, list) else []:
        if not isinstance(entry, dict):
            continue
        name = str(entry.get("config_name", DEFAULT))
        for split, patterns in _patterns(entry.get("data_files")):
            folder = str(entry.get("data_dir") or "").strip("/")
            wanted = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
            found = [path for path in data if any(_matches(path, pattern) for pattern in wanted)]
            if found:
                layout.setdefault(name, {}).setdefault(split, []).extend(found)
    return layout


def _patterns(files: object) -> list[tuple[str, list[str]]]:
    """(split, patterns) of `data_files`: a text, a list of texts, or a list of split and path."""
    if isinstance(files, str):
        return [("train", [files])]
    if not isinstance(files, list):
        return []
    if all(isinstance(item, str) for item in files):
        return [("train", [str(item) for item in files])]
    found = []
    for item in files:
        if isinstance(item, dict) and "path" in item:
            paths = item["path"] if isinstance(item["path"], list) else [item["path"]]
            found.append((str(item.get("split", "train")), [str(path) for path in paths]))
    return found


def _matches(path: str, pattern: str) -> bool:
    """Glob as the hub has it: `**` stands for any folders, none included."""
    plain = pattern.removeprefix("./")
    return fnmatchcase(path, plain) or fnmatchcase(path, plain.replace("**/", ""))


def _place(path: PurePosixPath) -> tuple[str, str]:
    """(configuration, split) by the names of a file and its folders."""
    folders = [part for part in path.parts[:-1] if part != "data"]
    stem = inner_stem(Path(path.name)).lower()
    in_name = _WORD.search(stem)
    in_folder = next((f for f in reversed(folders) if f.lower() in _SPLITS), None)
    split = in_name[1] if in_name else in_folder.lower() if in_folder else "train"
    configs = [folder for folder in folders if folder.lower() not in _SPLITS]
    return configs[0] if configs else DEFAULT, split
