"""One run in full: its curve, its facts, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.widgets.button import Button
from app.widgets.card import Card, Line
from app.widgets.label import ElidedLabel, Label
from app.widgets.pill import Pill
from app.widgets.sparkline import Sparkline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDTH = 304


class RunFacts(msgspec.Struct, frozen=True):
    """What is said of a run.

    Attributes:
        state: word, tone and icon of how it stands.
        facts: (what, value), in order; those without a value are left out.
        why: what went wrong with it, empty where nothing did.
        engine: how it computes, in sentences; empty where it never said.
    """

    title: str
    name: str
    state: tuple[str, str, str]
    points: tuple[float, ...]
    facts: tuple[tuple[str, str], ...]
    why: str = ""
    engine: tuple[str, ...] = ()


class RunDetails(Card):
    """Shows the chosen run; the buttons by the words on them."""

    def __init__(self, acts: Sequence[tuple[str, str, Callable[[], object]]]) -> None:
        super().__init__(spacing=10)
        self.setFixedWidth(_WIDTH)
        self.name, self.pill, self.curve = ElidedLabel("", "headline"), Pill(), Sparkline(64)
        self.body.addWidget(self.name)
        self.body.addWidget(self.pill)
        self.why = Label("", "callout", wrap=True)
        self.body.addWidget(self.why)
        self.body.addWidget(self.curve)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(1, 1)
        self._labels: list[Label] = []
        self._open = False
        self.body.addLayout(self._grid)
        self.how = Button("How It Computes", self.fold, kind="link", icon="right")
        self.engine = Sentences()
        self.engine.hide()
        self.body.addWidget(self.how, 0, Qt.AlignmentFlag.AlignLeft)
        self.body.addWidget(self.engine)
        self.body.addStretch(1)
        self.body.addWidget(Line())
        self.buttons: dict[str, Button] = {}
        column = QVBoxLayout()
        column.setSpacing(6)
        for text, icon, act in acts:
            kind = "danger" if icon == "trash" else ""
            button = Button(text, act, kind=kind, icon=icon)  # type: ignore[arg-type]
            self.buttons[text] = button
            column.addWidget(button)
        self.body.addLayout(column)

    def say(self, run: RunFacts) -> None:
        """Another run, or the same as it stands now."""
        self.name.setText(run.title)
        self.name.setToolTip(run.name)
        self.pill.say(*run.state)
        self.why.setText(run.why)
        self.why.setVisible(bool(run.why))
        tone = "bad" if run.state[1] == "bad" else "accent"
        self.curve.say(run.points, tone)
        self.curve.setVisible(bool(run.points))
        facts = [(what, value) for what, value in run.facts if value]
        for label in self._labels[2 * len(facts) :]:
            label.hide()
        while len(self._labels) < 2 * len(facts):
            self._add_row()
        for at, (what, value) in enumerate(facts):
            left, right = self._labels[2 * at : 2 * at + 2]
            left.setText(what)
            right.setText(value)
            right.setAccessibleName(f"{what}: {value}")
            left.show()
            right.show()

        self.how.setVisible(bool(run.engine))
        self.engine.say(run.engine)
        self._show_engine()

    def fold(self) -> None:
        """Show how it computes, or no longer."""
        self._open = not self._open
        self.how.set_icon("down" if self._open else "right")
        self._show_engine()

    def _show_engine(self) -> None:
        self.how.setAccessibleDescription("Shown" if self._open else "Hidden")
        self.engine.setVisible(self._open and not self.how.isHidden())

    def _add_row(self) -> None:
        at = len(self._labels) // 2
        what, value = Label("", "caption", "text2"), ElidedLabel("", "callout")
        value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._grid.addWidget(what, at, 0)
        self._grid.addWidget(value, at, 1)
        self._labels += [what, value]


class Sentences(QWidget):
    """One under the other, each wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self.labels: list[Label] = []

    def say(self, sentences: Sequence[str]) -> None:
        """Other ones."""
        while len(self.labels) < len(sentences):
            self.labels.append(Label("", "caption", "text2", wrap=True))
            self._column.addWidget(self.labels[-1])
        for label in self.labels[len(sentences) :]:
            label.hide()
        for label, sentence in zip(self.labels, sentences, strict=False):
            label.setText(sentence)
            label.show()
