"""Which files of a dataset repository are which configuration and split.

First what its card says (`configs:` in the YAML at the head of README.md), else what folders and
names say, as the `datasets` library reads them.
https://huggingface.co/docs/hub/datasets-data-files-configuration
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlx_lora.data.file_kinds import inner_stem, kind_of
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# configuration to split to files, as paths in the repository
Layout = dict[str, dict[str, list[str]]]

DEFAULT = "default"
# the words that say a split, and what it is called then
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_HELD = [word for word, split in _WORDS.items() if split == "validation"]
_WORD = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(_WORDS)})(?=$|[-._ 0-9])")
# data/train_sft-00000-of-00003.parquet: the whole word is the split
_SHARD = re.compile(rf"((?:{'|'.join(_WORDS)})_\w+)-\d{{5}}-of-\d{{5}}")
_CONVERTED = re.compile(
    r"([^/]+)/(?:(?:partial-)?([^/]+)/\d+|[^/]*?-(\w+?)(?:-\d{5}-of-\d{5})?)\.parquet"
)
# of the same rows in several kinds of file one is taken: the first of these
_BEST = ("parquet", "json", "table", "text")
_ASIDE = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
_NOTE = re.compile(r"(?i)(readme|licen[cs]e|notice|requirements|changelog|citation)")


def layout_of(names: Sequence[str], card: dict[str, Any]) -> Layout:
    """The configurations of a repository with these files; empty where none of them is data."""
    data = [name for name in names if _is_data(name)]
    layout = _declared(data, card.get("configs")) or _by_name(data)
    return {config: _of_one_kind(splits) for config, splits in layout.items()}


def converted_layout(names: Iterable[str]) -> Layout:
    """Configurations of the branch of the hub's own parquet files (`refs/convert/parquet`)."""
    layout: Layout = {}
    for name in sorted(names):
        if match := _CONVERTED.fullmatch(name):
            layout.setdefault(match[1], {}).setdefault(match[2] or match[3], []).append(name)
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
    usual = [name for name in splits if name in {"train", "training"}]
    learnt = _choose(repository, "--split", split, list(splits), usual)
    files = {"train": splits[learnt]}
    if match := re.fullmatch(r"train(?:ing)?(_\w+)?", learnt):
        rest = match[1] or ""
        held = next((word + rest for word in _HELD if word + rest in splits), None)
        files |= {"valid": splits[held]} if held else {}
    return files


def _preferred(layout: Layout, card: dict[str, Any]) -> list[str]:
    """Configurations taken where none is named."""
    marked = [
        _config_name(entry) for entry in _entries(card.get("configs")) if entry.get("default")
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
    aside = path.name.lower() in _ASIDE or path.suffix.lower() == ".md" or _NOTE.match(path.name)
    return bool(kind_of(Path(path.name))) and not aside


def _of_one_kind(splits: dict[str, list[str]]) -> dict[str, list[str]]:
    """The files of one kind: many repositories hold the same rows as CSV and as parquet.

    The kind that has rows to train on is taken, then the one with most splits, then most files.
    """
    kinds: dict[str, dict[str, list[str]]] = {}
    for split, names in splits.items():
        for name in names:
            kind = kind_of(Path(PurePosixPath(name).name)).replace("lines", "json")
            kinds.setdefault(kind, {}).setdefault(split, []).append(name)

    def worth(kind: str) -> tuple[bool, int, int, int]:
        found = kinds[kind]
        count = sum(map(len, found.values()))
        return "train" in found, len(found), count, -_BEST.index(kind)

    return kinds[max(kinds, key=worth)]


def _entries(configs: object) -> list[dict[str, Any]]:
    listed = configs if isinstance(configs, list) else []
    return [entry for entry in listed if isinstance(entry, dict)]


def _config_name(entry: dict[str, Any]) -> str:
    return str(entry.get("config_name", DEFAULT))


def _declared(data: list[str], configs: object) -> Layout:
    """What the card says, as far as its patterns name files that are there."""
    layout: Layout = {}
    for entry in _entries(configs):
        folder = str(entry.get("data_dir") or "").strip("./")
        inside = [path for path in data if not folder or path.startswith(f"{folder}/")]
        splits = layout.setdefault(_config_name(entry), {})
        if "data_files" not in entry:
            for path in inside:
                splits.setdefault(_split_of(_below(path, folder)), []).append(path)
        for split, patterns in _patterns(entry.get("data_files")):
            found = [p for p in inside if any(_matches(_below(p, folder), x) for x in patterns)]
            if found:
                splits.setdefault(split, []).extend(found)
    return {config: splits for config, splits in layout.items() if splits}


def _below(path: str, folder: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path


def _patterns(files: object) -> list[tuple[str, list[str]]]:
    """(split, patterns) of `data_files`.

    A text, a list of texts, an object of split and path, or a list of objects with both.
    """
    if isinstance(files, dict):
        return [(str(split), _texts(paths)) for split, paths in files.items()]
    if isinstance(files, list) and any(isinstance(item, dict) for item in files):
        named = [item for item in files if isinstance(item, dict) and "path" in item]
        return [(str(item.get("split", "train")), _texts(item["path"])) for item in named]
    return [("train", _texts(files))]


def _texts(paths: object) -> list[str]:
    listed = paths if isinstance(paths, list) else [paths]
    return [path for path in listed if isinstance(path, str)]


def _matches(path: str, pattern: str) -> bool:
    """Glob as the hub has it: `*` ends at a slash, `**` does not; a folder is all that is in it."""
    plain = pattern.removeprefix("./").rstrip("/")
    return path.startswith(f"{plain}/") or bool(re.fullmatch(_expression(plain), path))


def _expression(pattern: str) -> str:
    """A glob as a regular expression."""
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/\\]+\])", pattern)
    sets = {
        piece: piece.replace("[!", "[^", 1)
        for piece in pieces
        if re.fullmatch(r"\[!?(?:\w-\w|[\w.])+\]", piece)
    }
    return "".join(wild.get(piece) or sets.get(piece) or re.escape(piece) for piece in pieces)


def _by_name(data: list[str]) -> Layout:
    """The outermost folder that names no split is the configuration."""
    layout: Layout = {}
    for path in data:
        folders = [part for part in PurePosixPath(path).parts[:-1] if part != "data"]
        config = next((f for f in folders if not _WORD.search(f.lower())), DEFAULT)
        layout.setdefault(config, {}).setdefault(_split_of(path), []).append(path)
    return layout


def _split_of(name: str) -> str:
    """The split by a word in the names of the folders, else of the file; train where none is."""
    *folders, file = PurePosixPath(name).parts
    stem = inner_stem(Path(file))
    if shard := _SHARD.fullmatch(stem):
        return shard[1]
    found = [_WORD.search(text.lower()) for text in (*reversed(folders), stem)]
    return next((_WORDS[match[1]] for match in found if match), "train")
