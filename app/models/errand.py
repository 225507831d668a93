"""A short question asked of a worker, one at a time; a new one replaces the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QCoreApplication, QObject, Signal

from app.jobs import Job
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    Then = Callable[[dict[str, Any]], object]
    Otherwise = Callable[[events.Failed], object]


class Errand(QObject):
    """Asks; `changed` when it begins or is over.

    Attributes:
        worker: makes the job of a question.
        job: which answers now, None where nothing is asked.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.worker: Callable[[Any], Job] = Job
        self.job: Job | None = None
        self._dying: set[Job] = set()
        over = QCoreApplication.instance()
        if over is not None:
            over.aboutToQuit.connect(self.leave)

    def ask(self, what: jobs.Errand, then: Then, otherwise: Otherwise) -> None:
        """Ask a worker; its report goes to `then`, its failure to `otherwise`."""
        self.cancel()
        job, reports = self.worker(what), list[dict[str, Any]]()
        self.job = job
        job.said.connect(
            lambda event: reports.append(event.data) if isinstance(event, events.Report) else None
        )
        job.ended.connect(lambda outcome: self._end(job, outcome, reports, then, otherwise))
        job.start()
        if isinstance(what, jobs.TokenJob):
            job.what = jobs.TokenJob(act=what.act)  # it was sent; nothing here keeps the token
        self.changed.emit()

    def cancel(self) -> None:
        """Do not wait for the answer."""
        job, self.job = self.job, None
        if job is not None and job.state == "running":
            self._dying.add(job)
            job.kill()
            self.changed.emit()

    def leave(self) -> None:
        """The app ends: nobody hears the answer any more."""
        self.cancel()
        for job in tuple(self._dying):
            job.wait(2)

    def _end(
        self,
        job: Job,
        outcome: events.Finished | events.Failed,
        reports: list[dict[str, Any]],
        then: Then,
        otherwise: Otherwise,
    ) -> None:
        job.deleteLater()
        if job is not self.job:
            self._dying.discard(job)
            return
        self.job = None
        self.changed.emit()
        if isinstance(outcome, events.Failed):
            otherwise(outcome)
        elif reports:
            then(reports[-1])
