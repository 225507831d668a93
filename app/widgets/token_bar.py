"""All tokens of a dataset in one bar: how many are learnt, only read, and cut."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.theme import font, theme
from app.widgets.token_ruler import paint_stretch
from app.widgets.token_text import STATES

_BAR, _GAP, _SWATCH = 14.0, 10.0, 12.0
_LINE = 20
# a share below it would not be seen
_LEAST = 3.0


class TokenBar(QLabel):
    """The bar, and under it a line for each state with its number and share."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = dict.fromkeys(STATES, 0)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)
        self.say(0, 0, 0)

    def say(self, trained: int, masked: int, cut: int) -> None:
        """Other numbers of tokens."""
        self._counts = {"trained": trained, "masked": masked, "cut": cut}
        self.setAccessibleName("Tokens: " + ", ".join(self._words(state, ": ") for state in STATES))
        self.update()

    def sizeHint(self) -> QSize:
        """A bar and a line of words for each state."""
        return QSize(240, round(_BAR + _GAP) + _LINE * len(STATES))

    def minimumSizeHint(self) -> QSize:
        """As high as ever."""
        return QSize(180, self.sizeHint().height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Bar and words."""
        painter, total = QPainter(self), sum(self._counts.values())
        left = 0.0
        shown = [state for state in STATES if self._counts[state]]
        room = self.width() - _LEAST * len(shown)
        for state in shown:
            wide = _LEAST + room * self._counts[state] / total
            paint_stretch(painter, QRectF(left, 0, wide, _BAR), state)
            left += wide
        for at, state in enumerate(STATES):
            self._paint_words(painter, _BAR + _GAP + at * _LINE, state)
        painter.end()

    def _paint_words(self, painter: QPainter, top: float, state: str) -> None:
        box = QRectF(0, top + (_LINE - _SWATCH) / 2, _SWATCH, _SWATCH)
        paint_stretch(painter, box, state)
        tokens, middle = theme.tokens, top + _LINE / 2
        painter.setFont(font("callout", tabular=True))
        base = middle + painter.fontMetrics().ascent() / 2 - 1
        title, meaning = STATES[state]
        painter.setPen(tokens.color("text"))
        painter.drawText(round(_SWATCH + 8), round(base), f"{title}: {self._number(state)}")
        painter.setFont(font("caption"))
        painter.setPen(tokens.color("text2"))
        start = 176
        words = painter.fontMetrics().elidedText(
            meaning, Qt.TextElideMode.ElideRight, max(0, self.width() - start)
        )
        painter.drawText(start, round(base), words)

    def _number(self, state: str) -> str:
        total = sum(self._counts.values())
        share = self._counts[state] / total if total else 0.0
        said = "" if not share else f" · {share:.0%}" if share >= 0.01 else " · under 1%"  # noqa: PLR2004
        return f"{self._counts[state]:,}{said}".replace("%", " %")

    def _words(self, state: str, between: str) -> str:
        return f"{STATES[state][0]}{between}{self._number(state)}"
