"""A low card across the page: a mark, a headline with a sentence, and something at the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.label import Label
from app.widgets.pill import Pill

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget


class Strip(QFrame):
    """Says one thing; `role` is the frame's (card, info)."""

    def __init__(self, mark: str, title: str, text: str, *, role: str = "card") -> None:
        super().__init__()
        self.setProperty("role", role)
        self._icon, self._mark = mark, QLabel()
        self._row, words = QHBoxLayout(self), QVBoxLayout()
        self._row.setContentsMargins(16, 10, 16, 10)
        self._row.setSpacing(12)
        words.setSpacing(1)
        self.title, self.text = Label(role="strong"), Label(role="callout", wrap=True)
        self.text.set_tone("text" if role == "info" else "text2")
        words.addWidget(self.title)
        words.addWidget(self.text)
        self._row.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignVCenter)
        self._row.addLayout(words, 1)
        self._pill: Pill | None = None
        theme.changed.connect(self._redraw)
        self._redraw()
        self.say(title, text)

    def say(self, title: str, text: str) -> None:
        """Something else."""
        self.title.setText(title)
        self.text.setText(text)
        self.setAccessibleName(f"{title}. {text}")

    def say_pill(self, text: str, tone: str, icon: str) -> None:
        """A status at the right."""
        if self._pill is None:
            self._pill = Pill()
            self.add(self._pill)
        self._pill.say(text, tone, icon)

    def add(self, widget: QWidget) -> None:
        """Something at the right."""
        self._row.addWidget(widget, 0, Qt.AlignmentFlag.AlignVCenter)

    def _redraw(self) -> None:
        self._mark.setPixmap(pixmap(self._icon, "accent", 20))
