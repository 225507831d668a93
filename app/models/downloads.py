"""Models on their way: brought, checked or mended by workers, one at a time, beside any training.

What was begun and not ended is kept in `downloads.json`, so that after a restart it can go on. A
pause ends the worker: what has arrived stays, and the next one goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.jobs import Job
from app.models.errand import Errand
from mlx_lora import events, jobs
from mlx_lora.errors import UserError
from mlx_lora.models.catalog import find_variant
from mlx_lora.models.hub_layout import repository_folder, unfinished
from mlx_lora.models.library import check_model
from mlx_lora.storage import write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.jobs import KeepAwake
    from app.tasks import Tasks

What = Literal["download", "verify", "repair"]
Doing = Literal["waiting", "looking", "downloading", "checking", "paused", "leaving", "failed"]
_AT_WORK, _REPAINT = {"looking", "downloading", "checking"}, 100


class Begun(msgspec.Struct, frozen=True):
    """A download that was not ended, as `downloads.json` keeps it; bytes."""

    source: str
    title: str
    done: int = 0
    total: int = 0


class Download(msgspec.Struct, kw_only=True, eq=False):
    """One model on its way.

    Attributes:
        what: brought from the hub, looked through, or looked through and mended.
        done, total: bytes; 0 where they are not known.
        rate, eta: bytes a second, seconds left; 0 where they are not known.
        wanted: the project that is to have it once it is here, and the model it had then.
        damage: names and faults of files that are not as they should be.
        failed: why it ended; `tail` the end of what the worker printed.
    """

    source: str
    title: str
    what: What = "download"
    doing: Doing = "waiting"
    done: int = 0
    total: int = 0
    rate: float = 0.0
    eta: float = 0.0
    wanted: tuple[str, str] | None = None
    damage: tuple[dict[str, Any], ...] = ()
    repairable: bool = False
    failed: events.Failed | None = None
    tail: tuple[str, ...] = ()
    job: Job | None = None

    @property
    def at_work(self) -> bool:
        """Whether a worker is at it."""
        return self.doing in _AT_WORK

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Downloads(QObject):
    """All of them by source; `changed` at most ten times a second.

    Attributes:
        arrived: one is whole; carries it (a `Download`).
        refused: one failed; carries it.
        verified: files were looked through, nothing is wrong; carries it.
        worker: makes the job of a download.
    """

    changed = Signal()
    arrived = Signal(object)
    refused = Signal(object)
    verified = Signal(object)

    def __init__(self, root: Path, tasks: Tasks, awake: KeepAwake) -> None:
        super().__init__()
        self._root, self._tasks, self._awake = root, tasks, awake
        self._file = root / "downloads.json"
        self.worker: Callable[[Any], Job] = Job
        self.erasing = Errand()
        self.all: dict[str, Download] = {}
        self._timer = QTimer(self, singleShot=True, interval=_REPAINT)
        self._timer.timeout.connect(self.changed)

    @property
    def running(self) -> Download | None:
        """The one a worker is at now."""
        return next((one for one in self.all.values() if one.job is not None), None)

    def restore(self) -> None:
        """What earlier sessions and other tools began and did not end."""
        kept = _read(self._file)
        self._tasks.run(lambda: _begun(kept), self._take_begun)

    def start(
        self,
        source: str,
        title: str,
        what: What = "download",
        *,
        total: int = 0,
        wanted: tuple[str, str] | None = None,
    ) -> None:
        """Bring, check or mend a model, or go on with it; behind those that wait already."""
        known = self.all.get(source)
        if known is not None and (known.at_work or known.doing == "waiting"):
            return
        made = Download(source=source, title=title, what=what, total=total, wanted=wanted)
        if known is not None:
            made.job = known.job  # one that was paused may still be leaving
            if known.what == what:
                made.done, made.total = known.done, known.total or total
        self.all[source] = made
        self._next()

    def pause(self, source: str) -> None:
        """Keep what has arrived, and let the connection go."""
        made = self.all[source]
        made.doing, made.rate, made.eta = "paused", 0.0, 0.0
        if made.job is not None:
            made.job.stop()
        self._save()
        self._next()

    def cancel(self, source: str) -> None:
        """Give it up: a download's files are deleted, of others nothing but the work is lost."""
        made = self.all[source]
        made.doing = "leaving"
        if made.job is not None:
            made.job.kill()  # nothing can be damaged by it
        else:
            self._erase(made)
        self.changed.emit()

    def forget(self, source: str) -> None:
        """Say no more of one that failed or was looked through."""
        self.all.pop(source, None)
        self._save()
        self.changed.emit()

    def leave(self) -> None:
        """The app ends: what has arrived is kept, the rest comes another time."""
        self._timer.stop()
        self._save()
        self.erasing.leave()
        for made in self.all.values():
            if made.job is not None:
                made.job.leave()
                if not made.job.wait(2):
                    made.job.kill()
                    made.job.wait(2)

    def _next(self) -> None:
        """One at a time: two would only share the line."""
        waiting = next((one for one in self.all.values() if one.doing == "waiting"), None)
        if waiting is not None and self.running is None:
            self._begin(waiting)
        self.changed.emit()

    def _begin(self, made: Download) -> None:
        root = str(self._root)
        what: jobs.DownloadJob | jobs.VerifyJob = jobs.DownloadJob(model=made.source, root=root)
        if made.what != "download":
            repair = made.what == "repair"
            what = jobs.VerifyJob(model=made.source, root=root, repair=repair, again=not repair)
        job = made.job = self.worker(what)
        made.doing = "looking" if made.what == "download" else "checking"
        job.said.connect(lambda event: self._hear(made, event))
        job.ended.connect(lambda outcome: self._end(made, job, outcome))
        job.start()
        self._awake.hold(job.pid)

    def _hear(self, made: Download, event: events.Event) -> None:
        if not made.at_work:
            return
        match event:
            case events.Report(kind="model", data=data):
                made.total, made.done = data["size"], data["size"] - data["missing"]
                self._save()
            case events.Report(kind="verify", data=data):
                made.damage, made.repairable = tuple(data["damage"]), data["repairable"]
            case events.Phase(name="downloading"):
                made.doing, made.done, made.total = "downloading", event.done, event.total
                made.rate, made.eta = event.rate, event.eta
            case events.Phase(name="checking"):
                made.doing = "checking"
                if made.what != "download":  # of a download it is that of one file
                    made.done, made.total = event.done, event.total
            case _:
                return
        if not self._timer.isActive():
            self._timer.start()

    def _end(self, made: Download, job: Job, outcome: events.Finished | events.Failed) -> None:
        job.deleteLater()
        current = self.all.get(made.source)
        if current is not None and current.job is job:
            current.job = None
        made.job = None
        if made.doing == "leaving":
            self._erase(made)
        elif current is made and made.doing != "paused":
            self._close(made, job, outcome)
        self._save()
        self._next()

    def _close(self, made: Download, job: Job, outcome: events.Finished | events.Failed) -> None:
        """It came to its end by itself."""
        if isinstance(outcome, events.Failed):
            made.doing, made.failed, made.tail = "failed", outcome, tuple(job.tail)
            self.refused.emit(made)
        elif outcome.reason == "stopped":
            made.doing = "paused"
        else:
            del self.all[made.source]
            (self.verified if made.what == "verify" else self.arrived).emit(made)

    def _erase(self, made: Download) -> None:
        """Take away what has arrived of a download nobody wants."""
        self.all.pop(made.source, None)
        if made.what != "download":
            return
        what = jobs.DeleteJob(model=made.source, root=str(self._root), unfinished=True)
        self.erasing.ask(what, lambda _: self.changed.emit(), lambda _: self.changed.emit())

    def _take_begun(self, found: list[Begun]) -> None:
        for one in found:
            self.all.setdefault(
                one.source,
                Download(
                    source=one.source, title=one.title, doing="paused", done=one.done,
                    total=one.total,
                ),
            )  # fmt: skip
        self._save()
        self.changed.emit()

    def _save(self) -> None:
        kept = [
            Begun(one.source, one.title, one.done, one.total)
            for one in self.all.values()
            if one.what == "download" and one.doing != "leaving"
        ]
        if kept == _read(self._file):
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._file, msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def _read(file: Path) -> list[Begun]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Begun])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []


def _begun(kept: list[Begun]) -> list[Begun]:
    """What was begun and is not whole, with the bytes that are here; reads the cache."""
    known = {one.source: one for one in kept}
    for one in unfinished():
        if one.kind == "model":
            known.setdefault(one.repository, _named(one.repository))
    return [
        msgspec.structs.replace(one, done=_arrived(one))
        for one in known.values()
        if not _is_whole(one.source)
    ]


def _named(repository: str) -> Begun:
    entry = find_variant(repository)
    title = entry.title if entry else repository.rpartition("/")[2]
    return Begun(repository, title, 0, entry.size if entry else 0)


def _arrived(one: Begun) -> int:
    place = repository_folder(one.source, "model") / "blobs"
    try:
        found = sum(path.stat().st_size for path in place.iterdir() if path.is_file())
    except OSError:
        return 0
    return min(found, one.total) if one.total else found


def _is_whole(source: str) -> bool:
    try:
        check_model(source)
    except (UserError, OSError):
        return False
    return True
