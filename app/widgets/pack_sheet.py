"""A smaller copy: to how many bits, what it weighs then, where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QVBoxLayout

from app.widgets.button import Button, Segments
from app.widgets.card import Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PySide6.QtWidgets import QWidget

_WORDS = {
    "4": "A quarter of the room. The usual choice for training on a Mac.",
    "6": "In between: closer to the original than 4 bits.",
    "8": "Half of the room, and nearly the original.",
}


class PackSheet(QDialog):
    """Emits `chosen` with the bits; `sizes` are bits -> what it weighs, in words."""

    chosen = Signal(int)

    def __init__(
        self, parent: QWidget, title: str, sizes: Mapping[str, str], taken: frozenset[str]
    ) -> None:
        super().__init__(parent.window())
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setWindowTitle("Make a Smaller Copy")
        self.setMinimumWidth(480)
        self._sizes, self._taken, self._bits = sizes, taken, ""
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(10)
        column.addWidget(ElidedLabel(f"Make a smaller copy of {title}", "headline"))
        words = "The original stays. What the copy costs is measured on sample text."
        column.addWidget(Label(words, "callout", "text2"))
        choices = [(bits, f"{bits} Bits") for bits in sizes]
        self.bits = Segments(choices, self._choose, name="Bits a weight")
        column.addWidget(Row(self.bits, None))
        self.weight, self.about = Label("", "strong"), Label("", "callout", "text2")
        self.where = Label("It is kept among Understudy’s own models.", "caption", "text2")
        for label in (self.weight, self.about, self.where):
            column.addWidget(label)
        self.make = Button("Make Copy", self._make, kind="primary")
        self.make.setDefault(True)
        self.cancel = Button("Cancel", self.reject)
        column.addWidget(Row(None, self.cancel, self.make))
        free = [bits for bits in sizes if bits not in taken]
        self._choose((free or list(sizes))[0])

    def _choose(self, bits: str) -> None:
        self._bits = bits
        self.bits.choose(bits)
        here = bits in self._taken
        self.weight.setText(f"About {self._sizes[bits]}")
        self.about.setText("This copy is here already." if here else _WORDS[bits])
        self.make.setEnabled(not here)

    def _make(self) -> None:
        self.chosen.emit(int(self._bits))
        self.accept()
