"""The figures of a dataset: what its tokens are, how long rows are, what becomes of long ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QHBoxLayout

from app.widgets.card import Card, Line, Metric
from app.widgets.data_long_rows import LongRowsCard
from app.widgets.histogram import Histogram
from app.widgets.label import Label
from app.widgets.scroll import ScrollColumn
from app.widgets.token_bar import TokenBar
from app.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

_RIGHT = 372
# the longest row may be this many times the limit for a limit that holds all to be offered
_FAR = 8


class DataFigures(ScrollColumn):
    """Two cards beside each other."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout()
        row.setSpacing(16)
        self.long_rows = LongRowsCard()
        self.long_rows.setFixedWidth(_RIGHT)
        row.addWidget(self._make_tokens(), 1)
        row.addWidget(self.long_rows)
        self.column.addLayout(row, 1)

    def say(self, facts: Mapping[str, Any], limit: int) -> None:
        """Other figures; a dash where one is not known."""
        states = ("trained", "masked", "cut")
        self.bar.say(*(facts.get(f"{state}_tokens", 0) for state in states))
        rows, tokens = facts.get("rows_read", 0), facts.get("tokens", 0)
        self._all.setText(f"{count(tokens)} in {rows:,} rows" if tokens else "")
        for name, metric in self.lengths.items():
            value = facts.get(f"{name}_tokens")
            metric.say("–" if value is None else f"{value:,.0f}")
        padding = facts.get("padding")
        self.padding.say("–" if padding is None else f"{padding:.0%}".replace("%", " %"))
        made = facts.get("histogram", {"edges": [], "counts": []})
        self.histogram.say(made["edges"], made["counts"], facts.get("limit", limit))
        longest = made["edges"][-1] if made["edges"] else 0
        self.long_rows.say_longer(longer_limit(limit, longest))

    def _make_tokens(self) -> Card:
        card = Card("Tokens", spacing=10)
        self._all = Label("", "caption", "text2")
        card.head.addStretch(1)
        card.head.addWidget(self._all)
        self.bar, self.histogram = TokenBar(), Histogram("Token lengths")
        self.lengths = {
            "mean": Metric("on average"), "median": Metric("the middle row"),
            "p95": Metric("95 % have up to"), "longest": Metric("the longest"),
        }  # fmt: skip
        self.padding = Metric("padding left")
        self.padding.setToolTip("Share of the places in batches that no token of a row fills")
        numbers = QHBoxLayout()
        for metric in (*self.lengths.values(), self.padding):
            numbers.addWidget(metric, 1)
        card.body.addWidget(self.bar)
        card.body.addWidget(Line())
        card.body.addWidget(Label("How long rows are, in tokens", "strong"))
        card.body.addLayout(numbers)
        card.body.addWidget(self.histogram, 1)
        return card


def longer_limit(limit: int, longest: int) -> int:
    """A power of two that holds the longest row, or twice the limit where that is far away."""
    wanted = 2 * limit
    if limit < longest <= _FAR * limit:
        wanted = 1 << (longest - 1).bit_length()
    return min(131_072, wanted)
