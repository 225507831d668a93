"""A dataset: its rows as written and as read, what to look at, its figures, its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSortFilterProxyModel, Qt, Signal
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
from app.widgets.data_columns import ColumnsForm
from app.widgets.data_figures import DataFigures
from app.widgets.data_header import DataHeader
from app.widgets.data_progress import DataProgress
from app.widgets.data_rail import DataRail
from app.widgets.findings_card import FindingsCard
from app.widgets.issue_list import IssueStrip
from app.widgets.label import ElidedLabel
from app.widgets.search_field import SearchField
from app.widgets.token_view import TokenView
from app.widgets.visit_bar import VisitBar

if TYPE_CHECKING:
    from PySide6.QtCore import QAbstractTableModel, QModelIndex

_ROW, _NUMBER, _TOKENS = 30, 64, 104
_TABS = (
    ("rows", "Rows"), ("text", "What the Model Sees"), ("findings", "Findings"),
    ("figures", "Figures"),
)  # fmt: skip


class DataView(QWidget):
    """Shows one of its tabs, or the form for columns in their place.

    Attributes:
        row_wanted: the text of a row is to be shown.
    """

    row_wanted = Signal(int)

    def __init__(self, rows: QAbstractTableModel) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._rows, self._row, self.tab = rows, 1, "rows"
        self._words = ("", "")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        self.header, self.progress, self.issues = DataHeader(), DataProgress(), IssueStrip()
        self.rail, self.findings, self.figures = DataRail(), FindingsCard(), DataFigures()
        self.columns = ColumnsForm()
        self.rail.hide()  # until there are figures
        self.text, self.visits = TokenView(), VisitBar()
        self.text.wanted.connect(self.open_text)
        for widget in (self.header, self.progress, self.issues, self._make_tabs()):
            column.addWidget(widget)
        self._stack = QStackedWidget()
        for widget in (self._make_rows(), self.findings, self.figures, self.columns):
            self._stack.addWidget(widget)
        self._stack.setMinimumHeight(264)
        column.addWidget(self._stack, 1)
        self.issues.reviewed.connect(lambda: self.open("findings"))
        self.open("rows")

    @property
    def row(self) -> int:
        """The number of the row whose text is shown, or would be."""
        return self._row

    @property
    def shows_text(self) -> bool:
        """Whether the model's view is open."""
        return self.tab == "text"

    def say_rows(self, words: str, last: int, *, what: str) -> None:
        """Which rows are shown, in words; `last` is the number of the last one there is."""
        self._words = (words, what)
        self._say_caption()
        self.text.say_rows(last)
        fields, header = self._rows.columnCount() - 2, self.table.horizontalHeader()
        for at in range(fields + 2):
            header.setSectionResizeMode(at, QHeaderView.ResizeMode.Stretch)
        for at, width in ((0, _NUMBER), (fields + 1, _TOKENS)):
            header.setSectionResizeMode(at, QHeaderView.ResizeMode.Fixed)
            self.table.setColumnWidth(at, width)

    def say_findings(self, number: int) -> None:
        """How many findings there are, on their tab."""
        words = f"Findings · {number}" if number else "Findings"
        button = self.switch.buttons["findings"]
        if button.text() != words:
            button.setText(words)
            button.setAccessibleName(f"Show: {words}")

    def open(self, tab: str) -> None:
        """One of the tabs: rows, text, findings, figures; or columns."""
        self.tab = tab
        pages = {"findings": self.findings, "figures": self.figures, "columns": self.columns}
        self._stack.setCurrentWidget(pages.get(tab, self._beside))
        self._bar.setVisible(tab != "columns")
        if tab in self.switch.buttons:
            self.switch.choose(tab)
        self._preview.setCurrentWidget(self.text if tab == "text" else self.table)
        self.filter.setVisible(tab == "rows")
        self.text.finder.setVisible(tab == "text")
        self._say_caption()

    def open_text(self, row: int) -> None:
        """A row as the model sees it."""
        self._row = row
        self.text.choose(row)
        self.open("text")
        self.row_wanted.emit(row)

    def select(self, at: int) -> None:
        """Bring a row of the model into sight, also where a filter hid it."""
        index = self._shown.mapFromSource(self._rows.index(at, 0))
        if not index.isValid():
            self.filter.clear()
            index = self._shown.mapFromSource(self._rows.index(at, 0))
        self.open("rows")
        self.table.selectRow(index.row())
        self.table.scrollTo(index, QTableView.ScrollHint.PositionAtCenter)

    def _make_tabs(self) -> QWidget:
        self._bar = QWidget()
        self._bar.setProperty("role", "clear")
        row = QHBoxLayout(self._bar)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(12)
        self.switch = Segments(_TABS, self._switch, name="Show")
        self._caption = ElidedLabel("", "caption", "text2")
        self._caption.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight)
        self.filter = SearchField("Filter rows", name="Filter these rows")
        self.filter.setFixedWidth(200)
        self.filter.textChanged.connect(self._filter)
        row.addWidget(self.switch)
        row.addWidget(self._caption, 1)
        row.addWidget(self.text.finder)
        row.addWidget(self.filter)
        return self._bar

    def _make_rows(self) -> QWidget:
        self._beside = QWidget()
        self._beside.setProperty("role", "clear")
        row = QHBoxLayout(self._beside)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(16)
        card = Card(margin=0, spacing=4)
        card.body.setContentsMargins(0, 4, 0, 4)
        card.body.addWidget(self.visits)
        self._preview = QStackedWidget()
        self._preview.addWidget(self._make_table())
        self._preview.addWidget(self.text)
        card.body.addWidget(self._preview, 1)
        row.addWidget(card, 1)
        row.addWidget(self.rail)
        return self._beside

    def _make_table(self) -> QTableView:
        self.table = table = QTableView()
        self._shown = QSortFilterProxyModel(self)
        self._shown.setSourceModel(self._rows)
        self._shown.setFilterKeyColumn(-1)
        self._shown.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        table.setModel(self._shown)
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
        if key == "text":
            chosen = self.table.selectionModel().selectedRows()
            self.open_text(self._number(chosen[0]) if chosen else self._row)
        else:
            self.open(key)

    def _filter(self, words: str) -> None:
        self._shown.setFilterFixedString(words)
        self._say_caption()

    def _say_caption(self) -> None:
        words, what = self._words
        if self.filter.text():
            found, of = self._shown.rowCount(), self._rows.rowCount()
            words = f"{found:,} of the first {of:,} {what}"
        self._caption.setText(words if self.tab in {"rows", "text"} else "")

    def _open_index(self, index: QModelIndex) -> None:
        self.open_text(self._number(index))

    def _number(self, index: QModelIndex) -> int:
        shown: Any = self._shown.index(index.row(), 0).data()
        return int(str(shown).replace(",", ""))
