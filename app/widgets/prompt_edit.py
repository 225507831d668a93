"""Where a prompt is typed: Ctrl-Return (Command-Return on a Mac) asks, Tab goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QPlainTextEdit, QSizePolicy

from app.theme import font

if TYPE_CHECKING:
    from PySide6.QtGui import QFocusEvent, QKeyEvent

_KEYS = {Qt.Key.Key_Return, Qt.Key.Key_Enter}


class PromptEdit(QPlainTextEdit):
    """A few lines of text.

    Attributes:
        asked: Ctrl-Return was pressed.
        left: the keyboard went elsewhere.
    """

    asked = Signal()
    left = Signal()

    def __init__(self, name: str, lines: int) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.setFont(font("body"))
        self.document().setDocumentMargin(2)
        self._lines = lines
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> QSize:
        """All its lines."""
        return QSize(200, self._height(self._lines))

    def minimumSizeHint(self) -> QSize:
        """A line less, where the window is low."""
        return QSize(100, self._height(max(1, self._lines - 1)))

    def _height(self, lines: int) -> int:
        return self.fontMetrics().lineSpacing() * lines + 16

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Return with Ctrl asks; alone it is a line end."""
        control = Qt.KeyboardModifier.ControlModifier
        if event.key() in _KEYS and event.modifiers() & control:
            self.asked.emit()
            return
        super().keyPressEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Somebody may want to keep what was typed."""
        super().focusOutEvent(event)
        self.left.emit()
