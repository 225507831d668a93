"""A model of the hub onto this machine, into the cache all tools share. No mlx here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Report
from mlx_lora.models.download import fetch_files
from mlx_lora.models.hub import HUB_ID, RemoteModel, look_up
from mlx_lora.models.hub_layout import Place, note_reference
from mlx_lora.models.library import check_model, find_model
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.control import Control
    from mlx_lora.jobs import DownloadJob


def fetch_model(
    model: RemoteModel, root: Path, control: Control | None = None
) -> Generator[Phase, None, bool]:
    """Bring what is missing or damaged of a model; whether it is whole, and not told to stop.

    Only a whole one is the version other commands find: before, an older one stays.

    Raises:
        UserError: as `fetch_files`.
    """
    place = Place(model.repository, model.commit, "model")
    whole = yield from fetch_files(place, model.files, root, control)
    if whole:
        note_reference(place)
    return whole


def needs_download(source: str) -> bool:
    """Whether MODEL has the form of a hub id and is not on this machine."""
    if not HUB_ID.fullmatch(source):
        return False
    try:
        find_model(source)
    except UserError as error:
        return error.code == "no_such_model"
    return False


def bring(job: DownloadJob, control: Control) -> Iterator[Event]:
    """The events of a download: a report `model`, phases in bytes, the folder at the end.

    Raises:
        UserError: as `look_up` and `fetch_model`; what `check_model` says of a model that is whole
        and cannot be used.
    """
    yield Phase("looking_up")
    root = Path(job.root)
    model = look_up(job.model, root)
    facts = {k: v for k, v in msgspec.structs.asdict(model).items() if k != "files"}
    yield Report(kind="model", data=facts)
    whole = yield from fetch_model(model, root, control)
    if not whole:
        yield Finished(reason="stopped")
        return
    folder, _, _ = check_model(model.repository)
    result = {"model": model.repository, "folder": show(folder), "bytes": model.size}
    yield Finished(reason="done", result=result)
