"""A veil over the window while a file is held above it."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app.icons import pixmap
from app.theme import font, theme


class DropVeil(QWidget):
    """Says what will happen to the file."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._over = parent
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAccessibleName("Drop the file to use it as your dataset")
        self.hide()

    def cover(self) -> None:
        """Over everything."""
        self.setGeometry(self._over.rect())
        self.raise_()
        self.show()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """A tinted window with a dashed card in the middle."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        veil = tokens.color("window")
        veil.setAlphaF(0.82)
        painter.fillRect(self.rect(), veil)
        card = QRectF(0, 0, 420, 190)
        card.moveCenter(QPointF(self.width() / 2 + 114, self.height() / 2))
        painter.setPen(QPen(tokens.color("accent"), 2, Qt.PenStyle.DashLine))
        painter.setBrush(tokens.color("accent_soft"))
        painter.drawRoundedRect(card, 16, 16)
        mark = pixmap("file", "accent", 40)
        painter.drawPixmap(QPointF(card.center().x() - 20, card.top() + 36), mark)
        painter.setPen(tokens.color("accent"))
        painter.setFont(font("title"))
        painter.drawText(card.adjusted(0, 70, 0, 0), Qt.AlignmentFlag.AlignCenter, "Drop to use it")
        painter.setFont(font("callout"))
        painter.setPen(tokens.color("text"))
        words = "It stays where it is. Nothing leaves this computer."
        painter.drawText(card.adjusted(0, 120, 0, 0), Qt.AlignmentFlag.AlignCenter, words)
        painter.end()
