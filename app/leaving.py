"""Closing the window and quitting while something trains: nothing is lost, and it is asked once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QMessageBox

from app.widgets.sheet import dress

if TYPE_CHECKING:
    from PySide6.QtGui import QCloseEvent
    from PySide6.QtWidgets import QPushButton

    from app.jobs import JobQueue
    from app.main_window import MainWindow


class Leaving(QObject):
    """Decides what closing and quitting do.

    Attributes:
        hidden: the window went away while work goes on.
        over: the app may end.
    """

    hidden = Signal()
    over = Signal()

    def __init__(self, window: MainWindow, queue: JobQueue) -> None:
        super().__init__()
        self._window, self._queue = window, queue
        self.sheet: QMessageBox | None = None
        self._going = False
        window.closing.connect(self.close)

    def close(self, event: QCloseEvent) -> None:
        """The window is closed: ask while something works, else the app ends."""
        if self._going or self._queue.running is None:
            event.accept()
            self.quit()
            return
        event.ignore()
        self._ask(
            "Keep training?",
            "Training can go on without the window. The Dock or the menu bar brings it back.",
            keep="Keep Training",
        )

    def ask_to_quit(self) -> None:
        """Quit was chosen: training is stopped and saved, after a word about it."""
        if self._queue.running is None:
            self.quit()
            return
        self._ask("Stop training and quit?", "The step in hand is finished and saved first. "
                  "You can resume it any time.")  # fmt: skip

    def quit(self) -> None:
        """Let what works save and leave, then end."""
        if self._going:
            return
        self._going = True
        jobs = self._queue.leave()
        if not jobs:
            self._window.hide()
            self.over.emit()
            return
        self._window.hide()
        for job in jobs:
            job.ended.connect(lambda _: self.over.emit())

    def _ask(self, title: str, text: str, keep: str = "") -> None:
        if self.sheet is not None:
            self.sheet.raise_()
            return
        sheet = QMessageBox(self._window)
        sheet.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        sheet.setWindowModality(Qt.WindowModality.WindowModal)
        sheet.setText(title)
        sheet.setInformativeText(text)
        role = QMessageBox.ButtonRole
        stay = sheet.addButton(keep, role.AcceptRole) if keep else None
        stop = sheet.addButton("Stop and Save", role.DestructiveRole)
        cancel = sheet.addButton("Cancel", role.RejectRole)
        sheet.setDefaultButton(stay or cancel)
        sheet.setEscapeButton(cancel)
        sheet.finished.connect(lambda _: self._answered(sheet, stay, stop))
        self.sheet = sheet
        dress(sheet)
        sheet.open()

    def _answered(self, sheet: QMessageBox, stay: QPushButton | None, stop: QPushButton) -> None:
        self.sheet = None
        chosen = sheet.clickedButton()
        if chosen is stop:
            self.quit()
        elif stay is not None and chosen is stay:
            self._window.hide()
            self.hidden.emit()
