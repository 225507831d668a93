"""What packing a model to fewer bits costs, measured by the worker before anything is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.jobs import Job
from app.problems import Problem, problem_of
from mlx_lora import events
from mlx_lora.export.order import measure_job

if TYPE_CHECKING:
    from app.desk import Desk
    from mlx_lora.trained import Trained


class Measurement(QObject):
    """One measuring at a time; what it finds is kept in the run's own log.

    Attributes:
        job: at work or waiting, else None.
        problem: why the last one found nothing.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.job: Job | None = None
        self.problem: Problem | None = None

    @property
    def kept(self) -> dict[str, float]:
        """Width -> share of next tokens that stay the same; empty where it was not measured."""
        lines = self._desk.progress.state.fuse_loss.get("lines", [])
        return {str(line["bits"]): line["difference"]["top1"] for line in lines}

    def start(self, trained: Trained | None) -> None:
        """Order it, unless it is at work."""
        run = self._desk.progress.run
        if run is None or trained is None or self.job is not None:
            return
        self.problem = None
        self.job = Job(measure_job(self._desk.runs.root, trained, run), title=run.name)
        self.job.ended.connect(self._end)
        self._desk.queue.add(self.job)
        self.changed.emit()

    def _end(self, outcome: events.Finished | events.Failed) -> None:
        self.job = None
        self.problem = problem_of(outcome) if isinstance(outcome, events.Failed) else None
        progress = self._desk.progress
        progress.follow(progress.run, progress.job)
        self.changed.emit()
