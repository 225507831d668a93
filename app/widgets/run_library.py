"""Search, order, the list of runs, and the chosen one in full beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.widgets.card import Card, Row
from app.widgets.label import Label
from app.widgets.run_details import RunDetails
from app.widgets.run_list import RunList
from app.widgets.search_field import SearchField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from app.widgets.run_list import RunLine

Index = QModelIndex | QPersistentModelIndex
_LEAST = 250


class RunLibrary(QWidget):
    """A list with a word about what is not found.

    Attributes:
        searched: other words were typed.
        ordered: another order was chosen, by its key.
    """

    searched = Signal(str)
    ordered = Signal(str)

    def __init__(
        self,
        model: QAbstractItemModel,
        describe: Callable[[Index], RunLine],
        orders: Iterable[tuple[str, str]],
        acts: Sequence[tuple[str, str, Callable[[], object]]],
    ) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        hint = "Search by name, base, data, state or date"
        self.search, self.order = SearchField(hint, name="Search runs"), QComboBox()
        self.order.setAccessibleName("Order")
        for key, words in orders:
            self.order.addItem(words, key)
        self.list, self.details = RunList(describe), RunDetails(acts)
        self.list.setModel(model)
        self.nothing = Label("", tone="text2", wrap=True)
        self.nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.nothing.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.nothing.hide()
        self._arrange()
        self.search.textChanged.connect(self.searched)
        self.order.currentIndexChanged.connect(self._reorder)

    def say_found(self, found: bool, text: str) -> None:
        """Whether anything is shown, and what is said where nothing is."""
        self.list.setVisible(found)
        self.nothing.setVisible(not found)
        self.nothing.setText(text)

    def _arrange(self) -> None:
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(12)
        tools = Row(self.search, self.order)
        tools.items.setStretch(0, 1)
        outer.addWidget(tools)
        card = Card(margin=4, spacing=0)
        card.setMinimumHeight(_LEAST)
        card.body.addWidget(self.list, 1)
        card.body.addWidget(self.nothing, 1)
        both = QHBoxLayout()
        both.setSpacing(16)
        both.addWidget(card, 1)
        both.addWidget(self.details)
        outer.addLayout(both, 1)

    def _reorder(self, at: int) -> None:
        self.ordered.emit(self.order.itemData(at))
