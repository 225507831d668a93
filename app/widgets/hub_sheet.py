"""A dataset of Hugging Face by its name, with the part and the split where there are several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QGridLayout, QLineEdit, QVBoxLayout

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_ADDRESS = re.compile(r"^https?://(?:www\.)?huggingface\.co/datasets/([\w.-]+/[\w.-]+).*$")
_FIELDS = (
    ("name", "Name", "owner/name, as in openai/gsm8k"),
    ("subset", "Subset", "only where the set has several"),
    ("split", "Split", "train, where nothing is said"),
)


def is_hub_name(text: str) -> bool:
    """Whether it may be the id of a dataset there: owner/name, and no path."""
    return _NAME.fullmatch(text) is not None and not text.startswith(".")


class HubChoice(msgspec.Struct, frozen=True):
    """A dataset there: its id, and which part and split; empty where there is nothing to say."""

    name: str
    subset: str = ""
    split: str = ""


class HubSheet(QDialog):
    """Emits `chosen` with a `HubChoice`; `why` says what the last answer asked for."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget, before: HubChoice, why: str = "") -> None:
        super().__init__(parent.window())
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setWindowTitle("From Hugging Face")
        self.setMinimumWidth(520)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(8)
        column.addWidget(Label("Use a dataset from Hugging Face", "headline"))
        words = "It is downloaded once and kept on this computer. Nothing of yours is sent."
        column.addWidget(Label(words, "callout", "text2", wrap=True))
        self.fields = self._make_fields(column, before)
        self._why = Label(why, "callout", "warn", wrap=True)
        self._why.setVisible(bool(why))
        column.addWidget(self._why)
        self.use = Button("Download and Use", self._use, kind="primary")
        self.use.setDefault(True)
        self.cancel = Button("Cancel", self.reject)
        column.addWidget(Row(None, self.cancel, self.use))
        self.fields["name"].textChanged.connect(self._say)
        self._say()
        self.fields["subset" if why else "name"].setFocus()

    def _make_fields(self, column: QVBoxLayout, before: HubChoice) -> dict[str, QLineEdit]:
        grid, fields = QGridLayout(), dict[str, QLineEdit]()
        grid.setHorizontalSpacing(12)
        for at, (key, title, hint) in enumerate(_FIELDS):
            field = QLineEdit(getattr(before, key))
            field.setPlaceholderText(hint)
            field.setAccessibleName(title)
            grid.addWidget(Label(title, "callout", "text2"), at, 0)
            grid.addWidget(field, at, 1)
            fields[key] = field
        column.addLayout(grid)
        return fields

    def _name(self) -> str:
        """The id, also where the whole address was pasted."""
        text = self.fields["name"].text().strip()
        return _ADDRESS.sub(r"\1", text)

    def _say(self) -> None:
        self.use.setEnabled(is_hub_name(self._name()))

    def _use(self) -> None:
        subset, split = (self.fields[key].text().strip() for key in ("subset", "split"))
        self.chosen.emit(HubChoice(self._name(), subset, split))
        self.accept()
