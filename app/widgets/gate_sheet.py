"""What stands before a model: its owner's terms on the page, and a token that shows who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QLineEdit, QVBoxLayout

from app.widgets.button import Button
from app.widgets.card import Line, Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

_WIDE, _NUMBER = 540, 18
_KEYCHAIN = "the Keychain"


class GateSheet(QDialog):
    """Two steps; the token leaves it in the signal alone, and the field is emptied with it.

    Attributes:
        page_wanted: the model's page is to be opened.
        tokens_wanted: the page where tokens are made is to be opened.
        given: a token was pasted, and is to be kept; carries it.
        again: try once more, with what is there by now.
        twin_wanted: take the same model without asking.
        forgotten: the token in the Keychain is to be taken out.
    """

    page_wanted = Signal()
    tokens_wanted = Signal()
    given = Signal(str)
    again = Signal()
    twin_wanted = Signal()
    forgotten = Signal()

    def __init__(self, parent: QWidget, title: str = "", *, why: str = "", twin: str = "") -> None:
        """Of a model called `title`; without one, of the token alone."""
        super().__init__(parent.window())
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setWindowTitle("Access to a Model" if title else "Access Token")
        self.setMinimumWidth(_WIDE)
        self._model, self._source = bool(title), ""
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(10)
        head = f"{title} asks for your consent" if title else "Access token of Hugging Face"
        column.addWidget(Label(head, "headline", wrap=True))
        said = why or "Open models need no token. Some ask you to accept their terms first."
        column.addWidget(Label(said, "callout", "text2", wrap=True))
        self._add_steps(column)
        self._add_twin(column, twin)
        self.cancel = Button("Cancel", self.reject)
        self.go = Button("Try Again" if title else "Keep in Keychain", self._go, kind="primary")
        self.go.setDefault(True)
        self.forget = Button("Forget Token", self.forgotten.emit, kind="danger")
        self.forget.hide()
        column.addWidget(Row(self.forget, None, self.cancel, self.go))
        self.field.textChanged.connect(self._say)
        self.say_source(None)
        self.field.setFocus()

    def say_source(self, source: str | None) -> None:
        """Where the token in use is from; "" where there is none, None while that is asked."""
        self._source = source or ""
        words = f"In use now: {source}." if source else "No token is in use."
        if source is None:
            words = "Looking for a token…"
        elif source and source != _KEYCHAIN:
            words += " It goes before one in the Keychain."
        self.state.setText(words)
        self.state.set_tone("text2")
        self.field.setEnabled(True)
        self.forget.setVisible(source == _KEYCHAIN)
        self._say()

    def say_failed(self, words: str) -> None:
        """The token was not kept; another try is possible."""
        self.state.setText(words)
        self.state.set_tone("bad")
        self.field.setEnabled(True)
        self._say()
        self.field.setFocus()

    def _add_steps(self, column: QVBoxLayout) -> None:
        """Each step a line with what it takes."""
        self.page = Button("Open Its Page", self.page_wanted.emit, icon="reveal")
        self.tokens = Button("Get a Token", self.tokens_wanted.emit)
        self.field = QLineEdit()
        self.field.setEchoMode(QLineEdit.EchoMode.Password)
        self.field.setPlaceholderText("hf_…")
        self.field.setAccessibleName("Access token")
        self.state = Label("", "caption", "text2", wrap=True)
        if self._model:
            terms = Label("Accept the licence on the model’s page, signed in.", wrap=True)
            column.addWidget(_step("1", terms, self.page))
        text = Label("Paste an access token that may read.", wrap=True)
        column.addWidget(_step("2" if self._model else "", text, self.tokens))
        column.addWidget(_step(" " if self._model else "", self.field))
        column.addWidget(_step(" " if self._model else "", self.state))

    def _add_twin(self, column: QVBoxLayout, twin: str) -> None:
        """The same model that can be had without all this."""
        self.twin = Button("Use It Instead", self._take_twin)
        if not twin:
            self.twin.hide()
            return
        column.addWidget(Line())
        words = Label(f"The same model without asking: {twin}", "callout", "text2", wrap=True)
        row = Row(words, self.twin)
        row.items.setStretch(0, 1)
        column.addWidget(row)

    def _say(self) -> None:
        typed = bool(self.field.text().strip())
        if self._model:
            self.go.say("Keep and Download" if typed else "Try Again")
        self.go.setEnabled(typed or self._model)

    def _go(self) -> None:
        value = self.field.text().strip()
        self.field.clear()
        if value:
            self.field.setEnabled(False)
            self.go.setEnabled(False)
            self.state.setText("Keeping it in the Keychain…")
            self.state.set_tone("text2")
            self.given.emit(value)
        else:
            self.accept()
            self.again.emit()

    def _take_twin(self) -> None:
        self.accept()
        self.twin_wanted.emit()


def _step(number: str, *parts: QWidget) -> Row:
    """A line: its number, words that take what is left, a button."""
    mark = Label(number.strip(), "strong", "accent")
    mark.setFixedWidth(_NUMBER if number else 0)
    row = Row(mark, *parts, spacing=8 if number else 0)
    row.items.setStretch(1, 1)
    row.items.setSpacing(8)
    return row
