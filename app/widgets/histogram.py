"""How long rows are: a bar for every range of lengths, a line where they are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QHelpEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy, QToolTip

from app.theme import font, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOP, _BOTTOM, _GAP = 20.0, 18.0, 1.5


class Histogram(QLabel):
    """Bars of one width each; those beyond the limit are hatched, and in another colour."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what
        self._edges, self._counts, self._limit = list[int](), list[int](), 0
        self._at = -1
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)
        theme.changed.connect(self.update)
        self.say([], [], 0)

    def say(self, edges: Sequence[int], counts: Sequence[int], limit: int) -> None:
        """Other rows; `limit` 0 draws no line."""
        self._edges, self._counts, self._limit = list(edges), list(counts), limit
        longest = f", the longest has {edges[-1]:,}" if counts else ""
        over = sum(n for n, left in zip(counts, edges, strict=False) if left >= limit > 0)
        cut = f", about {over:,} rows longer than the limit of {limit:,}" if over else ""
        self.setAccessibleName(f"{self._what}: {sum(counts):,} rows{longest}{cut}")
        self.update()

    def sizeHint(self) -> QSize:
        """Wide as its card."""
        return QSize(240, 132)

    def minimumSizeHint(self) -> QSize:
        """As high as ever."""
        return QSize(120, 132)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Bars, base line, numbers, limit."""
        painter = QPainter(self)
        if self._counts:
            self._paint_bars(painter)
            self._paint_axis(painter)
            self._paint_limit(painter)
        painter.end()

    def _area(self) -> QRectF:
        return QRectF(0.5, _TOP, self.width() - 1, self.height() - _TOP - _BOTTOM)

    def _x(self, length: float) -> float:
        """Where a length is; what is beyond the last range's start ends at the right."""
        area, step, number = self._area(), self._edges[1] - self._edges[0], len(self._counts)
        return area.left() + area.width() * min(length / step, number) / number

    def _paint_bars(self, painter: QPainter) -> None:
        area, tokens, highest = self._area(), theme.tokens, max(self._counts)
        width = area.width() / len(self._counts)
        for at, count in enumerate(self._counts):
            if not count:
                continue
            height = max(2.0, area.height() * count / highest)
            bar = QRectF(area.left() + at * width, area.bottom() - height, width, height)
            bar = bar.adjusted(_GAP / 2, 0, -_GAP / 2, 0)
            over = self._limit and self._edges[at] >= self._limit
            color = tokens.color("warn" if over else "accent")
            if at == self._at:
                color = tokens.color("text")
            painter.fillRect(bar, tokens.color("warn_soft") if over else color)
            if over:
                painter.fillRect(bar, Qt.BrushStyle.BDiagPattern)
                painter.setPen(color)
                painter.drawRect(bar.adjusted(0, 0, -1, -1))

    def _paint_axis(self, painter: QPainter) -> None:
        area, tokens = self._area(), theme.tokens
        painter.setPen(QPen(tokens.color("strong"), 1))
        painter.drawLine(QLineF(area.bottomLeft(), area.bottomRight()))
        painter.setFont(font("caption", tabular=True))
        painter.setPen(tokens.color("text2"))
        step, number = self._edges[1] - self._edges[0], len(self._counts)
        more = self._edges[-1] > step * number
        marks = [0, number // 2, number]
        for mark in dict.fromkeys(marks):
            text = f"{step * mark:,}" + ("+" if more and mark == number else "")
            room = painter.fontMetrics().horizontalAdvance(text)
            x = self._x(step * mark) - room / 2
            x = max(area.left(), min(x, area.right() - room))
            painter.drawText(QPointF(x, self.height() - 4), text)

    def _paint_limit(self, painter: QPainter) -> None:
        end = (self._edges[1] - self._edges[0]) * len(self._counts)
        if not 0 < self._limit <= end:
            return
        area, x = self._area(), self._x(self._limit)
        painter.setPen(QPen(theme.tokens.color("warn"), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QLineF(x, area.top() - 4, x, area.bottom()))
        painter.setFont(font("caption"))
        text = f"limit {self._limit:,}"
        room = painter.fontMetrics().horizontalAdvance(text)
        left = x - room - 4 if x - room - 4 > area.left() else x + 4
        painter.drawText(QPointF(left, area.top() - 6), text)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """The bar under the mouse."""
        self._point_at(event.position().x())

    def leaveEvent(self, _event: object) -> None:
        """None."""
        self._at = -1
        self.update()

    def event(self, event: object) -> bool:
        """What a bar stands for."""
        if isinstance(event, QHelpEvent) and self._counts:
            self._point_at(event.pos().x())
            left, right = self._edges[self._at], self._edges[self._at + 1] - 1
            text = f"{self._counts[self._at]:,} rows of {left:,} to {right:,} tokens"
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return super().event(event)  # type: ignore[arg-type]

    def _point_at(self, x: float) -> None:
        if self._counts:
            area, number = self._area(), len(self._counts)
            self._at = max(0, min(number - 1, int((x - area.left()) / area.width() * number)))
            self.update()
