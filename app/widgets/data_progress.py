"""A thin line over the rows while the rest of a file is checked: how far, and a way out."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QProgressBar

from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import ElidedLabel


class DataProgress(Card):
    """Hidden until something is going on; `cancelled` when the person does not want to wait."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__(spacing=4)
        self.body.setContentsMargins(16, 6, 8, 10)
        self.text = ElidedLabel("", "callout")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        self.cancel = Button("Cancel", self.cancelled.emit, kind="link")
        self.body.addWidget(Row(self.text, self.cancel))
        self.body.addWidget(self.bar)
        self.hide()

    def say(self, text: str, done: int, total: int, *, tip: str = "") -> None:
        """How far it is, in any unit; without a total the bar only moves."""
        self.text.setText(text)
        # a bar counts in 32 bits, a file may have more bytes
        steps = 1000 if total else 0
        self.bar.setRange(0, steps)
        self.bar.setValue(min(steps, done * steps // total) if total else 0)
        self.cancel.setToolTip(tip)
        self.show()
