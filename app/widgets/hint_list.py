"""Remarks under each other: a mark, a headline, a sentence, one thing to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.icons import pixmap
from app.theme import theme
from app.widgets.banner import announce
from app.widgets.button import Button
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Callable

_ICONS = {"info": "info", "ok": "check", "warn": "warn"}


class HintRow(QFrame):
    """One remark."""

    def __init__(
        self, tone: str, title: str, text: str, act: tuple[str, Callable[[], object]] | None
    ) -> None:
        super().__init__()
        self.setProperty("role", tone)
        self.setAccessibleName(f"{title}. {text}")
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 8)
        row.setSpacing(10)
        self._tone, self._mark = tone, QLabel()
        words = QVBoxLayout()
        words.setSpacing(1)
        self.title, self.text = Label(title, "strong"), Label(text, "callout", wrap=True)
        words.addWidget(self.title)
        words.addWidget(self.text)
        row.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        self.button = Button(act[0], act[1]) if act else None
        if self.button is not None:
            row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignVCenter)
        theme.changed.connect(self._redraw)
        self._redraw()

    def _redraw(self) -> None:
        tone = "accent" if self._tone == "info" else self._tone
        self._mark.setPixmap(pixmap(_ICONS[self._tone], tone, 18))


class HintList(QWidget):
    """Hidden while there is nothing to remark."""

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self.rows: list[HintRow] = []
        self.hide()

    def show_rows(self, rows: list[HintRow]) -> None:
        """Other remarks in place of these."""
        known = {row.title.text() for row in self.rows}
        for row in self.rows:
            self._column.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = rows
        for row in rows:
            self._column.addWidget(row)
            if row.title.text() not in known:
                announce(self, row.accessibleName())
        self.setVisible(bool(rows))
