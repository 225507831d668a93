"""The first minute: what this is, in three lines, and two ways to begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QLabel, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from PySide6.QtGui import QIcon
    from PySide6.QtWidgets import QWidget

_WIDE, _ICON, _MARK = 540, 76, 22
_LINES = (
    ("cube", "Choose a small language model. It stays as it is."),
    ("text", "Give it your text. An adapter learns the part beside the model."),
    ("export", "Hear the difference, then take it to llama.cpp, Ollama or LM Studio."),
)


class Welcome(QDialog):
    """A sheet that is shown once; however it is closed, it does not come back.

    Attributes:
        sample: try it with what is bundled.
        model: begin with the first step.
    """

    sample = Signal()
    model = Signal()

    def __init__(self, parent: QWidget, icon: QIcon) -> None:
        super().__init__(parent)
        self.setWindowTitle("Welcome to Understudy")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setFixedWidth(_WIDE)
        column = QVBoxLayout(self)
        column.setContentsMargins(32, 28, 32, 24)
        column.setSpacing(14)
        mark = QLabel()
        mark.setPixmap(icon.pixmap(_ICON, _ICON))
        column.addWidget(mark, 0, Qt.AlignmentFlag.AlignHCenter)
        title = Label("Welcome to Understudy", "title")
        column.addWidget(title, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(4)
        self._marks: list[tuple[QLabel, str]] = []
        for name, words in _LINES:
            column.addWidget(self._make_line(name, words))
        note = Label("Nothing leaves this computer.", "callout", "text2")
        column.addWidget(note, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(6)
        self.begin = Button("Choose a Model", self._begin)
        self.trial = Button("Try with Sample", self._try, kind="primary")
        self.trial.setDefault(True)
        column.addWidget(Row(None, self.begin, self.trial))
        theme.changed.connect(self._redraw)
        self._redraw()
        self.trial.setFocus()

    def _make_line(self, name: str, words: str) -> Row:
        mark, text = QLabel(), Label(words, wrap=True)
        mark.setFixedWidth(_MARK + 4)
        self._marks.append((mark, name))
        row = Row(mark, text, spacing=10)
        row.items.setStretch(1, 1)
        return row

    def _begin(self) -> None:
        self.accept()
        self.model.emit()

    def _try(self) -> None:
        self.accept()
        self.sample.emit()

    def _redraw(self) -> None:
        for label, name in self._marks:
            label.setPixmap(pixmap(name, "accent", _MARK))
