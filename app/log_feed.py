"""What is new of a run's log, put into the view that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.models.stage import line_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from app.models.run_progress import RunProgress
    from app.tasks import Tasks
    from app.widgets.log_view import LogView
    from mlx_lora.events import Event

_TAIL = 1 << 16


class LogFeed:
    """Events as lines, and the end of what the worker printed."""

    def __init__(
        self, progress: RunProgress, tasks: Tasks, events: LogView, output: LogView
    ) -> None:
        self._progress, self._tasks = progress, tasks
        self._events, self._output = events, output
        self._owner: object = None
        self._known = 0
        self._printed: list[str] = []

    def show(self, view: str) -> None:
        """Bring the view that is looked at up to date."""
        if view == "log":
            self._show_events()
        elif view == "output":
            self._show_output()

    def _show_events(self) -> None:
        """Only what is new, so that nothing jumps while somebody reads."""
        beside = self._progress.beside
        recent, fresh = list(beside.recent), beside.heard - self._known
        if self._owner is beside and fresh <= len(recent):
            self._events.append_lines(_lines(recent[len(recent) - fresh :]))
        else:
            self._events.show_lines(_lines(recent))
        self._owner, self._known = beside, beside.heard

    def _show_output(self) -> None:
        job, run = self._progress.job, self._progress.run
        if job is not None and job.count:
            self._say(list(job.tail))
        elif run is not None:
            self._tasks.run(lambda: _tail(run.folder / "worker.log"), self._say)

    def _say(self, lines: list[str]) -> None:
        lines = lines or ["Nothing was printed."]
        if lines != self._printed:
            self._printed = lines
            self._output.show_lines(lines)


def _lines(events: Iterable[Event]) -> list[str]:
    return [text for event in events if (text := line_of(event))]


def _tail(path: Path) -> list[str]:
    """The last lines of a file; none where it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
