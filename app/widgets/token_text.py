"""The exact text a model reads, with what is learnt, only read, and cut told apart.

Told apart by colour and by pattern: learnt is underlined on a tint, read is plain and dimmed, cut
is struck out. Control characters are drawn as signs; copying gives the exact text.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING

from PySide6.QtCore import QMimeData, Signal
from PySide6.QtGui import QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from app.theme import font, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QContextMenuEvent

Piece = tuple[str, str]
STATES = {
    "trained": ("Learnt", "the model learns to write this"),
    "masked": ("Read", "the model reads this, and does not learn to write it"),
    "cut": ("Cut", "beyond the length limit, never seen"),
}
_SIGNS = {n: chr(0x2400 + n) for n in range(32)} | {
    0x7F: "\u2421", 0x09: "\u2192\t", 0x0A: "\u21b5\n", 0x2028: "\u21b5\n", 0x2029: "\u21b5\n"
}  # fmt: skip


def visible(text: str) -> str:
    """A text with its control characters as signs; a line still ends where it ends."""
    return text.translate(_SIGNS)


def state_format(state: str) -> QTextCharFormat:
    """How text of a state looks."""
    made, tokens = QTextCharFormat(), theme.tokens
    tone, behind = {
        "trained": ("text", "accent_soft"), "masked": ("text2", "card"), "cut": ("bad", "bad_soft")
    }[state]  # fmt: skip
    made.setForeground(tokens.color(tone))
    made.setBackground(tokens.color(behind))
    if state == "trained":
        made.setUnderlineStyle(QTextCharFormat.UnderlineStyle.SingleUnderline)
        made.setUnderlineColor(tokens.color("accent"))
    made.setFontStrikeOut(state == "cut")
    return made


class TokenText(QTextEdit):
    """Shows pieces; emits `at` with the number of the piece under the cursor, -1 for none."""

    at = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setAcceptDrops(False)
        self.setTabChangesFocus(True)
        self.setUndoRedoEnabled(False)
        self.setProperty("role", "plain")
        self.setFont(font("mono"))
        self.setAccessibleName("What the model sees")
        self.setLineWrapMode(QTextEdit.LineWrapMode.WidgetWidth)
        self.pieces: Sequence[Piece] = ()
        self._starts: list[int] = []
        self.cursorPositionChanged.connect(self._moved)
        theme.changed.connect(self._redraw)

    def show_pieces(self, pieces: Sequence[Piece]) -> None:
        """Another row."""
        self.pieces = pieces
        self._redraw()
        self.moveCursor(QTextCursor.MoveOperation.Start)
        self._moved()

    def exact_text(self) -> str:
        """The text as the model reads it, no signs in it."""
        return "".join(text for text, _ in self.pieces)

    def go_to(self, piece: int) -> None:
        """Put the cursor before a piece."""
        cursor = self.textCursor()
        cursor.setPosition(self._starts[max(0, min(piece, len(self._starts) - 1))])
        self.setTextCursor(cursor)
        self.ensureCursorVisible()

    def createMimeDataFromSelection(self) -> QMimeData:
        """What was selected, exact: whole pieces where signs stand for something else."""
        cursor, data = self.textCursor(), QMimeData()
        first = self._piece_at(cursor.selectionStart())
        last = self._piece_at(max(cursor.selectionStart(), cursor.selectionEnd() - 1))
        data.setText("".join(text for text, _ in self.pieces[first : last + 1]))
        return data

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Copy and Select All."""
        menu = self.createStandardContextMenu(event.pos())
        menu.exec(event.globalPos())
        menu.deleteLater()

    def _redraw(self) -> None:
        self.blockSignals(True)
        self.clear()
        cursor, starts, place = self.textCursor(), list[int](), 0
        cursor.beginEditBlock()
        for state, group in itertools.groupby(self.pieces, key=lambda piece: piece[1]):
            parts = []
            for text, _ in group:
                shown = visible(text)
                starts.append(place)
                place += len(shown.encode("utf-16-le")) // 2
                parts.append(shown)
            cursor.insertText("".join(parts), state_format(state))
        cursor.endEditBlock()
        self._starts = starts
        self.blockSignals(False)

    def _moved(self) -> None:
        self.at.emit(self._piece_at(self.textCursor().position()) if self.pieces else -1)

    def _piece_at(self, position: int) -> int:
        return max(0, bisect.bisect_right(self._starts, position) - 1)
