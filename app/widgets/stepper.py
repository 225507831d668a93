"""The steps in the sidebar: number, check or exclamation mark, and a line of what was chosen."""

from __future__ import annotations

import itertools
from typing import Literal

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QVBoxLayout, QWidget

from app.icons import pixmap
from app.theme import font, theme

Mark = Literal["open", "done", "attention", "locked"]
_HEIGHT, _DOT, _LEFT = 50, 22, 22.0
_WORDS = {
    "open": "to do", "done": "done", "attention": "needs attention", "locked": "not yet available"
}  # fmt: skip


class Step(QAbstractButton):
    """One step."""

    def __init__(self, number: int, title: str) -> None:
        super().__init__()
        self.number, self.title, self.summary = number, title, ""
        self.mark: Mark = "locked"
        self.last = False
        self.setCheckable(True)
        self.setAutoExclusive(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        theme.changed.connect(self.update)
        self.say("locked", "")

    def say(self, mark: Mark, summary: str) -> None:
        """Another state."""
        self.mark, self.summary = mark, summary
        self.setEnabled(mark != "locked")
        self.setAccessibleName(f"Step {self.number}, {self.title}")
        self.setAccessibleDescription(f"{_WORDS[mark]}. {summary}")
        self.setToolTip(summary)
        self.update()

    def sizeHint(self) -> QSize:
        """Two lines."""
        return QSize(200, _HEIGHT)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Line to the next, dot, words."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        if self.isChecked() or (self.underMouse() and self.isEnabled()):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(tokens.color("selected" if self.isChecked() else "hover"))
            painter.drawRoundedRect(box, 8, 8)
        if self.hasFocus():
            painter.setPen(QPen(tokens.color("accent"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(box, 8, 8)
        self._paint_dot(painter)
        self._paint_words(painter)
        painter.end()

    def _paint_dot(self, painter: QPainter) -> None:
        tokens, middle = theme.tokens, self.height() / 2
        circle = QRectF(_LEFT - _DOT / 2, middle - _DOT / 2, _DOT, _DOT)
        fill = {"done": "ok", "attention": "warn"}.get(self.mark)
        if self.isChecked() and self.mark == "open":
            fill = "accent"
        painter.setPen(Qt.PenStyle.NoPen if fill else QPen(tokens.color("text3"), 1.5))
        painter.setBrush(tokens.color(fill) if fill else Qt.BrushStyle.NoBrush)
        painter.drawEllipse(circle.adjusted(1, 1, -1, -1) if not fill else circle)
        inner = "on_accent" if fill == "accent" else "card"
        if self.mark == "done":
            painter.drawPixmap(circle.topLeft() + QPointF(4, 4), pixmap("check", inner, 14))
            return
        painter.setPen(tokens.color(inner if fill else "text2"))
        painter.setFont(font("caption"))
        text = "!" if self.mark == "attention" else str(self.number)
        painter.drawText(circle, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_words(self, painter: QPainter) -> None:
        tokens, room = theme.tokens, QRectF(44, 0, self.width() - 52, self.height())
        both = bool(self.summary)
        painter.setFont(font("strong" if self.isChecked() else "body"))
        painter.setPen(tokens.color("text3" if self.mark == "locked" else "text"))
        upper = room.adjusted(0, 8, 0, 0) if both else room
        flags = Qt.AlignmentFlag.AlignTop if both else Qt.AlignmentFlag.AlignVCenter
        painter.drawText(upper, flags | Qt.AlignmentFlag.AlignLeft, self.title)
        if not both:
            return
        painter.setFont(font("caption"))
        painter.setPen(tokens.color("text2"))
        line = painter.fontMetrics().elidedText(
            self.summary, Qt.TextElideMode.ElideRight, int(room.width())
        )
        painter.drawText(room.adjusted(0, 26, 0, 0), Qt.AlignmentFlag.AlignTop, line)


class Stepper(QWidget):
    """All steps, under each other."""

    def __init__(self, titles: list[tuple[str, str]]) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        self.setAccessibleName("Steps")
        self.steps = {key: Step(n, title) for n, (key, title) in enumerate(titles, start=1)}
        for step in self.steps.values():
            column.addWidget(step)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """The thread between the dots."""
        painter = QPainter(self)
        painter.setPen(QPen(theme.tokens.color("strong"), 1.5))
        boxes = [step.geometry() for step in self.steps.values()]
        for upper, lower in itertools.pairwise(boxes):
            top, bottom = upper.center().y() + _DOT / 2 + 4, lower.center().y() - _DOT / 2 - 4
            painter.drawLine(QPointF(_LEFT, top), QPointF(_LEFT, bottom))
        painter.end()
