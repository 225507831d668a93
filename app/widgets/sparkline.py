"""A loss curve the size of a word: a soft fill, a line, a dot where it ends."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.theme import theme

if TYPE_CHECKING:
    from collections.abc import Sequence

_INSET, _DOT, _SMOOTH = 3.0, 2.5, 0.35
_ENOUGH = 2


class Sparkline(QLabel):
    """Shows a curve; what it says is in its accessible name."""

    def __init__(self, height: int = 40) -> None:
        super().__init__()
        self._points: tuple[float, ...] = ()
        self._height = height
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)
        self.say(())

    def say(self, points: Sequence[float], tone: str = "accent") -> None:
        """Another curve."""
        self._points, self._tone = tuple(points), tone
        words = f"from {points[0]:.3f} to {points[-1]:.3f}" if points else "none yet"
        self.setAccessibleName(f"Training loss, {words}")
        self.update()

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(96, self._height)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """The curve."""
        painter = QPainter(self)
        draw_sparkline(painter, QRectF(self.rect()), self._points, self._tone)
        painter.end()


def draw_sparkline(
    painter: QPainter, rect: QRectF, points: Sequence[float], tone: str = "accent"
) -> None:
    """Paint a curve into a rectangle; too few points leave a hairline where it will be."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    room = rect.adjusted(_INSET, _INSET, -_INSET, -_INSET)
    color = theme.tokens.color(tone)
    if len(points) < _ENOUGH:
        painter.setPen(QPen(theme.tokens.color("strong"), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(room.left(), room.bottom()), room.bottomRight())
        painter.restore()
        return
    line = _placed(_smoothed(points), room)
    _fill(painter, line, room, color)
    # segments, not a polyline: antialiased joins cost a hundred times as much
    painter.setPen(QPen(color, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    painter.drawLines([QLineF(a, b) for a, b in itertools.pairwise(line)])
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(color)
    painter.drawEllipse(line[-1], _DOT, _DOT)
    painter.restore()


def _fill(painter: QPainter, line: list[QPointF], room: QRectF, color: QColor) -> None:
    soft = QColor(color)
    soft.setAlphaF(0.12)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(soft)
    corners = [QPointF(line[0].x(), room.bottom()), *line, QPointF(line[-1].x(), room.bottom())]
    painter.drawPolygon(QPolygonF(corners))


def _smoothed(points: Sequence[float]) -> list[float]:
    """The trend: every batch's own luck taken out."""
    values, mean = list[float](), points[0]
    for point in points:
        mean += _SMOOTH * (point - mean)
        values.append(mean)
    return values


def _placed(values: list[float], room: QRectF) -> list[QPointF]:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    across = room.width() / (len(values) - 1)
    return [
        QPointF(room.left() + at * across, room.bottom() - (value - low) / span * room.height())
        for at, value in enumerate(values)
    ]
