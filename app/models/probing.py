"""The project's run measured here, three steps at a time, until the largest batch is known.

Each batch size is a job of its own in the queue: one that ends for want of memory is an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal

from app.jobs import Job
from app.problems import Problem, problem_of
from app.project import build_run_config
from mlx_lora import events, fit, jobs
from mlx_lora.errors import UserError
from mlx_lora.preflight import make_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.desk import Desk
    from mlx_lora.config import RunConfig
    from mlx_lora.runs import RunRecord


class Measured(msgspec.Struct, frozen=True):
    """What is known of a configuration.

    Attributes:
        own: the try of its very batch size; None where only others were tried.
        best: the largest batch size that fits, 0 where none does; None while it is looked for.
    """

    own: fit.Try | None
    best: int | None


class Probing(QObject):
    """One search at a time; what it found holds for the configuration but for the batch size.

    Attributes:
        worker: makes the job of a probe.
        doing: what it does now, in words; empty where nothing is measured.
        problem: why the last one found nothing.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.worker: Callable[[jobs.ProbeJob], Job] = Job
        self.job: Job | None = None
        self.doing = ""
        self.problem: Problem | None = None
        self._tries: dict[bytes, list[fit.Try]] = {}
        self._done: set[bytes] = set()
        self._key = b""
        self._record: RunRecord | None = None
        self._said: list[events.Event] = []

    def known(self, config: RunConfig) -> Measured | None:
        """What was measured of a configuration; None where nothing was."""
        key = key_of(config)
        tries = self._tries.get(key)
        if not tries:
            return None
        own = next((t for t in tries if t.batch_size == config.training.batch_size), None)
        best = fit.largest(tries)
        return Measured(own, (best.batch_size if best else 0) if key in self._done else None)

    def toggle(self) -> None:
        """Begin, or leave it where it is."""
        if self.doing:
            self.stop()
        else:
            self.start()

    def start(self) -> None:
        """Check what can be checked without the engine, then try the batch size that is set."""
        if self.doing:
            return
        try:
            config = build_run_config(self._desk.chosen)
        except UserError as error:
            self._fail(error)
            return
        root, self.problem, self.doing = self._desk.runs.root, None, "Checking model and data"
        self._key = key_of(config)
        self._tries[self._key] = []
        self._done.discard(self._key)
        self._desk.tasks.run(lambda: make_record(config, root)[0], self._begin, self._fail)
        self.changed.emit()

    def stop(self) -> None:
        """Never mind; what was measured so far stays known."""
        if self.job is not None:
            self.doing = "Stopping"
            self._desk.queue.cancel(self.job)
            self.changed.emit()

    def _begin(self, record: RunRecord) -> None:
        self._record = record
        self._try(record.config.training.batch_size)

    def _try(self, batch: int) -> None:
        assert self._record is not None
        record = fit.with_batch(self._record, batch)
        what = jobs.ProbeJob(record=record, root=str(self._desk.runs.root))
        job = self.job = self.worker(what)
        job.title, self._said = f"{self._desk.chosen.name}, batch {batch:,}", []
        self.doing = f"Three steps at batch {batch:,}"
        job.said.connect(self._said.append)
        job.ended.connect(lambda outcome: self._end(batch, outcome, job))
        self._desk.queue.add(job)
        self.changed.emit()

    def _end(self, batch: int, outcome: events.Finished | events.Failed, job: Job) -> None:
        self.job = None
        try:
            found = fit.read_try(batch, self._said, outcome, self._desk.memory_limit)
        except UserError as error:
            self._fail(error, tuple(job.tail))
            return
        tries = self._tries[self._key]
        if found is not None:
            tries.append(found)
            further = fit.next_batch(tries)
            if further is not None and self.doing != "Stopping":
                self._try(further)
                return
            if further is None:
                self._done.add(self._key)
        self.doing = ""
        self.changed.emit()

    def _fail(self, error: UserError, tail: tuple[str, ...] = ()) -> None:
        self.doing, self.problem = "", problem_of(error, tail)
        self.changed.emit()


def key_of(config: RunConfig) -> bytes:
    """Everything that decides what a step takes, but for the batch size."""
    training = msgspec.structs.replace(config.training, batch_size=1)
    return msgspec.json.encode(msgspec.structs.replace(config, training=training), order="sorted")
