"""What is shown while something takes a moment: words, grey shapes, later a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Callable


class WaitingView(QWidget):
    """Words, a bar where the end is known, Cancel after a while."""

    def __init__(self) -> None:
        super().__init__()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(16)
        card = Card(spacing=10)
        self._text = Label(role="strong")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName("Progress")
        self.cancel = Button("Cancel", self._cancel)
        card.body.addWidget(Row(self._text, None, self.cancel))
        card.body.addWidget(self._bar)
        outer.addWidget(card)
        outer.addWidget(Skeleton(), 1)
        self._act: Callable[[], object] | None = None

    def say(self, text: str, cancel: Callable[[], object] | None) -> None:
        """Begin to wait for something."""
        self._act = cancel
        self.cancel.hide()
        self.progress(text)

    def progress(self, text: str, done: int = 0, total: int = 0) -> None:
        """How far it is; without a total the bar only moves."""
        self._text.setText(text)
        self._bar.setRange(0, total)
        self._bar.setValue(done)

    def offer_cancel(self) -> None:
        """It takes long: a way out."""
        self.cancel.setVisible(self._act is not None)

    def _cancel(self) -> None:
        if self._act is not None:
            self._act()


class Skeleton(QWidget):
    """Grey shapes where content will be."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        theme.changed.connect(self.update)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Three lines of boxes."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.tokens.color("track"))
        painter.setOpacity(0.5)
        for row in range(3):
            for column, width in enumerate((0.3, 0.55)):
                left = column * self.width() * 0.34
                box = QRectF(left, row * 62.0, self.width() * width, 46.0)
                painter.drawRoundedRect(box, 8, 8)
        painter.end()
