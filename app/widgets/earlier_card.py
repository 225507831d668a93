"""What was made before: its name, what came of its check, where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtWidgets import QVBoxLayout

from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import ElidedLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtWidgets import QWidget


class EarlierFacts(msgspec.Struct, frozen=True):
    """One of them; `folder` is empty where it is not in its place any more."""

    title: str
    line: str
    folder: str = ""


class EarlierCard(Card):
    """A list of them; hidden while there is none."""

    def __init__(self, title: str, show_words: str, show: Callable[[str], object]) -> None:
        super().__init__(title, margin=14, spacing=8)
        self._words, self._act = show_words, show
        self._shown: tuple[EarlierFacts, ...] = ()
        self.rows: list[QWidget] = []
        self.hide()

    def show_rows(self, rows: Sequence[EarlierFacts]) -> None:
        """Show these."""
        if tuple(rows) == self._shown:
            return
        self._shown = tuple(rows)
        for row in self.rows:
            row.hide()
            row.deleteLater()
        self.rows = [self._row(facts) for facts in rows]
        for row in self.rows:
            self.body.addWidget(row)
        self.setVisible(bool(rows))

    def _row(self, facts: EarlierFacts) -> QWidget:
        row, words = Row(), QVBoxLayout()
        words.setSpacing(1)
        words.addWidget(ElidedLabel(facts.title, "body"))
        words.addWidget(ElidedLabel(facts.line, "caption", "text2"))
        row.items.addLayout(words, 1)
        if facts.folder:
            name = f"{self._words}: {facts.title}"
            button = Button(
                "", lambda: self._act(facts.folder), kind="quiet", icon="reveal", name=name
            )
            button.setToolTip(self._words)
            row.items.addWidget(button)
        return row
