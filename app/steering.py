"""What a person does to a run: pause, resume, stop, force, begin again, and the sheets for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.widgets.button import Button
from app.widgets.sheet import ask
from mlx_lora.config import merge

if TYPE_CHECKING:
    from PySide6.QtWidgets import QMessageBox, QWidget

    from app.desk import Desk
    from app.models.hints import Changes

# failures after which the very same run may well go on
RESUMABLE = {
    "busy", "crashed", "disk_full", "engine", "internal", "killed", "not_responding",
    "out_of_memory", "no_permission", "storage",
}  # fmt: skip


class Steering:
    """The buttons at the top of Train, and what they and the menu do.

    Attributes:
        pause: Pause, Resume or Start, as the run stands.
        stop: Stop, or Cancel while it waits in line.
        sheet: the question that is open, or was last.
    """

    def __init__(self, desk: Desk, parent: QWidget) -> None:
        self._desk, self._parent, self._progress = desk, parent, desk.progress
        self.sheet: QMessageBox | None = None
        self.pause = Button("Pause", self.pause_or_go_on, icon="pause")
        self.stop = Button("Stop…", self.ask_to_stop, kind="danger", icon="stop")

    @property
    def resumable(self) -> bool:
        """Whether this run can go on as it is."""
        progress, failure = self._progress, self._progress.state.failure
        if progress.run is None or progress.live:
            return False
        if progress.status == "failed":
            return failure is not None and failure.code in RESUMABLE
        return progress.status in {"stopped", "interrupted", "new"}

    def show(self) -> None:
        """The buttons as the run stands."""
        progress, status = self._progress, self._progress.status
        paused = status == "paused" or progress.asked == "pause"
        going = progress.live and not paused
        self.pause.setVisible(progress.live or self.resumable)
        self.pause.setEnabled(progress.asked != "stop")
        self.stop.setVisible(progress.live or status == "queued")
        words = "Pause" if going else "Start" if status == "new" else "Resume"
        if self.pause.text() != words:
            self.pause.say(words)
            self.pause.set_icon("pause" if going else "play")
        words = "Cancel" if status == "queued" else "Stop…"
        if self.stop.text() != words:
            self.stop.say(words)

    def pause_or_go_on(self) -> None:
        """Pause what works, go on with what does not."""
        training = self._desk.training
        if self._progress.status == "paused" or self._progress.asked == "pause":
            training.proceed()
        elif self._progress.live:
            training.pause()
        else:
            self.resume()

    def resume(self) -> None:
        """Go on from the newest checkpoint, with the settings the run began with."""
        if self._progress.run is not None:
            self._desk.training.resume(self._progress.run)

    def start_with(self, changes: Changes) -> None:
        """A new run with other settings; the one before stays as it is."""
        self._desk.project.update(settings=merge(self._desk.chosen.settings, changes))
        self._desk.training.start()

    def ask_to_stop(self) -> None:
        """A run that waits leaves the line at once; one that works is asked about."""
        progress = self._progress
        if progress.status == "queued":
            self._desk.training.stop()
        elif not progress.live:
            return
        elif progress.asked == "stop":
            text = "It saves and stops by itself when the step in hand is done."
            self.ask_to_force("Still finishing the step", text)
        else:
            text = (
                "The step in hand is finished and saved first. You can resume it any time, "
                "exactly where it stopped."
            )
            self._ask("Stop training?", text, "Stop and Save", "Keep Training", force=False)

    def ask_to_force(
        self, title: str = "Force it to stop?", text: str = "It may still recover by itself."
    ) -> None:
        """Ask before the worker is ended in the middle of something; nobody else ever does it."""
        saved = self._progress.saved
        kept = f"Everything up to step {saved:,} is kept." if saved else "Nothing is saved yet."
        text = f"{text} Force Stop ends it at once. {kept}"
        self._ask(title, text, "Force Stop", "Keep Waiting", force=True)

    def _ask(self, title: str, text: str, verb: str, stay: str, *, force: bool) -> None:
        """One question at a time."""
        if self.sheet is not None:
            self.sheet.raise_()
            return
        training = self._desk.training
        act = training.force_stop if force else training.stop
        self.sheet = ask(self._parent, title, text, verb, act, stay=stay)
        self.sheet.finished.connect(self._answered)

    def _answered(self, _result: int) -> None:
        self.sheet = None
