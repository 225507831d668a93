"""All there is to look at in the data, in groups: what refuses training, what costs, what is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from app.icons import pixmap
from app.theme import font, theme
from app.widgets.issue_list import LOOKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.issues import Issue

_GROUPS = {
    "error": "Training does not begin with these", "warning": "These cost something",
    "note": "Good to know",
}  # fmt: skip
_KEY, _LEVEL, _COUNT = (Qt.ItemDataRole.UserRole + n for n in range(3))
_HEAD, _LINE, _SIDE, _MARK = 30, 32, 12, 16


class FindingList(QListWidget):
    """A line each; `wanted` carries the key of the chosen one."""

    wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Findings")
        self.setItemDelegate(_Lines(self))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.currentItemChanged.connect(self._tell)
        theme.changed.connect(self.viewport().update)

    def show_issues(self, issues: Sequence[Issue]) -> None:
        """Other findings, by level; the chosen one stays chosen where it is still there."""
        before = self.chosen()
        self.blockSignals(True)
        self.clear()
        level = ""
        for issue in issues:
            if issue.level != level:
                level = issue.level
                self._add_head(_GROUPS[level])
            item = QListWidgetItem(issue.title)
            item.setData(_KEY, issue.key)
            item.setData(_LEVEL, issue.level)
            item.setData(_COUNT, issue.count)
            item.setToolTip(issue.title)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{level}: {issue.title}")
            self.addItem(item)
        self.blockSignals(False)
        self.choose(before)

    def chosen(self) -> str:
        """The key of the chosen one, empty where there is none."""
        item = self.currentItem()
        return str(item.data(_KEY) or "") if item else ""

    def choose(self, key: str) -> None:
        """Choose one; the first where this one is not there."""
        items = [self.item(at) for at in range(self.count())]
        lines = [item for item in items if item.data(_KEY)]
        if lines:
            self.setCurrentItem(next((i for i in lines if i.data(_KEY) == key), lines[0]))

    def _add_head(self, text: str) -> None:
        item = QListWidgetItem(text)
        item.setFlags(Qt.ItemFlag.NoItemFlags)
        self.addItem(item)

    def _tell(self, item: QListWidgetItem | None) -> None:
        if item is not None and item.data(_KEY):
            self.wanted.emit(item.data(_KEY))


class _Lines(QStyledItemDelegate):
    """Mark, title, count; a heading over each group."""

    def sizeHint(
        self, _option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        """Headings are a little lower."""
        return QSize(120, _LINE if index.data(_KEY) else _HEAD)

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        """As the house draws lists."""
        painter.save()
        box: QRect = option.rect
        room = box.adjusted(_SIDE, 0, -_SIDE, 0)
        if index.data(_KEY):
            chosen = option.state & QStyle.StateFlag.State_Selected
            self._paint_line(painter, box, room, index, chosen=bool(chosen))
        else:
            painter.setFont(font("caption"))
            painter.setPen(theme.tokens.color("text2"))
            below = room.adjusted(0, 8, 0, 0)
            painter.drawText(below, Qt.AlignmentFlag.AlignVCenter, index.data())
        painter.restore()

    def _paint_line(
        self,
        painter: QPainter,
        box: QRect,
        room: QRect,
        index: QModelIndex | QPersistentModelIndex,
        *,
        chosen: bool,
    ) -> None:
        tokens, (_, tone, mark) = theme.tokens, LOOKS[index.data(_LEVEL)]
        if chosen:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(tokens.color("selected"))
            painter.drawRoundedRect(box.adjusted(6, 1, -4, -1), 6, 6)
        top = box.top() + (box.height() - _MARK) // 2
        painter.drawPixmap(room.left(), top, pixmap(mark, tone, _MARK))
        painter.setFont(font("callout", tabular=True))
        painter.setPen(tokens.color("text2"))
        count = f"{index.data(_COUNT):,}"
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, count)
        wide = painter.fontMetrics().horizontalAdvance(count) + 12
        words = room.adjusted(_MARK + 8, 0, -wide, 0)
        painter.setFont(font("strong" if chosen else "body"))
        painter.setPen(tokens.color("text"))
        title = painter.fontMetrics().elidedText(
            index.data(), Qt.TextElideMode.ElideRight, words.width()
        )
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter, title)
