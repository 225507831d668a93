"""A format to export to: taken or not, what it is for, in which precision, how large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel

from app.icons import pixmap
from app.theme import theme
from app.widgets.card import Card
from app.widgets.label import Label

if TYPE_CHECKING:
    from PySide6.QtGui import QMouseEvent, QResizeEvent
    from PySide6.QtWidgets import QWidget

# width of the choice of precision, and of a card that has it beside its words
_COMBO, _ROOMY = 222, 560
# the column of the words
_WORDS = 2


class FormatFacts(msgspec.Struct, frozen=True):
    """What a card shows.

    Attributes:
        choices: (precision, its words), the order they are offered in.
        note: under the purpose: what the precision does to the model; the reason where the format
            cannot be.
        busy: exports are being made; nothing can be chosen.
    """

    title: str
    icon: str
    purpose: str
    choices: tuple[tuple[str, str], ...] = ()
    quant: str = ""
    size: str = ""
    note: str = ""
    possible: bool = True
    busy: bool = False


class FormatCard(Card):
    """One format.

    Attributes:
        wanted: taken (True) or left.
        quant_chosen: another precision.
    """

    wanted = Signal(bool)
    quant_chosen = Signal(str)

    def __init__(self, title: str) -> None:
        super().__init__(margin=12, spacing=0)
        self.box, self.mark = QCheckBox(), QLabel()
        self.box.setAccessibleName(title)
        self.title = Label(title, "strong")
        self.purpose = Label("", "callout", "text2", wrap=True)
        self.combo, self.weight = QComboBox(), Label("", "callout", "text2")
        self.combo.setFixedWidth(_COMBO)
        self.combo.setAccessibleName(f"{title}: precision")
        self.weight.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.note = Label("", "callout", "text2", wrap=True)
        self._icon, self._possible, self._grid = "file", True, QGridLayout()
        self._arrange()
        self.box.toggled.connect(self.wanted)
        self.combo.activated.connect(lambda at: self.quant_chosen.emit(self.combo.itemData(at)))
        theme.changed.connect(self._redraw)

    def show_facts(self, facts: FormatFacts, *, taken: bool) -> None:
        """What it is now; tells nobody."""
        self._icon = facts.icon
        self.purpose.setText(facts.purpose)
        self.weight.setText(facts.size)
        self.note.setText(facts.note)
        self.note.setVisible(bool(facts.note))
        self.note.set_tone("text2" if facts.possible else "warn")
        self.box.blockSignals(True)
        self.box.setChecked(taken)
        self.box.blockSignals(False)
        self.box.setEnabled(facts.possible and not facts.busy)
        self.combo.setEnabled(not facts.busy)
        self._possible = facts.possible
        self.box.setAccessibleDescription(f"{facts.purpose} {facts.size} {facts.note}".strip())
        self._show_choices(facts)
        self._redraw()

    def add(self, widget: QWidget) -> None:
        """Something under its words."""
        self._grid.addWidget(widget, 4, _WORDS, 1, 2)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """A narrow card has its precision under its words."""
        super().resizeEvent(event)
        narrow = event.size().width() < _ROOMY
        if narrow != self._narrow:
            self._place_combo(narrow=narrow)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """The whole card takes the format or leaves it."""
        inside = self.rect().contains(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and inside and self.box.isEnabled():
            self.box.click()
        super().mouseReleaseEvent(event)

    def _show_choices(self, facts: FormatFacts) -> None:
        self.combo.setVisible(len(facts.choices) > 1)
        self.weight.setVisible(len(facts.choices) == 1)
        now = [
            (self.combo.itemData(at), self.combo.itemText(at)) for at in range(self.combo.count())
        ]
        if now != list(facts.choices):
            self.combo.clear()
            for quant, words in facts.choices:
                self.combo.addItem(words, quant)
        at = self.combo.findData(facts.quant)
        if at != self.combo.currentIndex():
            self.combo.setCurrentIndex(at)

    def _arrange(self) -> None:
        grid, middle = self._grid, Qt.AlignmentFlag.AlignVCenter
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(_WORDS, 1)
        grid.addWidget(self.box, 0, 0, 2, 1, middle)
        grid.addWidget(self.mark, 0, 1, 2, 1, middle)
        grid.addWidget(self.title, 0, _WORDS)
        grid.addWidget(self.purpose, 1, _WORDS)
        grid.addWidget(self.weight, 0, _WORDS + 1, 2, 1, middle)
        grid.addWidget(self.note, 3, _WORDS, 1, 2)
        self.body.addLayout(grid)
        self._place_combo(narrow=False)

    def _place_combo(self, *, narrow: bool) -> None:
        """Beside the words, or under them where there is little room."""
        self._narrow, grid = narrow, self._grid
        grid.removeWidget(self.combo)
        if narrow:
            grid.addWidget(self.combo, 2, _WORDS, 1, 2)
        else:
            grid.addWidget(self.combo, 0, _WORDS + 1, 2, 1, Qt.AlignmentFlag.AlignVCenter)

    def _redraw(self) -> None:
        self.mark.setPixmap(pixmap(self._icon, "accent" if self._possible else "text3", 20))
        self.title.set_tone("text" if self._possible else "text3")
