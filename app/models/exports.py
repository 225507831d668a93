"""Exports of the project's run: what can be made, what was chosen, what is being made.

Sizes and refusals are read off the window's thread; every export is a job of its own in the queue.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from PySide6.QtCore import QObject, Signal

from app.jobs import Job
from app.problems import problem_of
from mlx_lora import events
from mlx_lora.export.formats import target
from mlx_lora.export.order import export_job
from mlx_lora.export.plan import plan_exports
from mlx_lora.storage import expanded
from mlx_lora.trained import trained_run

if TYPE_CHECKING:
    from app.desk import Desk
    from app.problems import Problem
    from mlx_lora.errors import UserError
    from mlx_lora.export.plan import ExportPlan
    from mlx_lora.runs import Run
    from mlx_lora.trained import Trained

Doing = Literal["waiting", "running", "done", "failed", "stopped"]
# what is to be had at first: one file most programs take
_FIRST = "gguf"


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """One export that was ordered.

    Attributes:
        form, quant: what it is.
        out: where it goes.
        phase: what the worker does for it now; `heard` what it did before.
        report: what came of it, of the worker's report `export`.
        failed: why it is not there.
    """

    form: str
    quant: str
    out: Path
    doing: Doing = "waiting"
    phase: events.Phase = events.Phase("")
    heard: tuple[str, ...] = ()
    report: dict[str, Any] = {}
    failed: events.Failed | None = None


class Exports(QObject):
    """Follows the run of the project; `changed` after every change.

    Attributes:
        plan: what can be made of the run, None until it is read.
        problem: why it cannot be read.
        quants: the precision chosen for each format.
        chosen: the formats that are wanted.
        free: bytes free where they go.
        makings: what was ordered since the page was opened, in order.
        trained: the run's adapter on its base, once it is read.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.plan: ExportPlan | None = None
        self.problem: Problem | None = None
        self.quants: dict[str, str] = {}
        self.chosen: set[str] = set()
        self.free = 0
        self.makings: list[Making] = []
        self.trained: Trained | None = None
        self._jobs: dict[Job, int] = {}
        self._of: tuple[object, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether something ordered is not ended yet."""
        return any(made.doing in {"waiting", "running"} for made in self.makings)

    @property
    def needed(self) -> tuple[int, float]:
        """(bytes on disk while they are made, seconds) of everything that is chosen."""
        choices = [self.plan.formats[form].choice(self.quants[form]) for form in self.chosen] if (
            self.plan
        ) else []  # fmt: skip
        scratch = max((choice.scratch for choice in choices), default=0)
        seconds = sum(choice.seconds for choice in choices)
        return sum(choice.nbytes for choice in choices) + scratch, seconds

    @property
    def missing(self) -> int:
        """Bytes that are needed and not free."""
        return max(0, self.needed[0] - self.free)

    def look(self) -> None:
        """Read what can be made, unless it is known of this run and checkpoint."""
        run, step = self._desk.progress.run, self._desk.chosen.checkpoint
        of = (run.name if run else None, step, self._desk.progress.usable)
        if of == self._of:
            return
        if of[0] != (self._of[0] if self._of else None):
            self.makings, self._jobs = [], {}
        self._of, self.plan, self.problem = of, None, None
        if run is not None and self._desk.progress.usable:
            place = self.folder()
            self._desk.tasks.run(
                lambda: _read(run, step, place), lambda found: self._adopt(of, found), self._refuse
            )
        self.changed.emit()

    def choose(self, form: str, *, wanted: bool) -> None:
        """Take a format, or leave it."""
        (self.chosen.add if wanted else self.chosen.discard)(form)
        self.changed.emit()

    def set_quant(self, form: str, quant: str) -> None:
        """Another precision."""
        self.quants[form] = quant
        self.changed.emit()

    def folder(self) -> Path:
        """Where exports of this run go."""
        run = self._desk.progress.run
        own = self._desk.settings.value.exports_folder
        assert run is not None
        return expanded(own) / run.name if own else run.folder / "exports"

    def place(self, form: str, quant: str) -> Path:
        """Where one of them goes."""
        run = self._desk.progress.run
        assert run is not None
        name = target(None, run.folder, form, quant).name
        return self.folder() / name

    def there(self) -> list[Path]:
        """Places of what is chosen that are taken already."""
        places = (self.place(form, self.quants[form]) for form in sorted(self.chosen))
        return [place for place in places if place.exists()]

    def start(self, *, overwrite: bool = False) -> None:
        """Order everything that is chosen, in the order of the cards."""
        self.makings = [made for made in self.makings if made.doing in {"waiting", "running"}]
        self._jobs = {}
        for form in self.plan.formats if self.plan else ():
            if form in self.chosen:
                self._order(form, self.quants[form], overwrite=overwrite)
        self.changed.emit()

    def retry(self, at: int) -> None:
        """Make one again that failed."""
        made = self.makings.pop(at)
        self._jobs = {job: n - (n > at) for job, n in self._jobs.items() if n != at}
        self._order(made.form, made.quant, overwrite=True)
        self.changed.emit()

    def stop(self) -> None:
        """Make no more of them; what is half-written is taken away by its worker."""
        for job, at in list(self._jobs.items()):
            if self.makings[at].doing in {"waiting", "running"}:
                self._desk.queue.cancel(job)

    def _order(self, form: str, quant: str, *, overwrite: bool) -> None:
        run, trained = self._desk.progress.run, self.trained
        assert run is not None
        assert trained is not None
        out = self.place(form, quant)
        what = export_job(
            self._desk.runs.root, trained, run, form=(form, quant), out=out, overwrite=overwrite
        )
        job, at = Job(what, title=run.name), len(self.makings)
        self.makings.append(Making(form=form, quant=quant, out=out))
        self._jobs[job] = at
        job.said.connect(lambda event: self._hear(job, event))
        job.ended.connect(lambda outcome: self._end(job, outcome))
        self._desk.queue.add(job)

    def _hear(self, job: Job, event: events.Event) -> None:
        match event:
            case events.Phase():
                made = self.makings[self._jobs[job]]
                before = made.heard if event.name in made.heard else (*made.heard, event.name)
                self._set(job, doing="running", phase=event, heard=before)
            case events.Hello():
                self._set(job, doing="running")
            case events.Report(kind="export"):
                self._set(job, report=event.data)
            case _:
                pass

    def _end(self, job: Job, outcome: events.Finished | events.Failed) -> None:
        if isinstance(outcome, events.Failed):
            self._set(job, doing="failed", failed=outcome)
        else:
            self._set(job, doing="stopped" if outcome.reason == "stopped" else "done")
        progress = self._desk.progress
        progress.follow(progress.run, progress.job)  # the verdict is in the run's own log

    def _set(self, job: Job, **changes: Any) -> None:
        if job in self._jobs:
            at = self._jobs[job]
            self.makings[at] = msgspec.structs.replace(self.makings[at], **changes)
            self.changed.emit()

    def _adopt(self, of: tuple[object, ...], found: tuple[ExportPlan, Trained, int]) -> None:
        if of == self._of:
            self.trained = found[1]
            self.show_plan(found[0], found[2])

    def show_plan(self, plan: ExportPlan, free: int) -> None:
        """What can be made is known: the recommended file is chosen already."""
        self.plan, self.free = plan, free
        able = plan.instead()
        self.quants = {
            form: self.quants.get(form) or plan.formats[form].recommended for form in able
        }
        first = _FIRST if _FIRST in able else next(iter(able), "")
        self.chosen = self.chosen.intersection(able) or {first} - {""}
        self.changed.emit()

    def _refuse(self, error: UserError) -> None:
        self.problem = problem_of(error)
        self.changed.emit()


def _read(run: Run, step: int | None, place: Path) -> tuple[ExportPlan, Trained, int]:
    """What can be made of a run, and how much disk is free in the place it goes to."""
    trained = trained_run(run, step)
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return plan_exports(trained, Path(trained.adapter)), trained, free
