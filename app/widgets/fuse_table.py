"""What fewer bits cost: how many answers stay, width by width; or the offer to measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASK, _SAID = "How much do fewer bits cost?", "Same next token as in the app, on held-out rows"


class FuseTable(QWidget):
    """Nothing measured, being measured, or a figure for every width.

    Attributes:
        wanted: it shall be measured.
        unwanted: measuring shall stop.
    """

    wanted, unwanted = Signal(), Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(4)
        self.words = ElidedLabel(_ASK, "callout", "text2")
        self.measure = Button("Measure", self.wanted.emit, kind="link", name="Measure the cost")
        self.stop = Button("Stop", self.unwanted.emit, kind="link", name="Stop measuring")
        column.addWidget(Row(self.words, self.measure, self.stop))
        self._cells, self._row = dict[str, Label](), QHBoxLayout()
        self._row.setSpacing(8)
        column.addLayout(self._row)
        self.show_offer()

    def show_offer(self) -> None:
        """Nothing is known."""
        self._show(_ASK, offer=True)

    def show_work(self, doing: str) -> None:
        """It is being measured."""
        self._show(f"{doing}…", work=True)

    def show_figures(self, figures: Sequence[tuple[str, str]], best: str) -> None:
        """(width, share of answers that stay) of each; `best` is the one to take."""
        self._show(_SAID)
        if tuple(self._cells) != tuple(width for width, _ in figures):
            self._fill([width for width, _ in figures])
        for width, share in figures:
            cell = self._cells[width]
            cell.setText(share)
            cell.set_tone("accent" if width == best else "text")
            mark = ", the smallest that keeps enough" if width == best else ""
            cell.setAccessibleName(f"{width}: {share} stay{mark}")

    def _show(self, words: str, *, offer: bool = False, work: bool = False) -> None:
        self.words.setText(words)
        self.measure.setVisible(offer)
        self.stop.setVisible(work)
        if offer or work:
            self._fill([])

    def _fill(self, widths: Sequence[str]) -> None:
        """A cell for each width."""
        while (item := self._row.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self._cells = {}
        for width in widths:
            cell, figure = QFrame(), Label("", "strong")
            cell.setProperty("role", "inset")
            line = QVBoxLayout(cell)
            line.setContentsMargins(10, 5, 10, 6)
            line.setSpacing(0)
            line.addWidget(Label(width, "caption", "text2"))
            line.addWidget(figure)
            self._row.addWidget(cell, 1)
            self._cells[width] = figure
