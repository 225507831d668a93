"""What is on this machine: every model with its bytes, its last use, its origin and its runs.

The Hugging Face cache, the library of the data root and folders a person chose. Nothing here loads
the hub's library. No mlx here.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.hub_layout import PARTIAL
from mlx_lora.models.library import find_model, hub_cache
from mlx_lora.models.origin import read_origin
from mlx_lora.models.shelf import below, try_look
from mlx_lora.storage import expanded, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlx_lora.models.shelf import Found
    from mlx_lora.runs import RunStore

_PREFIX = "models--"


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A model on this machine.

    Attributes:
        source: what `--model` takes.
        kind: `hub` in the Hugging Face cache, `library` packed here, `folder` the person's own.
        folder: all that is deleted with it.
        size: bytes on disk; a file that several versions share is counted once.
        unfinished: bytes of downloads that were begun and not ended, in `size` too.
        versions: commits in the cache, the current one first; none of a plain folder.
        arrived: when its newest file was written, seconds since 1970.
        used: when a run on it last did something; 0 where none did. Not when its files were last
            read: a Mac does not keep count of that, and looking through this list is reading too.
        origin: where it came from, in words.
        bits, parameters: 0 where it cannot be used.
        runs: names of the runs made on it, newest first.
        problem: why it cannot be used; None where it can.
    """

    source: str
    title: str
    kind: Literal["hub", "library", "folder"]
    folder: Path
    size: int
    unfinished: int = 0
    versions: tuple[str, ...] = ()
    arrived: float = 0.0
    used: float = 0.0
    origin: str = ""
    bits: int = 0
    parameters: int = 0
    runs: tuple[str, ...] = ()
    problem: UserError | None = None


def library_folder(root: Path) -> Path:
    """Where packed models go."""
    return root / "models"


def holdings(store: RunStore, folders: Sequence[str] = ()) -> list[Holding]:
    """Every model, the largest first. What cannot be read is left out; nothing fails."""
    runs = _runs(store)
    found = {one.folder.resolve(): one for one in _hub(runs)}
    places = [(show(library_folder(store.root)), True), *((name, False) for name in folders)]
    for name, own in places:
        for source in below(name):
            one = _plain(source, runs, own=own)
            if one is not None:
                found.setdefault(one.folder.resolve(), one)
    return sorted(found.values(), key=lambda one: (-one.size, one.title.lower()))


def find_holding(name: str, store: RunStore, folders: Sequence[str] = ()) -> Holding:
    """The model of a source, folder or title.

    Raises:
        UserError: `no_such_model`, with the nearest.
    """
    known = holdings(store, (*folders, name) if _is_folder(name) else folders)
    target = expanded(name).resolve() if _is_folder(name) else None
    for one in known:
        if name == one.source or (target is not None and one.folder.resolve() == target):
            return one
    titled = [one for one in known if name.lower() == one.title.lower()]
    if len(titled) == 1:
        return titled[0]
    if name == "demo":
        why, fix = "it comes with Understudy and takes no room of its own", "nothing is to be done"
        raise UserError("no_such_model", name, why, fix)
    listed = ", ".join(one.source for one in (titled or known)[:3]) or "none yet"
    why = "several models are called so" if titled else "this model is not on this machine"
    raise UserError("no_such_model", name, why, f"those here are: {listed}")


class _Use(msgspec.Struct, frozen=True):
    """A run: its name, the model it was made on (as named, and where that is), its last change."""

    run: str
    source: str
    folder: Path | None
    changed: float


def _runs(store: RunStore) -> list[_Use]:
    """What every run was made on, newest first."""
    found = []
    for run in store.list():
        try:
            tree = tomllib.loads((run.folder / "config.toml").read_text(encoding="utf-8"))
            source = str(tree["config"]["model"]["source"])
            log = run.folder / "events.jsonl"
            changed = (log if log.is_file() else run.folder).stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        found.append(_Use(run.name, source, _place(source), changed))
    return found


def _place(source: str) -> Path | None:
    try:
        return find_model(source).resolve()
    except (UserError, OSError):
        return None


def _on(runs: Iterable[_Use], source: str, folder: Path) -> list[_Use]:
    """The runs made on the model in this folder."""
    whole = folder.resolve()
    return [
        one
        for one in runs
        if one.source == source or (one.folder is not None and one.folder.is_relative_to(whole))
    ]


def _hub(runs: list[_Use]) -> list[Holding]:
    """The repositories of models in the cache."""
    try:
        folders = sorted(p for p in hub_cache().glob(f"{_PREFIX}*") if p.is_dir())
    except OSError:
        return []
    return [one for folder in folders if (one := _repository(folder, runs)) is not None]


def _repository(folder: Path, runs: list[_Use]) -> Holding | None:
    source = folder.name.removeprefix(_PREFIX).replace("--", "/", 1)
    try:
        sizes = _sizes(folder)
        unfinished = sum(p.stat().st_size for p in (folder / "blobs").glob(f"*{PARTIAL}"))
        versions = _versions(folder)
    except OSError:
        return None
    look = try_look(source)
    using = _on(runs, source, folder)
    return Holding(
        source=source,
        title=source.rpartition("/")[2],
        kind="hub",
        folder=folder,
        size=sum(size for size, _ in sizes.values()),
        unfinished=unfinished,
        versions=versions,
        arrived=max((written for _, written in sizes.values()), default=0.0),
        used=max((one.changed for one in using), default=0.0),
        origin=f"Hugging Face, {source}",
        runs=tuple(one.run for one in using),
        **_figures(look, _unfinished(source) if unfinished else None),
    )


def _plain(source: str, runs: list[_Use], *, own: bool) -> Holding | None:
    """A model in a folder of its own."""
    folder = expanded(source)
    try:
        sizes = _sizes(folder)
    except OSError:
        return None
    using = _on(runs, source, folder)
    origin = read_origin(folder)
    return Holding(
        source=source,
        title=folder.name,
        kind="library" if own else "folder",
        folder=folder,
        size=sum(size for size, _ in sizes.values()),
        arrived=max((written for _, written in sizes.values()), default=0.0),
        used=max((one.changed for one in using), default=0.0),
        origin=f"packed to {origin.bits} bit from {origin.made_from}" if origin else "a folder",
        runs=tuple(one.run for one in using),
        **_figures(try_look(source), None),
    )


def _figures(look: Found | None, unfinished: UserError | None) -> dict[str, Any]:
    if look is None:
        return {"problem": unfinished}
    if look.problem is not None:
        return {"problem": unfinished or look.problem}
    return {"bits": look.bits, "parameters": look.parameters}


def _unfinished(source: str) -> UserError:
    fix = f"go on with: understudy models download {source}"
    return UserError("missing_shard", source, "its download was not finished", fix)


def _sizes(folder: Path) -> dict[tuple[int, int], tuple[int, float]]:
    """(bytes, last writing) of every file below by its identity: links to one count once."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() and path.exists() and path.resolve().is_relative_to(folder.resolve()):
            continue  # its blob is counted
        if path.is_file():
            stat = path.stat()
            found[stat.st_dev, stat.st_ino] = (stat.st_size, stat.st_mtime)
    return found


def _versions(folder: Path) -> tuple[str, ...]:
    reference = folder / "refs" / "main"
    current = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    place = folder / "snapshots"
    names = [path.name for path in place.iterdir() if path.is_dir()] if place.is_dir() else []
    return tuple(sorted(names, key=lambda name: (name != current, name)))


def _is_folder(name: str) -> bool:
    try:
        return expanded(name).is_dir()
    except OSError:
        return False
