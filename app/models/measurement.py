"""What packing a model to fewer bits costs, measured by the worker before anything is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Signal

from app.jobs import Job
from app.problems import Problem, problem_of
from mlx_lora import events
from mlx_lora.export.order import measure_job

if TYPE_CHECKING:
    from app.desk import Desk
    from mlx_lora.trained import Trained

_WIDTH = "measuring_"


class Kept(msgspec.Struct, frozen=True):
    """What was measured of an adapter: width -> share of next tokens that stay, the one to take."""

    shares: dict[str, float] = {}
    best: str = ""


class Measurement(QObject):
    """One measuring at a time; what it finds is kept in the run's own log.

    Attributes:
        job: at work or waiting, else None.
        doing: what it does now, in words.
        problem: why the last one found nothing.
    """

    changed = Signal()
    found = Signal(str)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.job: Job | None = None
        self.doing = ""
        self.problem: Problem | None = None

    def kept(self, step: int | None) -> Kept:
        """What is known of the adapter after `step`; empty where another one was measured."""
        said: dict[str, Any] = self._desk.progress.state.fuse_loss
        if not said or said.get("step") != step:
            return Kept()
        shares = {str(line["bits"]): line["difference"]["top1"] for line in said["lines"]}
        return Kept(shares, str(said["chosen"]))

    def start(self, trained: Trained | None) -> None:
        """Order it, unless it is at work."""
        run = self._desk.progress.run
        if run is None or trained is None or self.job is not None:
            return
        self.problem, self.doing = None, "Waiting"
        self.job = Job(measure_job(self._desk.runs.root, trained, run), title=run.name)
        self.job.said.connect(self._hear)
        self.job.ended.connect(self._end)
        self._desk.queue.add(self.job)
        self.changed.emit()

    def stop(self) -> None:
        """Never mind."""
        if self.job is not None:
            self.doing = "Stopping"
            self._desk.queue.cancel(self.job)
            self.changed.emit()

    def _hear(self, event: events.Event) -> None:
        match event:
            case events.Phase(name=name):
                width = name.removeprefix(_WIDTH)
                words = f"Measuring {width} bit" if width != name else "Asking the model"
            case events.Report(kind="fuse_loss", data=data):
                words = self.doing
                self.found.emit(str(data["chosen"]))
            case _:
                words = self.doing
        if self.doing not in {words, "Stopping"}:
            self.doing = words
            self.changed.emit()

    def _end(self, outcome: events.Finished | events.Failed) -> None:
        tail = tuple(self.job.tail) if self.job is not None else ()
        self.job, self.doing = None, ""
        self.problem = problem_of(outcome, tail) if isinstance(outcome, events.Failed) else None
        progress = self._desk.progress
        progress.follow(progress.run, progress.job)
        self.changed.emit()
