"""A field of a form: name, a sentence, an editor, a mark and a way back where it was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

_BREAK = "⏎"
# widths of editors: numbers and short words, and words that need more room
NARROW, WIDE = 142, 210


class FieldRow(QWidget):
    """One field; a subclass brings the editor.

    Attributes:
        edited: the person gave another value; carries it.
        reset: the preset's value is wanted.
    """

    edited = Signal(object)
    reset = Signal()

    def __init__(
        self,
        label: str,
        text: str,
        editor: QWidget,
        *,
        tip: str = "",
        below: bool = False,
        width: int = NARROW,
    ) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.label, self._text, self._tip = label, text, tip
        self._editor = editor
        name, self.mark = Label(label, "strong"), ChangeMark()
        self.text = Label(text, "caption", "text2", wrap=True)
        self.error = Label("", "caption", "bad", wrap=True)
        self.error.hide()
        self.back = Button("", self.reset.emit, kind="quiet", icon="redo", name=f"Reset {label}")
        self.back.setToolTip("Back to the preset’s value")
        keep = self.back.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.back.setSizePolicy(keep)
        outer, words, row = QVBoxLayout(self), QVBoxLayout(), QHBoxLayout()
        words.setSpacing(1)
        words.addWidget(Row(name, self.mark, None, spacing=6))
        words.addWidget(self.text)
        words.addWidget(self.error)
        outer.setContentsMargins(0, 6, 0, 6)
        outer.setSpacing(6)
        outer.addLayout(row)
        row.setSpacing(8)
        row.addLayout(words, 1)
        row.addWidget(self.back, 0, Qt.AlignmentFlag.AlignVCenter)
        if below:
            outer.addWidget(editor)
        else:
            row.addWidget(editor, 0, Qt.AlignmentFlag.AlignVCenter)
            editor.setFixedWidth(width)
        for part in self.inputs():
            part.setAccessibleName(label)
            part.setToolTip(tip)
        self.say(changed=False, error="")

    def inputs(self) -> Sequence[QWidget]:
        """What takes the keyboard."""
        return [self._editor]

    def say(self, *, changed: bool, error: str, idle: str = "") -> None:
        """Whether it differs from the preset, what is wrong with it, why it changes nothing now."""
        self.text.setText(idle or self._text)
        self.mark.setVisible(changed)
        self.back.setVisible(changed)
        self.error.setText(error)
        self.error.setVisible(bool(error))
        self.text.setVisible(not error)
        state = "Changed. " if changed else ""
        for part in self.inputs():
            part.setEnabled(not idle)
            said = error or idle or self._text
            part.setAccessibleDescription(f"{said} {state}{self._tip}".strip())
            if part.property("bad") is not bool(error):
                part.setProperty("bad", bool(error))
                part.style().unpolish(part)
                part.style().polish(part)


class ChangeMark(QLabel):
    """A dot and a word."""

    def __init__(self) -> None:
        super().__init__("changed")
        self.setAccessibleName("Changed")
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        made = self.font()
        made.setPixelSize(11)
        self.setFont(made)
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        """Dot and word."""
        return QSize(self.fontMetrics().horizontalAdvance(self.text()) + 12, 15)

    def minimumSizeHint(self) -> QSize:
        """It never gives way."""
        return self.sizeHint()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Both in the accent."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tone = theme.tokens.color("accent")
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tone)
        painter.drawEllipse(QPointF(3, self.height() / 2), 2.5, 2.5)
        painter.setPen(tone)
        room = QRectF(10, 0, self.width() - 8, self.height())
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, self.text())
        painter.end()


class TextField(FieldRow):
    """Something typed: `edited` carries the text."""

    def __init__(self, label: str, text: str, *, empty: str = "", tip: str = "") -> None:
        self.line = QLineEdit()
        self.line.setPlaceholderText(empty)
        super().__init__(label, text, self.line, tip=tip)
        self.line.textEdited.connect(self.edited.emit)

    def show_value(self, text: str) -> None:
        """Show a value; while it is typed, what is typed stays."""
        if not self.line.hasFocus() and self.line.text() != text:
            self.line.setText(text)
            self.line.setCursorPosition(0)


class ChoiceField(FieldRow):
    """One of a few: `edited` carries the value."""

    def __init__(
        self,
        label: str,
        text: str,
        choices: Sequence[tuple[Any, str]],
        *,
        tip: str = "",
        width: int = NARROW,
    ) -> None:
        self.box = QComboBox()
        for value, words in choices:
            self.box.addItem(words, value)
        self._count = len(choices)
        super().__init__(label, text, self.box, tip=tip, width=width)
        self.box.activated.connect(lambda at: self.edited.emit(self.box.itemData(at)))

    def show_value(self, value: Any, words: str = "") -> None:
        """Show a value; one that is none of the choices is added with its own words."""
        at = next((n for n in range(self.box.count()) if self.box.itemData(n) == value), -1)
        if at < 0:
            while self.box.count() > self._count:
                self.box.removeItem(self._count)
            self.box.addItem(words or str(value), value)
            at = self._count
        self.box.setCurrentIndex(at)


class FlagField(FieldRow):
    """On or off: `edited` carries which."""

    def __init__(self, label: str, text: str, *, tip: str = "") -> None:
        self.box = QCheckBox("On")
        super().__init__(label, text, self.box, tip=tip)
        self.box.clicked.connect(lambda: self.edited.emit(self.box.isChecked()))

    def show_value(self, value: object) -> None:
        """Show whether it is on."""
        self.box.setChecked(value is True)


class LinesField(FieldRow):
    """A few lines of text: `edited` carries those that hold something.

    A line break inside one is shown, and typed, as ⏎.
    """

    def __init__(self, label: str, text: str, lines: int, *, empty: str = "") -> None:
        self.lines = [QLineEdit() for _ in range(lines)]
        holder = QWidget()
        holder.setProperty("role", "clear")
        column = QVBoxLayout(holder)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for line in self.lines:
            line.setPlaceholderText(empty)
            line.textEdited.connect(self._tell)
            column.addWidget(line)
        super().__init__(label, text, holder, below=True)
        for number, line in enumerate(self.lines, start=1):
            line.setAccessibleName(f"{label} {number}")

    def inputs(self) -> Sequence[QWidget]:
        """Every line."""
        return self.lines

    def show_value(self, texts: Sequence[str]) -> None:
        """Show these; while one is typed, all stay."""
        if any(line.hasFocus() for line in self.lines):
            return
        for at, line in enumerate(self.lines):
            line.setText(texts[at].replace("\n", _BREAK) if at < len(texts) else "")
            line.setCursorPosition(0)

    def _tell(self) -> None:
        said = [line.text().replace(_BREAK, "\n") for line in self.lines]
        self.edited.emit([text for text in said if text.strip()])
