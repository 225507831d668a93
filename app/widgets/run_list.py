"""The list of runs: a line each with its curve; arrows choose, Return opens, Delete asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPen
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from app.icons import pixmap
from app.theme import font, theme
from app.widgets.sparkline import draw_sparkline

if TYPE_CHECKING:
    from collections.abc import Callable

Index = QModelIndex | QPersistentModelIndex
_HEIGHT, _CURVE, _EDGE = 68, 92, 14
_ICON, _GAP = 12, 6
_Flag = Qt.AlignmentFlag


class RunLine(msgspec.Struct, frozen=True):
    """What a line says.

    Attributes:
        state, tone, icon: how the run stands: word, colour, mark.
        loss: held-out loss in words.
    """

    title: str
    caption: str
    state: str
    tone: str
    icon: str
    loss: str
    points: tuple[float, ...]


class RunList(QListView):
    """Shows runs.

    Attributes:
        opened: Return or a double click on a run.
        unwanted: Delete on a run.
        chosen: another run is the current one.
    """

    opened = Signal(QModelIndex)
    unwanted = Signal(QModelIndex)
    chosen = Signal(QModelIndex)

    def __init__(self, describe: Callable[[Index], RunLine]) -> None:
        super().__init__()
        self.setAccessibleName("Runs")
        self.setItemDelegate(_Delegate(describe, self))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.doubleClicked.connect(self.opened)
        theme.changed.connect(self.viewport().update)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Return and Delete; the rest (arrows, letters) as in every list."""
        index = self.currentIndex()
        if not index.isValid():
            super().keyPressEvent(event)
            return
        match event.key():
            case Qt.Key.Key_Return | Qt.Key.Key_Enter:
                self.opened.emit(index)
            case Qt.Key.Key_Delete | Qt.Key.Key_Backspace:
                self.unwanted.emit(index)
            case _:
                super().keyPressEvent(event)

    def currentChanged(self, current: Index, previous: Index) -> None:
        """Tell which."""
        super().currentChanged(current, previous)
        self.chosen.emit(self.currentIndex())


class _Delegate(QStyledItemDelegate):
    """Paints a line."""

    def __init__(self, describe: Callable[[Index], RunLine], parent: RunList) -> None:
        super().__init__(parent)
        self._describe = describe

    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        """Two lines of text."""
        return QSize(200, _HEIGHT)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Curve, words, loss."""
        line, tokens = self._describe(index), theme.tokens
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(option.rect)
        self._paint_ground(painter, box, option)
        curve = QRectF(box.left() + _EDGE, box.top() + 16, _CURVE, box.height() - 32)
        draw_sparkline(painter, curve, line.points, line.tone if line.tone == "bad" else "accent")
        words = QRectF(curve.right() + _EDGE, box.top() + 14, 0, 20)
        words.setRight(box.right() - _EDGE)
        state = self._paint_state(painter, words, line)
        loss = self._paint_end(painter, words.translated(0, 20), line.loss)
        painter.setPen(tokens.color("text"))
        self._paint_text(painter, words.adjusted(0, 0, -state, 0), line.title, "strong")
        painter.setPen(tokens.color("text2"))
        below = words.adjusted(0, 20, -loss, 20)
        self._paint_text(painter, below, line.caption, "caption")
        painter.restore()

    def _paint_ground(self, painter: QPainter, box: QRectF, option: QStyleOptionViewItem) -> None:
        state = option.state
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        over = bool(state & QStyle.StateFlag.State_MouseOver)
        inner = box.adjusted(4, 2, -4, -2)
        if chosen or over:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.tokens.color("accent_soft" if chosen else "hover"))
            painter.drawRoundedRect(inner, 8, 8)
        else:
            painter.setPen(QPen(theme.tokens.color("border"), 1))
            painter.drawLine(
                QPointF(box.left() + _EDGE, box.bottom()),
                QPointF(box.right() - _EDGE, box.bottom()),
            )
        if chosen and state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QPen(theme.tokens.color("accent"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(inner.adjusted(1, 1, -1, -1), 8, 8)

    def _paint_text(self, painter: QPainter, box: QRectF, text: str, role: str) -> None:
        painter.setFont(font(role))  # type: ignore[arg-type]
        shown = painter.fontMetrics().elidedText(
            text, Qt.TextElideMode.ElideRight, int(box.width())
        )
        painter.drawText(box, _Flag.AlignLeft | _Flag.AlignVCenter, shown)

    def _paint_state(self, painter: QPainter, box: QRectF, line: RunLine) -> int:
        """The state at the right edge, mark and word; returns the room it takes."""
        tone = line.tone or "text2"
        painter.setFont(font("callout"))
        wide = painter.fontMetrics().horizontalAdvance(line.state)
        painter.setPen(theme.tokens.color(tone))
        painter.drawText(box, _Flag.AlignRight | _Flag.AlignVCenter, line.state)
        mark = QPointF(box.right() - wide - _ICON - _GAP, box.center().y() - _ICON / 2)
        painter.drawPixmap(mark, pixmap(line.icon, tone, _ICON))
        return wide + _ICON + 3 * _GAP

    def _paint_end(self, painter: QPainter, box: QRectF, text: str) -> int:
        """Small words at the right edge; returns the room they take."""
        painter.setFont(font("caption", tabular=True))
        painter.setPen(theme.tokens.color("text2"))
        painter.drawText(box, _Flag.AlignRight | _Flag.AlignVCenter, text)
        return painter.fontMetrics().horizontalAdvance(text) + 2 * _GAP
