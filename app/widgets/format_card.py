"""A format to export to: taken or not, what it is for, in which precision, how large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.card import Card
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

_COMBO, _INDENT = 214, 64


class FormatFacts(msgspec.Struct, frozen=True):
    """What a card shows.

    Attributes:
        choices: (precision, its words), the order they are offered in.
        note: under the precision: what it does to the model; the reason where it cannot be.
    """

    title: str
    icon: str
    purpose: str
    choices: tuple[tuple[str, str], ...] = ()
    quant: str = ""
    size: str = ""
    note: str = ""
    possible: bool = True


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
        self.title, self.purpose = Label(title, "strong"), ElidedLabel("", "callout", "text2")
        self.combo, self.weight = QComboBox(), Label("", "callout", "text2")
        self.combo.setFixedWidth(_COMBO)
        self.combo.setAccessibleName(f"{title}: precision")
        self.weight.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.note = Label("", "callout", "text2", wrap=True)
        self._icon, self._extra = "file", QHBoxLayout()
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
        self.box.setEnabled(facts.possible)
        self.box.setAccessibleDescription(f"{facts.purpose} {facts.size} {facts.note}".strip())
        self._show_choices(facts)
        self._redraw()

    def add(self, widget: QWidget) -> None:
        """Something beside the precision."""
        self._extra.addWidget(widget)

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
        row, words = QHBoxLayout(), QVBoxLayout()
        row.setSpacing(12)
        middle = Qt.AlignmentFlag.AlignVCenter
        row.addWidget(self.box, 0, middle)
        row.addWidget(self.mark, 0, middle)
        row.addWidget(self.title, 1, middle)
        row.addWidget(self.combo, 0, middle)
        row.addWidget(self.weight, 0, middle)
        words.setContentsMargins(_INDENT, 0, 0, 0)
        words.setSpacing(1)
        self._extra.addWidget(self.purpose, 1)
        words.addLayout(self._extra)
        words.addWidget(self.note)
        self.body.addLayout(row)
        self.body.addLayout(words)

    def _redraw(self) -> None:
        tone = "accent" if self.box.isEnabled() else "text3"
        self.mark.setPixmap(pixmap(self._icon, tone, 20))
        self.title.set_tone("text" if self.box.isEnabled() else "text3")
