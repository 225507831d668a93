"""A log that follows its end, unless somebody scrolled up to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QTextCursor
from PySide6.QtWidgets import QPlainTextEdit

from app.theme import font

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 1000


class LogView(QPlainTextEdit):
    """The last lines; older ones are dropped."""

    def __init__(self, name: str) -> None:
        super().__init__(readOnly=True)
        self.setProperty("role", "log")
        self.setAccessibleName(name)
        self.setFont(font("mono"))
        self.setTabChangesFocus(True)
        self.setMaximumBlockCount(_MOST)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)

    def show_lines(self, lines: Sequence[str]) -> None:
        """Other lines in place of these."""
        self.setPlainText("\n".join(lines))
        self._follow()

    def append_lines(self, lines: Sequence[str]) -> None:
        """More lines."""
        if not lines:
            return
        bar = self.verticalScrollBar()
        at_end = bar.value() >= bar.maximum()
        self.appendPlainText("\n".join(lines))
        if at_end:
            self._follow()

    def _follow(self) -> None:
        self.moveCursor(QTextCursor.MoveOperation.End)
        self.moveCursor(QTextCursor.MoveOperation.StartOfLine)
