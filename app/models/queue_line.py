"""The queue as it is shown: what works now and how far it is, what waits behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.models.run_row import named
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from app.jobs import Job, JobQueue

_KINDS = {
    jobs.TrainJob: "Training", jobs.ExportJob: "Export", jobs.EvaluateJob: "Measuring",
    jobs.CompareJob: "Comparing", jobs.GenerateJob: "Writing", jobs.InspectJob: "Reading data",
    jobs.LlamaJob: "Checking a file", jobs.MeasureJob: "Measuring", jobs.ProbeJob: "Measuring",
}  # fmt: skip
_PHASES = {
    "loading_model": "Loading the model", "reading_data": "Reading the data",
    "rendering": "Reading the data", "validation": "Measuring", "sampling": "Writing samples",
    "saving": "Saving", "paused": "Paused", "training": "Training",
    "probing": "Making three steps",
}  # fmt: skip
_REPAINT = 100


class QueueEntry(msgspec.Struct, frozen=True):
    """One job in the line.

    Attributes:
        key: tells it from the others.
        kind: what it does, in words.
        doing: what it does just now; empty where it waits.
        done, total: how far it is; no total where that is unknown.
    """

    key: int
    title: str
    kind: str
    running: bool
    doing: str = ""
    done: int = 0
    total: int = 0
    stopping: bool = False


class QueueLine(QObject):
    """Entries of the queue, the running one first; `changed` at most ten times a second."""

    changed = Signal()

    def __init__(self, queue: JobQueue) -> None:
        super().__init__()
        self._queue = queue
        self._job: Job | None = None
        self._phase: events.Phase | None = None
        self._step: events.TrainStep | None = None
        self._timer = QTimer(self, singleShot=True, interval=_REPAINT)
        self._timer.timeout.connect(self.changed)
        queue.changed.connect(self._follow)
        self._follow()

    @property
    def entries(self) -> list[QueueEntry]:
        """The whole line."""
        running = self._queue.running
        first = [self._running(running)] if running is not None else []
        return first + [_waiting(job) for job in self._queue.waiting]

    def job(self, key: int) -> Job | None:
        """The job of an entry, while it is in the queue."""
        return next((job for job in self._queue.jobs if id(job) == key), None)

    def end(self, key: int) -> None:
        """Take a waiting job out, or let the running one finish its step, save and leave."""
        job = self.job(key)
        if job is not None:
            self._queue.cancel(job)
            self.changed.emit()

    def move(self, key: int, by: int) -> None:
        """Let a waiting job go `by` places later, earlier when negative."""
        job = self.job(key)
        if job is not None and job in self._queue.waiting:
            self._queue.move(job, by)

    def _follow(self) -> None:
        job = self._queue.running
        if job is not self._job:
            self._job, self._phase, self._step = job, None, None
            if job is not None:
                job.said.connect(self._hear)
        self.changed.emit()

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.Phase):
            self._phase = event
        elif isinstance(event, events.TrainStep):
            self._phase, self._step = None, event
        else:
            return
        if not self._timer.isActive():
            self._timer.start()

    def _running(self, job: Job) -> QueueEntry:
        stopping = job.asked == "stop"
        entry = QueueEntry(id(job), _title(job), _kind(job), True, stopping=stopping)
        step, phase = self._step, self._phase
        doing = _words(phase) if phase else f"Step {step.step:,} of {step.steps:,}" if step else ""
        done, total = (step.step, step.steps) if step else (0, 0)
        if not total and phase:
            done, total = phase.done, phase.total
        return msgspec.structs.replace(
            entry, doing="Stopping" if stopping else doing or "Starting",
            done=done, total=total,
        )  # fmt: skip


def place_in_line(queue: JobQueue, job: Job | None) -> str:
    """Next in line, or number 3; and what works before it."""
    at = queue.waiting.index(job) + 1 if job is not None and job in queue.waiting else 1
    first = queue.running
    place = "Next in line" if at == 1 else f"Number {at} in line"
    return place + (f", after {_title(first)}" if first else "")


def _waiting(job: Job) -> QueueEntry:
    return QueueEntry(id(job), _title(job), _kind(job), False)


def _title(job: Job) -> str:
    return named(job.title)[1]


def _kind(job: Job) -> str:
    return _KINDS.get(type(job.what), "Work")


def _words(phase: events.Phase) -> str:
    return _PHASES.get(phase.name, phase.name.replace("_", " ").capitalize())
