"""What to look at in the data: a line each, with a way to the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QLabel, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import ElidedLabel

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 2
# key, sentence, whether it costs something, whether there are rows to show
Line = tuple[str, str, bool, bool]


class IssueList(QFrame):
    """The first two lines, the others behind a button; `wanted` carries the key of a line."""

    wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []
        self._all = False
        self.buttons: dict[str, Button] = {}
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(12, 6, 12, 6)
        self._column.setSpacing(0)
        theme.changed.connect(self._fill)
        self.hide()

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Other issues; none hides the strip."""
        if list(lines) != self._lines:
            self._lines, self._all = list(lines), False
            self._fill()
        self.setVisible(bool(self._lines))

    def _fill(self) -> None:
        while item := self._column.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self.buttons = {}
        warns = any(line[2] for line in self._lines)
        self.setProperty("role", "warn" if warns else "info")
        self.style().unpolish(self)
        self.style().polish(self)
        shown = self._lines if self._all else self._lines[:_SHOWN]
        for at, line in enumerate(shown):
            rest = len(self._lines) - len(shown) if at + 1 == len(shown) else 0
            self._column.addWidget(self._make_line(line, rest))
        self.setAccessibleName(" ".join(text for _, text, _, _ in self._lines))

    def _make_line(self, line: Line, rest: int) -> Row:
        key, text, warns, there = line
        mark, words = QLabel(), ElidedLabel(text, "callout")
        mark.setPixmap(pixmap("warn" if warns else "info", "warn" if warns else "accent", 16))
        words.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        row = Row(mark, words)
        row.setMinimumHeight(28)
        if rest:
            row.items.addWidget(Button(f"{rest} More", self._show_all, kind="link"))
        if there:
            button = Button("Show Rows", lambda: self.wanted.emit(key), kind="link")
            button.setAccessibleName(f"Show rows: {text}")
            self.buttons[key] = button
            row.items.addWidget(button)
        return row

    def _show_all(self) -> None:
        self._all = True
        self._fill()
