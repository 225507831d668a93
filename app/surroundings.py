"""Everything around the page: steps, title, the strip at work, menus, the Dock's badge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.models.run_row import named
from app.project import build_run_config
from app.steps import facts_of, marks
from app.words import summaries
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from app.desk import Desk
    from app.main_window import MainWindow
    from app.menus import Menus
    from app.tray import Tray


class Surroundings:
    """Says what the project, its run and the queue add up to."""

    def __init__(self, desk: Desk, window: MainWindow, menus: Menus, tray: Tray) -> None:
        self._desk, self._window, self._menus, self._tray = desk, window, menus, tray

    def refresh(self) -> None:
        """As it is now."""
        project, progress = self._desk.chosen, self._desk.progress
        found = marks(project, facts_of(progress, valid=self._valid()))
        self._window.sidebar.project.setText(project.name)
        self._window.setWindowTitle(f"{project.name} – Understudy")
        self._window.say_steps(found, summaries(project, progress))
        self.say_work()
        self._tray.say_progress(progress.state.step if progress.live else 0, progress.state.steps)
        self._menus.say_training(
            can_start=found["configure"] in {"open", "done"} and not progress.live,
            running=progress.live, paused=progress.status == "paused",
            resumable=self._desk.training.resumable,
        )  # fmt: skip

    def say_work(self) -> None:
        """What is at work, how far, and how many wait behind it."""
        progress, queue = self._desk.progress, self._desk.queue
        text, done, total = "", progress.state.step, progress.state.steps
        if progress.live:
            text = "Paused" if progress.status == "paused" else "Training"
        elif queue.running is not None:
            text, done, total = f"At work: {named(queue.running.title)[1]}", 0, 0
        elif (coming := self._desk.downloads.running) is not None:
            verb = "Downloading" if coming.what == "download" else "Checking"
            text, done, total = f"{verb} {coming.title}", round(1000 * coming.share), 1000
        waiting = f" · {len(queue.waiting)} waiting" if queue.waiting and text else ""
        self._window.sidebar.say_work(f"{text}{waiting}", done, total)

    def _valid(self) -> bool:
        project = self._desk.chosen
        if project.model is None or project.data is None:
            return False
        try:
            build_run_config(project)
        except UserError:
            return False
        return True
