"""What a cleaned copy does: a box for each fix, where it goes, how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QDialog, QProgressBar, QVBoxLayout

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import ElidedLabel, Label
from app.widgets.scroll import ScrollColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtWidgets import QWidget

_MOST_HEIGHT, _LINE = 300, 46


class Fix(msgspec.Struct, frozen=True):
    """One thing a copy can do.

    Attributes:
        title: what was found, as a sentence without its end.
        does: what the copy does about it.
        count: rows it concerns.
        wanted: whether it is done unless the person says otherwise.
    """

    code: str
    title: str
    does: str
    count: int
    wanted: bool


class CleanSheet(QDialog):
    """Emits `started` with the codes that are chosen, and `stopped`; whoever listens closes it.

    Without fixes it offers the same text in UTF-8.
    """

    started = Signal(object)
    stopped = Signal()

    def __init__(self, parent: QWidget, fixes: Sequence[Fix], place: str) -> None:
        super().__init__(parent.window())
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setWindowTitle("Write a Cleaned Copy")
        self.setMinimumWidth(560)
        self._fixes, self._running = fixes, False
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(8)
        title = "Write a cleaned copy" if fixes else "Write a copy in UTF-8"
        column.addWidget(Label(title, "headline"))
        words = "Your file stays as it is. The copy is used from then on; you can go back."
        column.addWidget(Label(words, "callout", "text2", wrap=True))
        self.boxes = self._make_boxes(column)
        self.sum = Label("", "strong", wrap=True)
        column.addWidget(self.sum)
        self.place = ElidedLabel(
            f"Written as {place}", "caption", "text2", mode=Qt.TextElideMode.ElideMiddle
        )
        column.addWidget(self.place)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        keep = self.bar.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(keep)
        self.bar.hide()
        column.addWidget(self.bar)
        self.write = Button("Write Copy", self._start, kind="primary")
        self.write.setDefault(True)
        self.cancel = Button("Cancel", self.reject)
        column.addWidget(Row(None, self.cancel, self.write))
        self._say()

    def say_progress(self, done: int, total: int) -> None:
        """How far it is, in any unit."""
        self.bar.setRange(0, 1000 if total else 0)
        self.bar.setValue(done * 1000 // total if total else 0)

    def say_failed(self, why: str) -> None:
        """It did not work; another try is possible."""
        self._set_running(False)
        self.sum.setText(why)
        self.sum.set_tone("bad")

    def reject(self) -> None:
        """Also by Esc: a copy that is being written is left."""
        if self._running:
            self.stopped.emit()
        super().reject()

    def _make_boxes(self, column: QVBoxLayout) -> dict[str, QCheckBox]:
        area, boxes = ScrollColumn(spacing=2), dict[str, QCheckBox]()
        for fix in self._fixes:
            box = QCheckBox(fix.title)
            box.setChecked(fix.wanted)
            box.setAccessibleDescription(fix.does)
            box.toggled.connect(self._say)
            does = ElidedLabel(f"The copy {fix.does}.", "caption", "text2")
            does.setContentsMargins(30, 0, 0, 4)
            area.column.addWidget(box)
            area.column.addWidget(does)
            boxes[fix.code] = box
        area.column.addStretch(1)
        area.setVisible(bool(self._fixes))
        area.setFixedHeight(min(_MOST_HEIGHT, _LINE * len(self._fixes) + 6))
        column.addWidget(area)
        return boxes

    def _chosen(self) -> list[Fix]:
        return [fix for fix in self._fixes if self.boxes[fix.code].isChecked()]

    def _say(self) -> None:
        chosen = self._chosen()
        rows = sum(fix.count for fix in chosen)
        one = "1 row is" if rows == 1 else f"Up to {rows:,} rows are"
        self.sum.set_tone("text")
        words = f"{one} changed or left out." if chosen else "Nothing is chosen yet."
        self.sum.setText(words if self._fixes else "The text stays the same, sign by sign.")
        self.write.setEnabled(bool(chosen) or not self._fixes)

    def _start(self) -> None:
        self._set_running(True)
        self.say_progress(0, 0)
        self.started.emit(tuple(fix.code for fix in self._chosen()))

    def _set_running(self, running: bool) -> None:
        self._running = running
        self.bar.setVisible(running)
        self.write.setEnabled(not running)
        self.write.say("Writing…" if running else "Write Copy")
        for box in self.boxes.values():
            box.setEnabled(not running)
