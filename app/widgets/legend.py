"""What the lines of a chart are: a swatch and a word each."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.theme import font, theme

_SWATCH, _GAP = 16, 6


class LegendItem(QLabel):
    """One line: in the colour of `tone`, solid, dashed or dotted, as it is drawn."""

    def __init__(
        self, text: str, tone: str, style: Qt.PenStyle = Qt.PenStyle.SolidLine, width: float = 2.0
    ) -> None:
        super().__init__(text)
        self.setFont(font("caption"))
        self.setAccessibleName(text)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._tone, self._style, self._width = tone, style, width
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        """Swatch and word."""
        words = self.fontMetrics().horizontalAdvance(self.text())
        return QSize(_SWATCH + _GAP + words + 2, 18)

    def minimumSizeHint(self) -> QSize:
        """It never gives way."""
        return self.sizeHint()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """As the chart draws it."""
        painter, middle = QPainter(self), self.height() / 2
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(theme.tokens.color(self._tone), self._width, self._style)
        if self._style == Qt.PenStyle.DashLine:
            pen.setDashPattern([4, 3])
        painter.setPen(pen)
        painter.drawLine(QPointF(0, middle), QPointF(_SWATCH, middle))
        painter.setPen(theme.tokens.color("text2"))
        room = self.rect().adjusted(_SWATCH + _GAP, 0, 0, 0)
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, self.text())
        painter.end()
