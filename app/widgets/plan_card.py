"""What will be made: how much disk and time it takes, and where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtWidgets import QGridLayout

from app.widgets.button import Button
from app.widgets.card import Card, Line, Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Callable


class PlanFacts(msgspec.Struct, frozen=True):
    """What the card shows.

    Attributes:
        lines: (what, how much), in order.
        folder: where it goes; `names` of what will be there.
        missing: why it cannot be made; empty where it can.
    """

    lines: tuple[tuple[str, str], ...]
    folder: str
    names: tuple[str, ...]
    missing: str = ""


class PlanCard(Card):
    """The plan; `choose` lets the person name another folder."""

    def __init__(self, choose: Callable[[], object]) -> None:
        super().__init__("Plan", spacing=8)
        self._grid = QGridLayout()
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 1)
        self._lines: list[tuple[Label, Label]] = []
        self.missing = Label("", "callout", "bad", wrap=True)
        self.folder, self.names = (
            ElidedLabel("", "callout"),
            Label("", "caption", "text2", wrap=True),
        )
        self.choose = Button("Choose…", choose, name="Choose the folder")
        self.body.addLayout(self._grid)
        self.body.addWidget(self.missing)
        self.body.addWidget(Line())
        self.body.addWidget(Row(self.folder, self.choose))
        self.body.addWidget(self.names)

    def show_facts(self, facts: PlanFacts) -> None:
        """Another plan."""
        while len(self._lines) < len(facts.lines):
            what, value = Label("", "callout", "text2"), Label("", "strong")
            at = len(self._lines)
            self._grid.addWidget(what, at, 0)
            self._grid.addWidget(value, at, 1)
            self._lines.append((what, value))
        for at, (what, value) in enumerate(self._lines):
            shown = at < len(facts.lines)
            what.setVisible(shown)
            value.setVisible(shown)
            if shown:
                what.setText(facts.lines[at][0])
                value.setText(facts.lines[at][1])
                value.setAccessibleName(": ".join(facts.lines[at]))
        self.missing.setText(facts.missing)
        self.missing.setVisible(bool(facts.missing))
        self.folder.setText(facts.folder)
        self.names.setText("\n".join(facts.names))
        self.names.setVisible(bool(facts.names))
