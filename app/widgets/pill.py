"""A status in a word, an icon and a colour: never by colour alone."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.icons import pixmap
from app.theme import font, theme

_SOFT = {"accent": "accent_soft", "ok": "ok_soft", "warn": "warn_soft", "bad": "bad_soft"}
_ICON, _GAP, _SIDE, _HEIGHT = 12, 4, 8, 20


class Pill(QLabel):
    """A small rounded label; `tone` is accent, ok, warn, bad, or anything for plain."""

    def __init__(self, text: str = "", tone: str = "accent", icon: str = "") -> None:
        super().__init__()
        self.setFont(font("caption"))
        strong = self.font()
        strong.setWeight(strong.Weight.DemiBold)
        self.setFont(strong)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)
        self.say(text, tone, icon)

    def say(self, text: str, tone: str = "accent", icon: str = "") -> None:
        """Another status."""
        self._tone, self._icon = tone, icon
        self.setText(text)
        self.setAccessibleName(text)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Room for icon and word."""
        mark = _ICON + _GAP if self._icon else 0
        words = self.fontMetrics().horizontalAdvance(self.text())
        return QSize(words + mark + 2 * _SIDE + 2, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """It never gives way."""
        return self.sizeHint()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Soft fill, mark, word."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(self.rect())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tokens.color(_SOFT.get(self._tone, "inset")))
        painter.drawRoundedRect(box, box.height() / 2, box.height() / 2)
        left = float(_SIDE)
        tone = self._tone if self._tone in _SOFT else "text2"
        if self._icon:
            top = (box.height() - _ICON) / 2
            painter.drawPixmap(QPointF(left, top), pixmap(self._icon, tone, _ICON))
            left += _ICON + _GAP
        painter.setPen(tokens.color(tone))
        words = QRectF(left, 0, box.width() - left - _SIDE + 2, box.height())
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter, self.text())
        painter.end()
