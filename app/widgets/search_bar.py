"""A search field with a filter beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.widgets.button import Pills
from app.widgets.search_field import SearchField

if TYPE_CHECKING:
    from collections.abc import Iterable


class SearchBar(QWidget):
    """What is searched for, and which of a few filters holds.

    Attributes:
        changed: text or filter is another one.
        entered: Return was pressed; carries the text.
    """

    changed = Signal()
    entered = Signal(str)

    def __init__(self, hint: str, filters: Iterable[tuple[str, str]], *, name: str) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.field = SearchField(hint, name=name)
        self.field.textChanged.connect(lambda _text: self.changed.emit())
        self.field.returnPressed.connect(lambda: self.entered.emit(self.text))
        chosen = list(filters)
        self.pills = Pills(chosen, self.choose, name="Show")
        self.filter = chosen[0][0]
        self.pills.choose(self.filter)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(12)
        row.addWidget(self.field, 1)
        row.addWidget(self.pills, 0, Qt.AlignmentFlag.AlignVCenter)

    @property
    def text(self) -> str:
        """What is searched for."""
        return self.field.text().strip()

    def choose(self, key: str) -> None:
        """Another filter."""
        self.filter = key
        self.pills.choose(key)
        self.changed.emit()
