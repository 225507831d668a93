"""A run as it stands: the fold of its events, read from disk or heard live from its job."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from mlx_lora import events
from mlx_lora.config import RunConfig
from mlx_lora.errors import UserError
from mlx_lora.runs import Run, RunState, fold

if TYPE_CHECKING:
    from app.jobs import Job
    from app.tasks import Tasks

_REPAINT, _RECENT, _NOTICES = 100, 400, 20


class Beside(msgspec.Struct, kw_only=True):
    """What a run's state does not keep, but a person looks at.

    Attributes:
        config: what the run was made with; None where that cannot be read.
        engine: what its engine said of itself; empty for runs from before there was a choice.
        saved: the newest step that is on disk.
        pid, said: of the last worker on this run, and how many of its events are in here.
    """

    phase: events.Phase = events.Phase("")
    last_step: events.TrainStep | None = None
    setup: dict[str, object] = {}
    engine: dict[str, object] = {}
    notices: list[events.Notice] = []
    recent: deque[events.Event] = msgspec.field(default_factory=lambda: deque(maxlen=_RECENT))
    config: RunConfig | None = None
    heard: int = 0
    saved: int = 0
    pid: int = 0
    said: int = 0


class RunProgress(QObject):
    """Follows one run; `changed` at most ten times a second, `ended` when its job did.

    Attributes:
        heard: an event was folded in.
        run: the run that is followed, None where the project has none yet.
        state: what its events add up to; `queued` while its job waits.
        beside: what else was said.
        loading: its past is being read.
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
        self.state, self.beside = RunState(), Beside()
        self.loading, self.quiet = False, False
        self._early: list[tuple[int, events.Event]] = []
        self._told = 0.0
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._tell)

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
    def asked(self) -> str:
        """What its worker was told and has not done yet: pause, resume, stop, or nothing."""
        asked = self.job.asked if self.job is not None and self.live else ""
        done = {"pause": self.phase.name == "paused", "resume": self.phase.name != "paused"}
        return "" if done.get(asked) else asked

    @property
    def usable(self) -> bool:
        """Whether there is something to compare and export."""
        run = self.run
        return run is not None and (run.adapter.is_dir() or self.state.best_step is not None)

    @property
    def phase(self) -> events.Phase:
        """What the worker does now, with how far it is."""
        return self.beside.phase

    @property
    def last_step(self) -> events.TrainStep | None:
        """The newest step, for speed, memory and time left."""
        return self.beside.last_step

    @property
    def saved(self) -> int:
        """The newest step that is on disk, 0 before the first."""
        return self.beside.saved

    @property
    def setup(self) -> dict[str, object]:
        """The facts of the run before its first step."""
        return self.beside.setup

    @property
    def notices(self) -> list[events.Notice]:
        """Sentences worth reading, newest last."""
        return self.beside.notices

    def follow(self, run: Run | None, job: Job | None = None) -> None:
        """Show another run; its past is read off the window's thread."""
        same = run is not None and self.run is not None and run.folder == self.run.folder
        if self.job is not job:
            self._listen(job)
        self.run, self._early, self.quiet = run, [], False
        if not same:
            self.state, self.beside = RunState(), Beside()
        self.loading = run is not None
        if run is not None:
            self._tasks.run(lambda: read_past(run), lambda past: self._adopt(run, *past))
        self._tell()

    def refresh(self) -> None:
        """Something about the job changed that no event says, such as what it was told."""
        self._tell()

    def _listen(self, job: Job | None) -> None:
        """To this job, and no longer to the one before."""
        if self.job is not None:
            self.job.said.disconnect(self._hear)
            self.job.ended.disconnect(self._end)
            self.job.silent.disconnect(self._set_quiet)
        self.job = job
        if job is not None:
            job.said.connect(self._hear)
            job.ended.connect(self._end)
            job.silent.connect(self._set_quiet)

    def _adopt(self, run: Run, state: RunState, beside: Beside) -> None:
        """The past is read: fold in what was heard meanwhile."""
        if run is not self.run:
            return
        self.loading, self.state, self.beside = False, state, beside
        early, self._early = self._early, []
        for number, event in early:
            self._take(number, event)
        if self.job is not None and self.job.outcome is not None:
            self._settle(self.job.outcome)
        self._tell()

    def _hear(self, event: events.Event) -> None:
        number = self.job.count if self.job is not None else 0
        if self.loading:
            self._early.append((number, event))
        else:
            self._take(number, event)

    def _take(self, number: int, event: events.Event) -> None:
        """Fold one more event, unless it was read from the log: it is there before it is sent."""
        past, job = self.beside, self.job
        if job is not None and job.worker and job.worker == past.pid and number <= past.said:
            return
        fold(self.state, event)
        note(self.beside, event)
        self.heard.emit(event)
        if not self._timer.isActive():
            waited = (time.monotonic() - self._told) * 1000
            self._timer.start(max(0, round(_REPAINT - waited)))

    def _tell(self) -> None:
        self._timer.stop()
        self._told = time.monotonic()
        self.changed.emit()

    def _end(self, outcome: events.Finished | events.Failed) -> None:
        self.quiet = False
        if not self.loading:
            self._settle(outcome)
        self._tell()
        self.ended.emit(outcome)

    def _settle(self, outcome: events.Finished | events.Failed) -> None:
        """How it ended, where the worker could not say so itself."""
        spoke = self.job is not None and self.job.count > 0
        open_ended = self.state.status in {"running", "interrupted"}
        if isinstance(outcome, events.Failed) or (spoke and open_ended):
            fold(self.state, outcome)

    def _set_quiet(self, quiet: bool) -> None:
        self.quiet = quiet
        self._tell()


def note(beside: Beside, event: events.Event) -> None:
    """Keep what is worth showing of an event."""
    beside.heard += 1
    beside.said += 1
    beside.recent.append(event)
    match event:
        case events.Hello():
            beside.pid, beside.said, beside.notices = event.pid, 1, []
        case events.Phase():
            beside.phase = event
            beside.saved = event.done if event.name == "resumed" else beside.saved
        case events.TrainStep():
            beside.last_step = event
            # after a validation nothing says that training goes on, but the next step
            beside.phase = events.Phase("training", event.step, event.steps)
        case events.CheckpointSaved(step=step):
            beside.saved = step
        case events.Report(kind="setup"):
            beside.setup = event.data
        case events.Report(kind="engine"):
            beside.engine = event.data
        case events.Notice():
            beside.notices = [*beside.notices[1 - _NOTICES :], event]
        case _:
            pass


def read_past(run: Run) -> tuple[RunState, Beside]:
    """The past of a run; `interrupted` where nobody works on it and it never ended."""
    state, beside = RunState(), Beside()
    with suppress(UserError):
        beside.config = run.record().config
    with suppress(OSError):  # as much of it as can be read
        for event in run.events():
            fold(state, event)
            note(beside, event)
    if state.status == "running" and not run.is_locked():
        state.status = "interrupted"
    return state, beside
