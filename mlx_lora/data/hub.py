"""Datasets of the Hugging Face hub: the files of one configuration and split, brought here once.

They lie in the cache all tools share. What was brought is noted in the data root, with the commit
it is of, so that it is found again without a connection and stays the same.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.file_kinds import kind_of
from mlx_lora.data.hub_files import choose_files, converted_layout, layout_of
from mlx_lora.errors import UserError
from mlx_lora.events import Phase
from mlx_lora.models.download import fetch_files
from mlx_lora.models.hub_api import PATIENCE, card_of, open_hub, wanted_file
from mlx_lora.models.hub_errors import hub_errors
from mlx_lora.models.hub_layout import Place, Wanted, repository_folder
from mlx_lora.storage import expanded, storage_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_lora.config import DataConfig

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_CONVERTED = "refs/convert/parquet"


class Manifest(msgspec.Struct, frozen=True):
    """What was brought.

    Attributes:
        commit: the version, as the hub names it.
        subset: the configuration that was asked for, empty where none was.
        split: the same of the split.
        files: by split, path in the repository and bytes.
    """

    repository: str
    commit: str
    subset: str
    split: str
    files: dict[str, list[tuple[str, int]]]


def is_hub_id(source: str) -> bool:
    """Whether DATA has the form of a dataset id and is no path.

    A name that ends as data files do is a file that is missing: it is not asked of the hub.
    """
    if not _ID.fullmatch(source) or kind_of(Path(source)) or source.lower().endswith(".gz"):
        return False
    try:
        return not expanded(source).exists()
    except OSError:
        return False


def needs_fetch(data: DataConfig, root: Path) -> bool:
    """Whether DATA is a dataset of the hub that is not on this machine, or not whole."""
    return is_hub_id(data.source) and _found(data, root) is None


def fetched_files(data: DataConfig, root: Path) -> dict[str, tuple[Path, ...]]:
    """The files of a dataset that was brought, by split.

    Raises:
        UserError: `no_such_data` where it was not.
    """
    found = _found(data, root)
    if found is None:
        why = "this dataset is not on this machine"
        fix = "download it first with: understudy data check " + data.source
        raise UserError("no_such_data", data.source, why, fix)
    return found


def fetch_dataset(data: DataConfig, root: Path) -> Iterator[Phase]:
    """Bring what is missing, saying how far it is in bytes.

    Raises:
        UserError: `no_such_data` for a dataset, configuration or split that is not there,
        `no_access` for one that may not be had, `network`, or what the storage refuses.
    """
    yield Phase("downloading", 0, 0)
    with hub_errors(data.source):
        commit, files = _look_up(data, root)
    wanted = [one for listed in files.values() for one in listed]
    yield from fetch_files(Place(data.source, commit, "dataset"), wanted, root)
    kept = {split: [(one.name, one.size) for one in listed] for split, listed in files.items()}
    manifest = Manifest(data.source, commit, data.subset, data.split, kept)
    place = _manifest_path(data, root)
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    write_file(place, msgspec.json.encode(manifest) + b"\n")


def _look_up(data: DataConfig, root: Path) -> tuple[str, dict[str, list[Wanted]]]:
    """(commit, files by split)."""
    api = open_hub(root, data.source)
    info = api.dataset_info(data.source, files_metadata=True, timeout=PATIENCE)
    card = card_of(info)
    layout = layout_of([one.rfilename for one in info.siblings or ()], card)
    if not layout:
        info = api.dataset_info(
            data.source, revision=_CONVERTED, files_metadata=True, timeout=PATIENCE
        )
        layout = converted_layout(one.rfilename for one in info.siblings or ())
    if not layout:
        why = "no file of it is data that can be read here"
        raise UserError("no_such_data", data.source, why, "choose another dataset")
    chosen = choose_files(data.source, layout, card, data.subset, data.split)
    known = {one.rfilename: wanted_file(one) for one in info.siblings or ()}
    return str(info.sha), {split: [known[n] for n in names] for split, names in chosen.items()}


def _found(data: DataConfig, root: Path) -> dict[str, tuple[Path, ...]] | None:
    """The files, where all of them are here."""
    try:
        manifest = msgspec.json.decode(_manifest_path(data, root).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    asked = (manifest.repository, manifest.subset, manifest.split)
    if asked != (data.source, data.subset, data.split):
        return None
    snapshot = repository_folder(data.source, "dataset") / "snapshots" / manifest.commit
    kept = [one for listed in manifest.files.values() for one in listed]
    if not all(_is_whole(snapshot / name, size) for name, size in kept):
        return None
    return {
        split: tuple(snapshot / name for name, _ in listed)
        for split, listed in manifest.files.items()
    }


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.is_file() and size in {0, path.stat().st_size}
    except OSError:
        return False


def _manifest_path(data: DataConfig, root: Path) -> Path:
    def plain(text: str) -> str:
        return re.sub(r"[^\w.-]", "_", text) or "_"

    name = f"{plain(data.subset)}@{plain(data.split)}.json"
    return root / "datasets" / "hub" / data.source.replace("/", "--") / name
