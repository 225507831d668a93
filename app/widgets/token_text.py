"""The exact text a model reads, with what is learnt, only read, and cut told apart.

Told apart by colour and by pattern: learnt is underlined on a tint, read is plain and dimmed, cut
is struck out. Control characters are drawn as signs, the template's own signs in another colour;
copying gives the exact text.
"""

from __future__ import annotations

import bisect
import itertools
import re
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
# what stands for itself as one token in the common templates, and is no text
_CONTROL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
# so many places of what is looked for are counted; those around the chosen one are marked
_MOST, _MARKED = 1000, 40
# how a copy tells what is learnt and what is cut, as wdiff does
_MARKS = {"trained": ("{+", "+}"), "masked": ("", ""), "cut": ("[-", "-]")}
_SIGNS = {n: chr(0x2400 + n) for n in range(32)} | {
    0x7F: "\u2421", 0x09: "\u2192\t", 0x0A: "\u21b5\n", 0x2028: "\u21b5\n", 0x2029: "\u21b5\n"
}  # fmt: skip


def visible(text: str) -> str:
    """A text with its control characters as signs; a line still ends where it ends."""
    return text if text.isprintable() else text.translate(_SIGNS)


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


def marked_text(pieces: Sequence[Piece]) -> str:
    """The exact text with `{+learnt+}` and `[-cut-]` told apart in signs."""
    parts = []
    for state, group in itertools.groupby(pieces, key=lambda piece: piece[1]):
        before, after = _MARKS[state]
        parts.append(f"{before}{''.join(text for text, _ in group)}{after}")
    return "".join(parts)


def is_control(text: str) -> bool:
    """Whether a piece is a sign of the template, such as `<|im_end|>`."""
    return text.startswith(("<", "[")) and _CONTROL.fullmatch(text) is not None


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
        self._hits: list[QTextCursor] = []
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

    def find_all(self, words: str) -> int:
        """Mark every place where these words are, whatever the case; how many there are."""
        self._hits = []
        at = self.document().find(words, 0) if words else QTextCursor()
        while not at.isNull() and len(self._hits) < _MOST:
            self._hits.append(at)
            at = self.document().find(words, at)
        self._mark_hits(-1)
        return len(self._hits)

    def go_to_hit(self, number: int) -> None:
        """Bring one of the places found into sight."""
        place = self._hits[number]
        cursor = self.textCursor()
        cursor.setPosition(place.selectionStart())
        self.setTextCursor(cursor)
        self.ensureCursorVisible()
        self._mark_hits(number)

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
        for (state, control), group in itertools.groupby(self.pieces, key=_look_of):
            parts = []
            for text, _ in group:
                shown = visible(text)
                starts.append(place)
                place += len(shown) if shown.isascii() else len(shown.encode("utf-16-le")) // 2
                parts.append(shown)
            cursor.insertText("".join(parts), _format(state, control=control))
        cursor.endEditBlock()
        self._starts, self._hits = starts, []
        self.setExtraSelections([])
        self.blockSignals(False)

    def _mark_hits(self, chosen: int) -> None:
        marks = []
        first = max(0, chosen - _MARKED)
        for at, place in enumerate(self._hits[first : chosen + _MARKED + 1], start=first):
            mark = QTextEdit.ExtraSelection()
            mark.cursor = place
            look = QTextCharFormat()
            now = at == chosen
            look.setBackground(theme.tokens.color("warn" if now else "warn_soft"))
            look.setForeground(theme.tokens.color("card" if now else "text"))
            mark.format = look
            marks.append(mark)
        self.setExtraSelections(marks)

    def _moved(self) -> None:
        self.at.emit(self._piece_at(self.textCursor().position()) if self.pieces else -1)

    def _piece_at(self, position: int) -> int:
        return max(0, bisect.bisect_right(self._starts, position) - 1)


def _look_of(piece: Piece) -> tuple[str, bool]:
    return piece[1], is_control(piece[0])


def _format(state: str, *, control: bool) -> QTextCharFormat:
    made = state_format(state)
    if control and state != "cut":
        made.setForeground(theme.tokens.color("violet"))
    return made
