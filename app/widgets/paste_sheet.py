"""Text from the clipboard, looked at and named before it becomes a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QLineEdit, QPlainTextEdit, QVBoxLayout

from app.theme import font
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget


class Pasted(msgspec.Struct, frozen=True):
    """What becomes a file, and what it is called."""

    name: str
    text: str


class PasteSheet(QDialog):
    """Emits `saved` with a `Pasted`; `place` says where a name and a text will be kept."""

    saved = Signal(object)

    def __init__(self, parent: QWidget, text: str, place: Callable[[str, str], str]) -> None:
        super().__init__(parent.window())
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setWindowTitle("Paste Text")
        self.setMinimumWidth(560)
        self._place = place
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(8)
        column.addWidget(Label("Save the pasted text as a dataset", "headline"))
        self.name, self.text = QLineEdit("Pasted text"), QPlainTextEdit(text)
        self.name.setAccessibleName("Name")
        self.name.setMaxLength(60)
        self.text.setAccessibleName("Text")
        self.text.setTabChangesFocus(True)
        self.text.setFont(font("mono"))
        self.text.setMinimumHeight(220)
        column.addWidget(Label("Name", "callout", "text2"))
        column.addWidget(self.name)
        column.addWidget(Label("Text", "callout", "text2"))
        column.addWidget(self.text, 1)
        self._where = Label("", "caption", "text2", wrap=True)
        column.addWidget(self._where)
        self.save = Button("Save and Use", self._save, kind="primary")
        self.save.setDefault(True)
        self.cancel = Button("Cancel", self.reject)
        column.addWidget(Row(None, self.cancel, self.save))
        self.name.textChanged.connect(self._say)
        self.text.textChanged.connect(self._say)
        self._say()
        self.name.selectAll()
        self.name.setFocus()

    def _say(self) -> None:
        text = self.text.toPlainText()
        good = bool(text.strip())
        self.save.setEnabled(good)
        where = self._place(self.name.text(), text)
        self._where.setText(f"It will be kept as {where}" if good else "There is no text yet.")

    def _save(self) -> None:
        self.saved.emit(Pasted(self.name.text(), self.text.toPlainText()))
        self.accept()
