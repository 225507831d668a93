"""Starting, pausing and resuming the project's run. Checks run off the window's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QObject, Signal

from app.jobs import Job
from app.project import build_run_config, recipe_of
from mlx_lora import jobs
from mlx_lora.errors import UserError
from mlx_lora.preflight import make_record

if TYPE_CHECKING:
    from pathlib import Path

    from app.jobs import JobQueue
    from app.models.run_progress import RunProgress
    from app.project import Project, ProjectStore
    from app.tasks import Tasks
    from mlx_lora.runs import Run, RunStore


class Training(QObject):
    """What the buttons of Configure and Train do; `failed` carries a `UserError`."""

    failed = Signal(object)
    started = Signal()

    def __init__(
        self,
        project: ProjectStore,
        runs: RunStore,
        queue: JobQueue,
        progress: RunProgress,
        tasks: Tasks,
    ) -> None:
        super().__init__()
        self._project, self._runs, self._queue = project, runs, queue
        self._progress, self._tasks = progress, tasks
        self.checking = False

    @property
    def resumable(self) -> bool:
        """Whether to start means to go on: a run broken off, of what is chosen now."""
        project = self._project.value
        broken_off = self._progress.status in {"stopped", "interrupted"}
        return broken_off and project.run is not None and project.recipe == recipe_of(project)

    def start(self) -> None:
        """Check everything that can be checked without the engine, make the run, line it up."""
        if self.checking:
            return
        project, file = self._project.value, self._project.file
        try:
            config = build_run_config(project)
        except UserError as error:
            self.failed.emit(error)
            return
        root, self.checking = self._runs.root, True
        self._tasks.run(
            lambda: self._runs.create(*make_record(config, root)),
            lambda run: self._line_up(run, project, file),
            self._refused,
        )
        self._progress.refresh()

    def resume(self, run: Run) -> None:
        """Go on with a run that was stopped, killed, or failed; once, however often it is asked."""
        if self._job_of(run) is not None:
            return
        job = self._job(run)
        self._progress.follow(run, job)
        self._queue.add(job)
        self.started.emit()

    def pause(self) -> None:
        """Wait after the step in hand."""
        self._tell("pause")

    def proceed(self) -> None:
        """Go on after a pause."""
        self._tell("resume")

    def stop(self) -> None:
        """Finish the step, save, end; a run that only waits leaves the queue."""
        if self._progress.job is not None:
            self._queue.cancel(self._progress.job)
            self._progress.refresh()

    def force_stop(self) -> None:
        """End the worker at once; what was saved stays."""
        if self._progress.job is not None:
            self._progress.job.kill()

    def show(self, name: str | None) -> None:
        """Follow the run of this name, live where its job is in the queue."""
        if name is None:
            self._progress.follow(None)
            return
        try:
            run = self._runs.find(name)
        except UserError:
            self._progress.follow(None)
            return
        self._progress.follow(run, self._job_of(run))

    def _line_up(self, run: Run, project: Project, file: Path) -> None:
        self.checking = False
        if self._project.file != file:  # another project is open by now: this one never asked
            self._tasks.run(lambda: self._runs.delete(run), lambda _: None)
            return
        job = self._job(run)
        # followed before the project names it: the window then finds it followed already
        self._progress.follow(run, job)
        self._project.update(run=run.name, recipe=recipe_of(project), checkpoint=None, votes=())
        self._queue.add(job)
        self.started.emit()

    def _job(self, run: Run) -> Job:
        what = jobs.TrainJob(run=str(run.folder), root=str(self._runs.root))
        return Job(what, title=run.name, log=run.folder / "worker.log")

    def _refused(self, error: UserError) -> None:
        self.checking = False
        self._progress.refresh()
        self.failed.emit(error)

    def _tell(self, what: Literal["pause", "resume"]) -> None:
        if self._progress.job is not None:
            self._progress.job.send(jobs.Command(type=what))
            self._progress.refresh()

    def _job_of(self, run: Run) -> Job | None:
        return next(
            (
                job
                for job in self._queue.jobs
                if isinstance(job.what, jobs.TrainJob) and job.what.run == str(run.folder)
            ),
            None,
        )
