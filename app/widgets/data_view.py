"""A dataset that was read: its numbers, what to look at, its rows as written and as read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QStackedWidget,
    QTableView,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from app.widgets.button import Segments
from app.widgets.card import Card
from app.widgets.data_header import DataHeader
from app.widgets.data_rail import DataRail
from app.widgets.issue_list import IssueList
from app.widgets.label import ElidedLabel
from app.widgets.token_view import TokenView

if TYPE_CHECKING:
    from PySide6.QtCore import QAbstractTableModel, QModelIndex

_ROW, _NUMBER, _TOKENS = 30, 64, 104


class DataView(QWidget):
    """Emits `row_wanted` when the text of a row is to be shown."""

    row_wanted = Signal(int)

    def __init__(self, rows: QAbstractTableModel) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._rows, self._row = rows, 1
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        self.header, self.issues, self.rail = DataHeader(), IssueList(), DataRail()
        column.addWidget(self.header)
        column.addWidget(self.issues)
        below = QHBoxLayout()
        below.setSpacing(16)
        below.addWidget(self._make_preview(), 1)
        below.addWidget(self.rail)
        column.addLayout(below, 1)

    @property
    def row(self) -> int:
        """The number of the row whose text is shown, or would be."""
        return self._row

    @property
    def shows_text(self) -> bool:
        """Whether the model's view is open."""
        return self._stack.currentWidget() is self.text

    def say_rows(self, shown: int, total: int, last: int, *, what: str) -> None:
        """How many rows there are; `last` is the number of the last one."""
        words = f"first {shown:,} of {total:,} {what}" if shown < total else f"{total:,} {what}"
        self._caption.setText(words)
        self.text.say_rows(last)
        fields, header = self._rows.columnCount() - 2, self.table.horizontalHeader()
        for at in range(fields + 2):
            header.setSectionResizeMode(at, QHeaderView.ResizeMode.Stretch)
        for at, width in ((0, _NUMBER), (fields + 1, _TOKENS)):
            header.setSectionResizeMode(at, QHeaderView.ResizeMode.Fixed)
            self.table.setColumnWidth(at, width)

    def open_rows(self) -> None:
        """The rows as they were written."""
        self.switch.choose("rows")
        self._stack.setCurrentWidget(self.table)

    def open_text(self, row: int) -> None:
        """A row as the model sees it."""
        self.switch.choose("text")
        self._stack.setCurrentWidget(self.text)
        self._row = row
        self.text.choose(row)
        self.row_wanted.emit(row)

    def select(self, at: int) -> None:
        """Bring a row of the table into sight."""
        self.table.selectRow(at)
        self.table.scrollTo(self._rows.index(at, 0), QTableView.ScrollHint.PositionAtCenter)

    def _make_preview(self) -> Card:
        card = Card("Preview", margin=0, spacing=8)
        card.head.setContentsMargins(16, 12, 12, 0)
        self._caption = ElidedLabel("", "caption", "text2")
        choices = (("rows", "Rows"), ("text", "What the Model Sees"))
        self.switch = Segments(choices, self._switch, name="Preview")
        card.head.addWidget(self._caption, 1)
        card.head.addWidget(self.switch)
        self.text = TokenView()
        self.text.wanted.connect(self.open_text)
        self._stack = QStackedWidget()
        self._stack.setMinimumHeight(230)
        self._stack.addWidget(self._make_table())
        self._stack.addWidget(self.text)
        card.body.addWidget(self._stack, 1)
        card.body.addSpacing(4)
        self.open_rows()
        return card

    def _make_table(self) -> QTableView:
        self.table = table = QTableView()
        table.setModel(self._rows)
        table.setAccessibleName("Rows")
        table.setTabKeyNavigation(False)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW)
        table.horizontalHeader().setHighlightSections(False)
        table.horizontalHeader().setAccessibleName("Columns")
        table.setToolTip("Press Return on a row to see what the model sees")
        table.activated.connect(self._open_index)
        return table

    def _switch(self, key: str) -> None:
        if key == "rows":
            self.open_rows()
            return
        chosen = self.table.selectionModel().selectedRows()
        self.open_text(self._number(chosen[0]) if chosen else self._row)

    def _open_index(self, index: QModelIndex) -> None:
        self.open_text(self._number(index))

    def _number(self, index: QModelIndex) -> int:
        shown: Any = self._rows.index(index.row(), 0).data()
        return int(str(shown).replace(",", ""))
