"""A row as a strip: which stretch is learnt, read or cut, where the limit and the cursor are."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.theme import font, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

_STRIP, _TOP = 8.0, 5.0


def paint_stretch(painter: QPainter, box: QRectF, state: str) -> None:
    """Tokens of one state: learnt is full, read half as high, cut hatched."""
    tokens = theme.tokens
    if state == "trained":
        painter.fillRect(box, tokens.color("accent"))
    elif state == "masked":
        painter.fillRect(box.adjusted(0, box.height() / 2, 0, 0), tokens.color("strong"))
    else:
        painter.save()
        painter.setClipRect(box)
        painter.fillRect(box, tokens.color("bad_soft"))
        painter.setPen(tokens.color("bad"))
        x, lean = box.left() - box.height(), 0.6 * box.height()
        while x < box.right():
            painter.drawLine(QLineF(x, box.bottom(), x + lean, box.top()))
            x += 6
        painter.restore()


class TokenRuler(QLabel):
    """Learnt is full, read half as high, cut hatched; `wanted` where it was clicked."""

    wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[tuple[str, int]] = []
        self._total, self._at = 0, -1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        theme.changed.connect(self.update)

    def show_states(self, states: Sequence[str]) -> None:
        """Another row."""
        self._runs = [(state, len(list(run))) for state, run in itertools.groupby(states)]
        self._total, self._at = len(states), -1
        parts = ", ".join(f"{count:,} {state}" for state, count in self._runs[:8])
        self.setAccessibleName(f"Ruler of {self._total:,} tokens: {parts}")
        self.update()

    def point_at(self, piece: int) -> None:
        """Where the cursor is."""
        self._at = piece
        self.update()

    def sizeHint(self) -> QSize:
        """A strip and numbers."""
        return QSize(200, 32)

    def minimumSizeHint(self) -> QSize:
        """As high as ever."""
        return QSize(80, 32)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go there."""
        if self._total:
            share = event.position().x() / max(1, self.width())
            self.wanted.emit(min(self._total - 1, max(0, int(share * self._total))))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Stretches, numbers, cursor."""
        painter = QPainter(self)
        if self._total:
            self._paint_runs(painter)
            self._paint_numbers(painter)
            self._paint_cursor(painter)
        painter.end()

    def _x(self, piece: float) -> float:
        return 1 + (self.width() - 2) * piece / self._total

    def _paint_runs(self, painter: QPainter) -> None:
        start = 0
        for state, count in self._runs:
            left, right = self._x(start), self._x(start + count)
            paint_stretch(painter, QRectF(left, _TOP, max(1.0, right - left), _STRIP), state)
            start += count

    def _paint_numbers(self, painter: QPainter) -> None:
        painter.setFont(font("caption", tabular=True))
        painter.setPen(theme.tokens.color("text2"))
        line = self.height() - 4.0
        kept = self._total - sum(count for state, count in self._runs if state == "cut")
        marks = {0: "1", self._total: f"{self._total:,}"}
        if kept < self._total:
            marks[kept] = f"limit {kept:,}"
        end = -1.0
        for at in sorted(marks, key=lambda mark: (mark not in {0, kept}, mark)):
            room = painter.fontMetrics().horizontalAdvance(marks[at])
            x = max(0.0, min(self._x(at) - room / 2, self.width() - room - 1.0))
            if x > end + 8 or at == 0:
                painter.drawText(QPointF(x, line), marks[at])
                end = x + room

    def _paint_cursor(self, painter: QPainter) -> None:
        if self._at >= 0:
            x = self._x(self._at + 0.5)
            painter.setPen(QPen(theme.tokens.color("text"), 2))
            painter.drawLine(QLineF(x, 1, x, _TOP + _STRIP + 3))
