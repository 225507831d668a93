"""Exports on their way: each a job of its own in the queue, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.jobs import Job
from mlx_lora import events, jobs
from mlx_lora.errors import UserError
from mlx_lora.runs import Run
from mlx_lora.trained import adapter_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.desk import Desk

Doing = Literal["waiting", "running", "done", "failed", "stopped"]
_AT_WORK, _REPAINT = {"waiting", "running"}, 100


class Making(msgspec.Struct, kw_only=True, eq=False):
    """One export that was ordered.

    Attributes:
        run: name of the run it is of; `step` of the checkpoint, None for what the run keeps.
        form, quant: what it is.
        out: where it goes.
        seconds: about how long it was said to take.
        phase: what the worker does for it now; `heard` what it did before.
        report: what came of it, of the worker's report `export`.
        failed: why it is not there; `tail` the end of what the worker printed.
        job: which makes it.
    """

    run: str
    form: str
    quant: str
    out: Path
    step: int | None = None
    seconds: float = 0.0
    doing: Doing = "waiting"
    phase: events.Phase = events.Phase("")
    heard: tuple[str, ...] = ()
    report: dict[str, Any] = {}
    failed: events.Failed | None = None
    tail: tuple[str, ...] = ()
    job: Job | None = None

    @property
    def busy(self) -> bool:
        """Whether it is not ended yet."""
        return self.doing in _AT_WORK


class Makings(QObject):
    """What was ordered since the page was opened; `changed` at most ten times a second.

    Attributes:
        ended: how many ended so far.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._all: list[Making] = []
        self.ended = 0
        self._timer = QTimer(self, singleShot=True, interval=_REPAINT)
        self._timer.timeout.connect(self.changed)
        desk.queue.starting.connect(self._take_what_is_kept)

    @property
    def shown(self) -> list[Making]:
        """Those of the project's run, in order."""
        run = self._desk.progress.run
        return [made for made in self._all if run is not None and made.run == run.name]

    @property
    def busy(self) -> bool:
        """Whether one of the project's run is not ended yet."""
        return any(made.busy for made in self.shown)

    def clear(self) -> None:
        """Forget those that ended."""
        self._all = [made for made in self._all if made.busy]

    def start(self, made: Making, what: jobs.ExportJob) -> None:
        """Line one up."""
        self._all.append(made)
        self._order(made, what)

    def retry(self, made: Making) -> None:
        """Make one again that failed or was stopped."""
        assert made.job is not None
        assert isinstance(made.job.what, jobs.ExportJob)
        again = Making(
            run=made.run, form=made.form, quant=made.quant, out=made.out, step=made.step,
            seconds=made.seconds,
        )  # fmt: skip
        self._all[self._all.index(made)] = again
        self._order(again, made.job.what)
        self.changed.emit()

    def stop(self) -> None:
        """Make no more of them; what is half-written is taken away by its worker."""
        for made in self.shown:
            if made.busy and made.job is not None:
                self._desk.queue.cancel(made.job)
        self.changed.emit()

    def show(self, makings: Sequence[Making]) -> None:
        """Show these as what was ordered."""
        self._all = list(makings)
        self.changed.emit()

    def _order(self, made: Making, what: jobs.ExportJob) -> None:
        made.job = job = Job(what, title=made.run)
        job.said.connect(lambda event: self._hear(made, event))
        job.ended.connect(lambda outcome: self._end(made, outcome))
        self._desk.queue.add(job)

    def _take_what_is_kept(self, job: Job) -> None:
        """A run may have gone on since its export was lined up: take the adapter it keeps now."""
        made, what = next((made for made in self._all if made.job is job), None), job.what
        if made is None or made.step is not None or not isinstance(what, jobs.ExportJob):
            return
        if what.run is None:
            return
        try:
            folder = adapter_folder(Run(Path(what.run)))
        except UserError:  # the worker will say so
            return
        job.what = msgspec.structs.replace(what, adapter=str(folder))

    def _hear(self, made: Making, event: events.Event) -> None:
        match event:
            case events.Phase(name=name):
                made.phase, made.doing = event, "running"
                made.heard = made.heard if name in made.heard else (*made.heard, name)
            case events.Hello():
                made.doing = "running"
            case events.Report(kind="export"):
                made.report = event.data
            case _:
                return
        if not self._timer.isActive():
            self._timer.start()

    def _end(self, made: Making, outcome: events.Finished | events.Failed) -> None:
        if isinstance(outcome, events.Failed):
            made.doing, made.failed = "failed", outcome
            made.tail = tuple(made.job.tail) if made.job is not None else ()
        else:
            made.doing = "stopped" if outcome.reason == "stopped" else "done"
        self.ended += 1
        progress = self._desk.progress
        if progress.run is not None and progress.run.name == made.run:
            progress.follow(progress.run, progress.job)  # the verdict is in the run's own log
        self.changed.emit()
