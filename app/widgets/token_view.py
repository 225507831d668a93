"""One row as the model sees it: picker, ruler, text, legend, and what is under the cursor."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QLabel,
    QMenu,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.theme import font, theme
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.find_bar import FindBar
from app.widgets.label import ElidedLabel, Label
from app.widgets.token_ruler import TokenRuler
from app.widgets.token_text import STATES, TokenText, marked_text, state_format, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.widgets.token_text import Piece


class Swatch(QLabel):
    """A word in the look it explains."""

    def __init__(self, state: str) -> None:
        super().__init__(STATES[state][0])
        self._state = state
        self.say(0)
        self.setFont(font("caption"))
        self.setToolTip(STATES[state][1].capitalize())
        self.setContentsMargins(5, 1, 5, 1)
        theme.changed.connect(self.update)

    def say(self, count: int) -> None:
        """How many tokens of the row are in this state."""
        title, meaning = STATES[self._state]
        self.setText(f"{title} {count:,}")
        self.setAccessibleName(f"{title}: {count:,} tokens; {meaning}")

    def paintEvent(self, _event: QPaintEvent) -> None:
        """As the text is drawn."""
        painter, look = QPainter(self), state_format(self._state)
        painter.fillRect(self.rect(), look.background())
        made = font("caption")
        made.setStrikeOut(look.fontStrikeOut())
        made.setUnderline(self._state == "trained")
        painter.setFont(made)
        painter.setPen(look.foreground().color())
        painter.drawText(self.contentsRect(), self.alignment(), self.text())
        painter.end()


class TokenView(QWidget):
    """Emits `wanted` with the number of the row a person wants to see."""

    wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 0, 16, 12)
        column.setSpacing(6)
        self.text, self.ruler = TokenText(), TokenRuler()
        self._counts, self._under = ElidedLabel("", "caption", "text2"), ElidedLabel("", "caption")
        column.addWidget(self._make_picker())
        column.addWidget(self.ruler)
        self._why = Label(tone="text2", wrap=True)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.text)
        self._why.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self._why.setContentsMargins(0, 12, 0, 0)
        self._stack.addWidget(self._why)
        column.addWidget(self._stack, 1)
        self.legend = {state: Swatch(state) for state in STATES}
        column.addWidget(Row(*self.legend.values(), self._under))
        # the page puts it where there is room
        self.finder, self._hits, self._hit = FindBar(), 0, -1
        self.finder.changed.connect(self._find)
        self.finder.stepped.connect(self._step_find)
        self.text.at.connect(self._point)
        self.ruler.wanted.connect(self._go_to)
        self.say_rows(1)

    def say_rows(self, last: int) -> None:
        """The number of the last row."""
        self.number.blockSignals(True)
        self.number.setRange(1, max(1, last))
        self.number.blockSignals(False)
        self._of.setText(f"of {last:,}")

    def choose(self, row: int) -> None:
        """Show the number of another row; tells nobody."""
        self.number.blockSignals(True)
        self.number.setValue(row)
        self.number.blockSignals(False)

    def show_row(self, pieces: Sequence[Piece], tokens: int) -> None:
        """A row's text; `tokens` is how many it has, of which the first may be shown."""
        counts = Counter(state for _, state in pieces)
        for state, swatch in self.legend.items():
            swatch.say(counts[state])
        more = f", the first {len(pieces):,} shown" if tokens > len(pieces) + 200 else ""
        self._counts.setText(f"{tokens:,} tokens{more}")
        self.text.show_pieces(pieces)
        self.ruler.show_states([state for _, state in pieces])
        self._find(self.finder.field.text())
        self._stack.setCurrentWidget(self.text)
        self.copy.setEnabled(True)

    def show_nothing(self, why: str) -> None:
        """There is no text of this row."""
        for swatch in self.legend.values():
            swatch.say(0)
        self._counts.setText("")
        self._why.setText(why)
        self.text.show_pieces(())
        self.ruler.show_states(())
        self._find("")
        self._under.setText("")
        self._stack.setCurrentWidget(self._why)
        self.copy.setEnabled(False)

    def _make_picker(self) -> Row:
        self.number = QSpinBox()
        self.number.setProperty("bare", "true")  # NoButtons leaves the number one pixel of room
        self.number.setGroupSeparatorShown(True)
        self.number.setKeyboardTracking(False)
        self.number.setAccessibleName("Row")
        self.number.setFixedWidth(72)
        self.number.lineEdit().setTextMargins(6, 0, 0, 0)
        self.number.valueChanged.connect(self.wanted)
        self._of = Label("", "callout", "text2")
        self.back = Button(
            "", lambda: self._step(-1), kind="quiet", icon="back", name="Previous Row"
        )
        self.on = Button("", lambda: self._step(1), kind="quiet", icon="right", name="Next Row")
        self.copy = Button("Copy", kind="link", icon="copy", name="Copy the row")
        menu = QMenu(self)
        menu.addAction("Copy Text").triggered.connect(lambda _=False: self._copy(marks=False))
        marked = menu.addAction("Copy with Marks")
        marked.triggered.connect(lambda _=False: self._copy(marks=True))
        marked.setToolTip("{+learnt+}, read, [-cut-]")
        menu.setToolTipsVisible(True)
        self.copy.setMenu(menu)
        row = Label("Row", "callout", "text2")
        return Row(
            row, self.back, self.number, self._of, self.on, self._counts, self.copy, spacing=6
        )

    def _step(self, by: int) -> None:
        self.number.setValue(self.number.value() + by)

    def _copy(self, *, marks: bool) -> None:
        text = marked_text(self.text.pieces) if marks else self.text.exact_text()
        QGuiApplication.clipboard().setText(text)

    def _find(self, words: str) -> None:
        self._hits, self._hit = self.text.find_all(words), -1
        if self._hits:
            self._step_find(1)
        else:
            self.finder.say(0, -1)

    def _step_find(self, by: int) -> None:
        if self._hits:
            self._hit = (self._hit + by) % self._hits
            self.text.go_to_hit(self._hit)
            self.finder.say(self._hits, self._hit)

    def _go_to(self, piece: int) -> None:
        self.text.go_to(piece)
        self.text.setFocus()

    def _point(self, piece: int) -> None:
        self.ruler.point_at(piece)
        if piece < 0:
            return
        text, state = self.text.pieces[piece]
        shown = visible(text).replace("\n", "")
        what = STATES[state][0].lower()
        self._under.setText(f"Token {piece + 1:,}: \u201c{shown}\u201d, {what}")
