"""Files of a hub repository into the cache all tools share: told how far, checked, stoppable."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.hub_errors import hub_errors
from mlx_lora.errors import UserError
from mlx_lora.models.library import hub_cache
from mlx_lora.storage import digest, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# seconds between two words on how far a download is
_PATIENCE = 0.25


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
    sha256: str
    blob: str


class _StoppedError(Exception):
    """Nobody waits for this download any more."""


class _Meter:
    """Bytes of one file that have arrived; the hub's library updates it in place of its own bar."""

    def __init__(self) -> None:
        self.arrived, self.stopped = 0, False

    def bar(self) -> type:
        """A class with what the library asks of tqdm's, which draws nothing."""
        meter = self

        class Bar:
            def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
                meter.arrived = initial
                self.n, self.total, self.format_dict = initial, 0, dict[str, Any]()

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def update(self, count: int = 1) -> None:
                meter.arrived += count
                if meter.stopped:
                    raise _StoppedError

            def update_transfer(self, count: int) -> None:
                """Bytes on the wire, which are not those of the file."""

            def __getattr__(self, name: str) -> Any:
                return lambda *_, **__: None

        return Bar


def download(repository: str, commit: str, one: Wanted, kind: str = "dataset") -> Iterator[int]:
    """Bring one file, saying the bytes of it that are here.

    The library runs beside, so that a stop is heeded while it waits for the network; it keeps no
    part of a file that did not arrive whole.

    Raises:
        UserError: `network` and the others of `hub_errors`; `network` where the content is not
        what the hub says, twice.
    """
    from multiprocessing.pool import ThreadPool  # its threads do not hold up the end of a process

    meter, pool = _Meter(), ThreadPool(1)
    try:
        work = pool.apply_async(_bring, (repository, commit, one, kind, meter))
        while not work.ready():
            work.wait(_PATIENCE)
            yield min(meter.arrived, one.size)
        with hub_errors(repository):
            good = work.get()
    finally:
        meter.stopped = True
        pool.close()
    if not good:
        why = "what arrived is not what the hub holds (its checksum differs)"
        raise UserError("network", f"{repository}/{one.name}", why, "try again")


def missing_bytes(repository: str, commit: str, wanted: Iterable[Wanted]) -> int:
    """How much of these files is still to come."""
    snapshot = repository_folder(repository) / "snapshots" / commit
    return sum(one.size for one in wanted if not (snapshot / one.name).is_file())


def repository_folder(repository: str, kind: str = "dataset") -> Path:
    """Where the cache keeps a repository."""
    return hub_cache() / f"{kind}s--{repository.replace('/', '--')}"


def remove_orphans(repository: str, kind: str = "dataset") -> None:
    """What an interrupted download left: the hub's library begins anew and leaves it lying.

    A file another process is bringing right now is locked by it, and left alone.
    """
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    folder = repository_folder(repository, kind)
    locks = hub_cache() / ".locks" / folder.name
    for path in (folder / "blobs").glob("*.incomplete"):
        lock = locks / f"{path.name.partition('.')[0]}.lock"
        with storage_errors(path), suppress(Timeout):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(lock, timeout=0.05):
                path.unlink(missing_ok=True)


def _bring(repository: str, commit: str, one: Wanted, kind: str, meter: _Meter) -> bool:
    """Whether the file is in the cache and is what the hub says; damaged ones are brought anew."""
    import huggingface_hub

    # its warnings of retries, with long addresses in them
    huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    folder = repository_folder(repository, kind)
    for _ in range(2):
        huggingface_hub.hf_hub_download(
            repository, one.name, repo_type=kind, revision=commit,
            cache_dir=folder.parent, tqdm_class=meter.bar(),
        )  # fmt: skip
        path = folder / "snapshots" / commit / one.name
        if _is_right(path, one):
            return True
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return False


def _is_right(path: Path, one: Wanted) -> bool:
    size = path.stat().st_size
    if one.size and size != one.size:
        return False
    if one.sha256:
        return digest(path) == one.sha256
    # git's name of a file: SHA-1 over its size and content
    content = b"blob %d\0" % size + path.read_bytes() if len(one.blob) == 40 else b""  # noqa: PLR2004
    return not content or hashlib.sha1(content, usedforsecurity=False).hexdigest() == one.blob
