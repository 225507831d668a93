"""The cache all tools share: where a repository's files lie in it, and what was left half-done.

`models--OWNER--NAME/blobs/HASH` are the contents, `snapshots/COMMIT/PATH` links to them and
`refs/main` the commit that is current; `.locks/` beside them is held while a blob is written.
https://huggingface.co/docs/huggingface_hub/guides/manage-cache

A download of ours in progress is `blobs/HASH.incomplete`, always of that name, so that the next
process goes on with it. The hub's own library (2.x) writes to `HASH.RANDOM.incomplete` and never
looks at it again.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.library import hub_cache
from mlx_lora.storage import storage_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PARTIAL = ".incomplete"
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Wanted(msgspec.Struct, frozen=True):
    """A file to bring.

    Attributes:
        name: its path in the repository.
        size: in bytes; 0 where the hub does not say.
        sha256: of its content, for a file the hub keeps as a large one (LFS).
        blob: its name as a git object, which is a hash of the content of a small one.
    """

    name: str
    size: int
    sha256: str = ""
    blob: str = ""

    @property
    def digest(self) -> str:
        """The hash that names it in the cache, empty where the hub does not say."""
        return self.sha256 or self.blob


class Place(msgspec.Struct, frozen=True):
    """A version of a repository in the cache; `kind` is model or dataset."""

    repository: str
    commit: str
    kind: str

    @property
    def folder(self) -> Path:
        """Where the cache keeps the repository."""
        return repository_folder(self.repository, self.kind)

    @property
    def snapshot(self) -> Path:
        """The folder of this version."""
        return self.folder / "snapshots" / self.commit

    def pointer(self, one: Wanted) -> Path:
        """The link by which a file of this version is found."""
        return self.snapshot / one.name

    def blob(self, one: Wanted) -> Path:
        """Its content."""
        return self.folder / "blobs" / one.digest

    def partial(self, one: Wanted) -> Path:
        """What of it has arrived while it is not whole."""
        return self.folder / "blobs" / f"{one.digest}{PARTIAL}"

    def check(self, wanted: Iterable[Wanted]) -> None:
        """Names and hashes a server sent stay inside the cache.

        Raises:
            UserError: `network` for any that would not.
        """
        bad = not _COMMIT.fullmatch(self.commit)
        for one in wanted:
            path = PurePosixPath(one.name)
            outside = path.is_absolute() or ".." in path.parts or "\\" in one.name or not path.parts
            bad = bad or outside or (one.digest != "" and not _HASH.fullmatch(one.digest))
        if bad:
            why = "the hub's answer names a file outside of its folder"
            raise UserError("network", self.repository, why, "choose another repository")


class Unfinished(msgspec.Struct, frozen=True):
    """A repository of which a download was begun and not ended, and the bytes that are here."""

    repository: str
    kind: str
    arrived: int


def repository_folder(repository: str, kind: str) -> Path:
    """Where the cache keeps a repository."""
    return hub_cache() / f"{kind}s--{repository.replace('/', '--')}"


@contextmanager
def locked(blob: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of a blob, as the hub's own library does.

    Raises:
        filelock.Timeout: another process holds it.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    folder = blob.parents[1]
    lock = folder.parent / ".locks" / folder.name / f"{blob.name}.lock"
    with storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock, timeout=timeout):
        yield


def link(blob: Path, pointer: Path) -> None:
    """Let a file of a version be found; where the disk knows no links, the content moves there."""
    with storage_errors(pointer):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        target = os.path.relpath(blob, pointer.parent)
        with suppress(OSError):
            if pointer.readlink() == Path(target):
                return
        pointer.unlink(missing_ok=True)
        try:
            pointer.symlink_to(target)
        except OSError:
            shutil.move(blob, pointer)


def note_reference(place: Place, revision: str = "main") -> None:
    """This version is the current one: the last thing a download does."""
    reference = place.folder / "refs" / revision
    with storage_errors(reference):
        reference.parent.mkdir(parents=True, exist_ok=True)
        if reference.is_file() and reference.read_text(encoding="utf-8") == place.commit:
            return
    write_file(reference, place.commit.encode())


def remove_orphans(place: Place, wanted: Iterable[Wanted]) -> int:
    """Delete half-written files nobody goes on with; returns their bytes.

    Those of `wanted` stay. A file another process is writing right now is locked by it, and stays.
    """
    from filelock import Timeout

    kept, freed = {place.partial(one).name for one in wanted}, 0
    for path in (place.folder / "blobs").glob(f"*{PARTIAL}"):
        if path.name in kept:
            continue
        blob = path.with_name(path.name.partition(".")[0])
        with storage_errors(path), suppress(Timeout), locked(blob, 0.05):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
    return freed


def unfinished() -> list[Unfinished]:
    """Downloads that were begun and not ended, for whoever wants to go on or to tidy up."""
    found = []
    for folder in sorted(hub_cache().glob("*s--*")):
        kind, _, name = folder.name.partition("s--")
        sizes = [p.stat().st_size for p in (folder / "blobs").glob(f"*{PARTIAL}") if p.is_file()]
        if kind in {"model", "dataset"} and sizes:
            found.append(Unfinished(name.replace("--", "/", 1), kind, sum(sizes)))
    return found


def discard(repository: str, kind: str) -> int:
    """Delete what an unfinished download of a repository left; returns the bytes that are free."""
    return remove_orphans(Place(repository, "", kind), ())
