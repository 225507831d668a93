"""A run as it stands: the fold of its events, read from disk or heard live from its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from mlx_lora import events
from mlx_lora.runs import Run, RunState, fold

if TYPE_CHECKING:
    from app.jobs import Job
    from app.tasks import Tasks

_REPAINT = 100


class RunProgress(QObject):
    """Follows one run; `changed` at most ten times a second, `ended` when its job did.

    Attributes:
        run: the run that is followed, None where the project has none yet.
        state: what its events add up to; `queued` while its job waits.
        last_step: the newest step, for speed, memory and time left.
        phase: what the worker does now, with how far it is.
        setup: the facts of the run before its first step.
        notices: sentences worth reading, newest last.
        quiet: the worker has said nothing for too long.
    """

    changed = Signal()
    ended = Signal(object)
    heard = Signal(object)

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self.run: Run | None = None
        self.job: Job | None = None
        self._loading, self._early = False, list[events.Event]()
        self._timer = QTimer(self, singleShot=True, interval=_REPAINT)
        self._timer.timeout.connect(self.changed)
        self.state, self.phase = RunState(), events.Phase("")
        self.last_step: events.TrainStep | None = None
        self.setup: dict[str, object] = {}
        self.notices: list[events.Notice] = []
        self.quiet = False

    @property
    def live(self) -> bool:
        """Whether its job is at work."""
        return self.job is not None and self.job.state == "running"

    @property
    def status(self) -> str:
        """new, queued, running, paused, finished, stopped, interrupted or failed."""
        if self.job is not None and self.job.state == "waiting":
            return "queued"
        if self.live:
            return "paused" if self.phase.name == "paused" else "running"
        return self.state.status

    @property
    def usable(self) -> bool:
        """Whether there is something to compare and export."""
        run = self.run
        return run is not None and (run.adapter.is_dir() or self.state.best_step is not None)

    def follow(self, run: Run | None, job: Job | None = None) -> None:
        """Show another run; its past is read off the window's thread."""
        if self.job is not None and self.job is not job:
            self.job.said.disconnect(self._hear)
            self.job.ended.disconnect(self._end)
            self.job.silent.disconnect(self._set_quiet)
        fresh = job is not None and self.job is not job
        self.run, self.job, self._early = run, job, []
        self._clear()
        if job is not None and fresh:
            job.said.connect(self._hear)
            job.ended.connect(self._end)
            job.silent.connect(self._set_quiet)
        self._loading = run is not None
        if run is not None:
            self._tasks.run(lambda: _read(run), lambda found: self._adopt(run, found))
        self.changed.emit()

    def _adopt(self, run: Run, found: tuple[RunState, list[events.Event]]) -> None:
        """The past is read: fold in what was heard meanwhile."""
        if run is not self.run:
            return
        self._loading = False
        self.state, recent = found
        for event in recent:
            self._note(event)
        early, self._early = self._early, []
        for event in early:
            self._take(event)
        self.changed.emit()

    def _hear(self, event: events.Event) -> None:
        if self._loading:
            self._early.append(event)
        else:
            self._take(event)
            self.heard.emit(event)

    def _take(self, event: events.Event) -> None:
        """Fold one more event; those that were on disk already are known."""
        if isinstance(event, events.TrainStep) and event.step <= self.state.step:
            return
        if isinstance(event, events.Validation) and event in self.state.validations[-2:]:
            return
        fold(self.state, event)
        self._note(event)
        if not self._timer.isActive():
            self._timer.start()

    def _note(self, event: events.Event) -> None:
        """What a run's state does not keep, but a person looks at."""
        match event:
            case events.Phase():
                self.phase = event
            case events.TrainStep():
                self.last_step = event
            case events.Report(kind="setup"):
                self.setup = event.data
            case events.Notice():
                self.notices = [*self.notices[-19:], event]
            case _:
                pass

    def _end(self, outcome: events.Finished | events.Failed) -> None:
        if isinstance(outcome, events.Failed) or self.state.status == "running":
            fold(self.state, outcome)
        self.quiet = False
        self.changed.emit()
        self.ended.emit(outcome)

    def _set_quiet(self, quiet: bool) -> None:
        self.quiet = quiet
        self.changed.emit()

    def _clear(self) -> None:
        self.state, self.phase, self.last_step = RunState(), events.Phase(""), None
        self.setup, self.notices, self.quiet = {}, [], False


def _read(run: Run) -> tuple[RunState, list[events.Event]]:
    """The past of a run: its state, and the events a page wants beside it."""
    state, steps, kept = RunState(), list[events.TrainStep](), list[events.Event]()
    for event in run.events():
        fold(state, event)
        match event:
            case events.TrainStep():
                steps = [event]
            case events.Report(kind="setup") | events.Notice():
                kept.append(event)
            case _:
                pass
    if state.status == "running" and not run.is_locked():
        state.status = "interrupted"
    return state, [*kept, *steps]
