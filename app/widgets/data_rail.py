"""Beside the rows: whether there are enough, how they are put, which are held out and learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QSlider

from app.widgets.button import Segments
from app.widgets.card import Card, Line
from app.widgets.data_format import FormatCard, SizeCard
from app.widgets.label import Label
from app.widgets.scroll import ScrollColumn

if TYPE_CHECKING:
    from collections.abc import Mapping

_WIDTH = 304
_LEAST, _MOST = 5, 50
# a slider that is dragged tells once it rests
_REST = 250
_LEARN = (("completions", "Answers"), ("last", "Last"), ("all", "All"))
_LEARN_WORDS = {
    "completions": "Every answer is learnt; questions are only read.",
    "last": "Only the last answer of a conversation is learnt.",
    "all": "Questions are learnt as well as answers.",
}


class DataRail(ScrollColumn):
    """Emits `fraction` (held out, 0.05 to 0.5) and `train_on` (a value of the setting)."""

    fraction = Signal(float)
    train_on = Signal(str)

    def __init__(self) -> None:
        super().__init__(spacing=10)
        self.setFixedWidth(_WIDTH)
        self._rows = 0
        self.size_card, self.format_card = SizeCard(), FormatCard()
        self.column.addWidget(self.size_card)
        self.column.addWidget(self.format_card)
        self.column.addWidget(self._make_split())
        self.column.addStretch(1)
        self._timer = QTimer(self, singleShot=True, interval=_REST)
        self._timer.timeout.connect(self._tell)

    def say_split(self, facts: Mapping[str, Any], fraction: float) -> None:
        """How many rows are on either side; data may bring held-out rows of its own."""
        learnt, held = facts.get("training_rows", 0), facts.get("validation_rows", 0)
        own = facts.get("own_validation", False)
        self._rows = learnt + held
        self.slider.setVisible(not own)
        if self._timer.isActive():  # it is being dragged: the person is ahead of the figures
            return
        self.slider.blockSignals(True)
        self.slider.setValue(round(100 * (1 - fraction)))
        self.slider.blockSignals(False)
        self._share.setText("own validation rows" if own else _share(fraction))
        self._sides.setText(_sides(learnt, held) if facts else "Not counted yet")

    def say_learning(self, choice: str, *, possible: bool) -> None:
        """What is learnt; where there are no answers there is nothing to choose."""
        for widget in (self._line, self._learn_title, self.learn, self._learn_words):
            widget.setVisible(possible)
        self.learn.choose(choice)
        self._learn_words.setText(_LEARN_WORDS[choice])

    def _make_split(self) -> Card:
        card = Card("Split", margin=12, spacing=5)
        self._share, self._sides = Label("", "caption", "text2"), Label("", "caption", "text2")
        card.head.addStretch(1)
        card.head.addWidget(self._share)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(100 - _MOST, 100 - _LEAST)
        self.slider.setPageStep(5)
        self.slider.setAccessibleName("Share of the rows to learn from, in percent")
        self.slider.valueChanged.connect(self._slide)
        card.body.addWidget(self.slider)
        card.body.addWidget(self._sides)
        self._line, self._learn_title = Line(), Label("Learn", "strong")
        self.learn = Segments(_LEARN, self.train_on.emit, name="Learn")
        self._learn_words = Label("", "caption", "text2", wrap=True)
        for widget in (self._line, self._learn_title, self.learn, self._learn_words):
            card.body.addWidget(widget)
        return card

    def _slide(self, value: int) -> None:
        held = round(self._rows * (100 - value) / 100)
        self._share.setText(_share(1 - value / 100))
        self._sides.setText(_sides(self._rows - held, held))
        self._timer.start()

    def _tell(self) -> None:
        self.fraction.emit(round(1 - self.slider.value() / 100, 2))


def _share(fraction: float) -> str:
    return f"{1 - fraction:.0%} learn · {fraction:.0%} measure".replace("%", " %")


def _sides(learnt: int, held: int) -> str:
    return f"{learnt:,} to learn from · {held:,} to measure with"
