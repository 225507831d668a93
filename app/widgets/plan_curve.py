"""The run to come as a drawing: how large its steps are, and when it is looked at."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.theme import font, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEIGHT, _TOP, _BOTTOM = 104, 18, 22
_MOST = 40


class Course(msgspec.Struct, frozen=True):
    """What the drawing shows.

    Attributes:
        rates: learning rate at evenly spread steps, the first to the last.
        epochs: where an epoch begins, as shares of the run, the first left out.
        looks: where held-out rows are measured, as shares of the run.
        peak: the highest rate, in words.
        end: the last step, in words.
    """

    rates: tuple[float, ...]
    epochs: tuple[float, ...]
    looks: tuple[float, ...]
    peak: str
    end: str


class PlanCurve(QLabel):
    """The learning rate over the run, epochs as lines, measurements as dots."""

    def __init__(self) -> None:
        super().__init__()
        self._course: Course | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_course(self, course: Course | None, words: str) -> None:
        """Another run; `words` say the same to those who do not see."""
        self._course = course
        self.setAccessibleName(words)
        self.setToolTip(words)
        self.update()

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(300, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Narrow where it must be."""
        return QSize(160, _HEIGHT)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Epochs, the rate, measurements, words."""
        if self._course is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(4, _TOP, self.width() - 8, self.height() - _TOP - _BOTTOM)
        self._paint_epochs(painter, area, self._course.epochs)
        self._paint_rate(painter, area, self._course.rates)
        self._paint_looks(painter, area, self._course.looks)
        self._paint_words(painter, area, self._course)
        painter.end()

    def _paint_epochs(self, painter: QPainter, area: QRectF, epochs: Sequence[float]) -> None:
        painter.setPen(QPen(theme.tokens.color("border"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        if len(epochs) > _MOST:
            return
        pen = QPen(theme.tokens.color("strong"), 1, Qt.PenStyle.DashLine)
        pen.setDashPattern([3, 3])
        painter.setPen(pen)
        for share in epochs:
            x = round(area.left() + share * area.width()) + 0.5
            painter.drawLine(QPointF(x, area.top() - 4), QPointF(x, area.bottom()))

    def _paint_rate(self, painter: QPainter, area: QRectF, rates: Sequence[float]) -> None:
        tokens, high = theme.tokens, max(*rates, 1e-30)
        gap = area.width() / max(1, len(rates) - 1)
        points = [
            QPointF(area.left() + at * gap, area.bottom() - rate / high * area.height())
            for at, rate in enumerate(rates)
        ]
        if len(points) == 1:
            points.append(QPointF(area.right(), points[0].y()))
        fill = QPainterPath(QPointF(points[0].x(), area.bottom()))
        for point in points:
            fill.lineTo(point)
        fill.lineTo(QPointF(points[-1].x(), area.bottom()))
        painter.fillPath(fill, tokens.color("accent_soft"))
        painter.setPen(QPen(tokens.color("accent"), 2))
        for one, other in itertools.pairwise(points):
            painter.drawLine(one, other)

    def _paint_looks(self, painter: QPainter, area: QRectF, looks: Sequence[float]) -> None:
        tokens = theme.tokens
        painter.setPen(QPen(tokens.color("card"), 1.5))
        painter.setBrush(tokens.color("violet"))
        shown = looks if len(looks) <= _MOST else looks[:: len(looks) // _MOST + 1]
        for share in shown:
            painter.drawEllipse(
                QPointF(area.left() + share * area.width(), area.bottom()), 4.0, 4.0
            )

    def _paint_words(self, painter: QPainter, area: QRectF, course: Course) -> None:
        painter.setFont(font("caption"))
        painter.setPen(theme.tokens.color("text2"))
        below = QRectF(area.left(), area.bottom() + 6, area.width(), 16)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "Start")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, course.end)
        above = QRectF(area.left(), 0, area.width(), 16)
        painter.drawText(above, Qt.AlignmentFlag.AlignRight, course.peak)
