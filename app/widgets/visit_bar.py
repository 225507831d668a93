"""Over the rows while a finding is gone through: which of them this is, back and on."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout

from app.widgets.button import Button
from app.widgets.label import ElidedLabel, Label


class VisitBar(QFrame):
    """Hidden unless a finding is gone through; `stepped` by one on or back, `closed` at the end."""

    stepped = Signal(int)
    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "info")
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 3, 4, 3)
        row.setSpacing(6)
        self.place, self.text = Label("", "strong"), ElidedLabel("", "callout")
        self.back = Button("", lambda: self.stepped.emit(-1), kind="quiet", icon="back")
        self.on = Button("", lambda: self.stepped.emit(1), kind="quiet", icon="right")
        self.back.setAccessibleName("Previous Row of the Finding")
        self.on.setAccessibleName("Next Row of the Finding")
        self.close_button = Button("Done", self.closed.emit, kind="link", name="Back to Findings")
        for widget in (self.back, self.place, self.on):
            row.addWidget(widget)
        row.addWidget(self.text, 1)
        row.addWidget(self.close_button)
        self.hide()

    def say(self, title: str, at: int, rows: int, count: int) -> None:
        """The `at`-th (from 0) of `rows` known rows, of `count` that there are."""
        all_of = f"{count:,}" if rows == count else f"the first {rows:,}"
        self.place.setText(f"{at + 1:,} of {all_of}")
        self.text.setText(title)
        self.setAccessibleName(f"{self.place.text()}: {title}")
        self.show()
