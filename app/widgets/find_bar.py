"""A line to find words in a text: how many there are, back and on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.widgets.button import Button
from app.widgets.label import Label
from app.widgets.search_field import SearchField

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent


class FindBar(QWidget):
    """Return goes on, Shift-Return back.

    Attributes:
        changed: other words; carries them.
        stepped: to the next (1) or the one before (-1).
    """

    changed = Signal(str)
    stepped = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.field = SearchField("Find in this row", name="Find in this row")
        self.field.setFixedWidth(170)
        self.field.textChanged.connect(self.changed)
        self._found = Label("", "caption", "text2")
        self.back = Button(
            "", lambda: self.stepped.emit(-1), kind="quiet", icon="back", name="Find Previous"
        )
        self.on = Button(
            "", lambda: self.stepped.emit(1), kind="quiet", icon="right", name="Find Next"
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for widget in (self._found, self.back, self.on, self.field):
            row.addWidget(widget)
        self.say(0, -1)

    def say(self, number: int, at: int) -> None:
        """How many there are, and which one is marked (from 0, -1 for none)."""
        self.back.setEnabled(number > 0)
        self.on.setEnabled(number > 0)
        some = f"{at + 1:,} of {number:,}" if number else "not found"
        self._found.setText(some if self.field.text() else "")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Return, where the field lets it through."""
        if event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter}:
            back = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
            self.stepped.emit(-1 if back else 1)
            event.accept()
            return
        super().keyPressEvent(event)
