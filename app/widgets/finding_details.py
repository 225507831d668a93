"""One finding: what it is, what it does to training, what can be done, and where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QListWidget, QListWidgetItem

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.excerpt_card import ExcerptText, Lines
from app.widgets.label import Label
from app.widgets.pill import Pill
from app.widgets.scroll import ScrollColumn

if TYPE_CHECKING:
    from app.issues import Issue, Place

_PILLS = {
    "error": ("Must be put right", "bad", "close"), "warning": ("Warning", "warn", "warn"),
    "note": ("Note", "accent", "info"),
}  # fmt: skip
_LENGTHS = {"cut", "cut_answer", "dropped", "no_target"}
_PLACES_HEIGHT, _PLACE = 132, 24


class FindingDetails(ScrollColumn):
    """Says it in words, with buttons for what can be done.

    Attributes:
        visited: the rows are wanted, of the issue with this key.
        place_wanted: the text around a place, as `file:line:column`.
        cleaned: a cleaned copy is wanted.
        lengths_wanted: the choice of what becomes of long rows is wanted.
        columns_wanted: the person wants to say which column is which.
    """

    visited = Signal(str)
    place_wanted = Signal(str)
    cleaned, lengths_wanted, columns_wanted = Signal(), Signal(), Signal()

    def __init__(self) -> None:
        super().__init__(spacing=6)
        self.pill, self.title = Pill(), Label("", "headline", wrap=True)
        self.effect, self.fix = Label("", wrap=True), Label("", tone="text2", wrap=True)
        self._issue: Issue | None = None
        self.rows = Button("Show Rows", self._visit, icon="list")
        self.clean = Button("Write a Cleaned Copy…", self.cleaned.emit)
        self.lengths = Button("Long Rows…", self.lengths_wanted.emit)
        self.columns = Button("Choose Columns…", self.columns_wanted.emit)
        self.which = Label("", "caption", "text2", wrap=True)
        self.places = self._make_places()
        self.excerpt = ExcerptText()
        self.excerpt.hide()
        self.column.addWidget(Row(self.pill, None))
        for widget in (self.title, self.effect, self.fix):
            self.column.addWidget(widget)
        self.column.addSpacing(4)
        buttons = Row(self.rows, self.columns, self.lengths, self.clean, None)
        for part in (buttons, self.which, self.places, self.excerpt):
            self.column.addWidget(part)
        self.column.addStretch(1)

    def show_issue(self, issue: Issue) -> None:
        """Another finding."""
        self._issue = issue
        self.pill.say(*_PILLS[issue.level])
        self.title.setText(issue.title)
        self.effect.setText(issue.effect)
        self.fix.setText(issue.fix)
        self.rows.setVisible(bool(issue.rows))
        self.rows.setAccessibleName(f"Show rows: {issue.title}")
        self.clean.setVisible(issue.cleanable)
        self.lengths.setVisible(issue.code in _LENGTHS)
        self.columns.setVisible(issue.code == "unknown")
        self.which.setText(_which(issue))
        self.which.setVisible(bool(self.which.text()))
        self._show_places(issue.places)

    def show_excerpt(self, lines: Lines, line: int, mark: int) -> None:
        """The text around the chosen place."""
        self.excerpt.show_lines(lines, line, mark)
        self.excerpt.show()

    def _make_places(self) -> QListWidget:
        places = QListWidget()
        places.setAccessibleName("Places")
        places.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        places.setTextElideMode(Qt.TextElideMode.ElideRight)
        places.setUniformItemSizes(True)
        places.currentItemChanged.connect(self._want_place)
        return places

    def _show_places(self, found: tuple[Place, ...]) -> None:
        self.excerpt.hide()
        self.places.setVisible(bool(found))
        self.places.blockSignals(True)
        self.places.clear()
        for place in found:
            item = QListWidgetItem(f"{_spot(place.where)}: {place.why}")
            item.setToolTip(f"{place.where}: {place.why}")
            item.setData(Qt.ItemDataRole.UserRole, place.where)
            item.setSizeHint(QSize(40, _PLACE))
            self.places.addItem(item)
        self.places.setFixedHeight(min(_PLACES_HEIGHT, _PLACE * max(1, len(found)) + 6))
        self.places.blockSignals(False)
        if found:
            self.places.setCurrentRow(0)

    def _want_place(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.place_wanted.emit(item.data(Qt.ItemDataRole.UserRole))

    def _visit(self) -> None:
        if self._issue is not None:
            self.visited.emit(self._issue.key)


def _spot(where: str) -> str:
    """`file:7:23` as words; anything else as it is."""
    name, *numbers = where.rsplit(":", 2)
    if len(numbers) == 2 and all(number.isdigit() for number in numbers):  # noqa: PLR2004
        return f"{_last(name)}, line {int(numbers[0]):,}, column {int(numbers[1]):,}"
    if numbers and numbers[-1].isdigit():
        return f"{_last(':'.join([name, *numbers[:-1]]))}, line {int(numbers[-1]):,}"
    return where


def _last(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _which(issue: Issue) -> str:
    """The first numbers, so that a person can look in the file."""
    if not issue.rows:
        return ""
    shown = ", ".join(f"{row:,}" for row in issue.rows[:12])
    return f"Rows {shown}{', …' if issue.count > 12 else ''}"  # noqa: PLR2004
