"""Compare before anything was trained: where to begin, and what there will be to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label
from app.widgets.pill import Pill

if TYPE_CHECKING:
    from collections.abc import Callable

# both said by the bundled model, before and after it had learned from the bundled text
_PROMPT = "Once upon a time"
_EXAMPLES = (
    (
        "Base",
        " the Doctor turned to the Doctor's face, and said,\n\n\"I am not above the farmer's. "
        'It is a man to be the man."\n\nSo they went and said,',
    ),
    (
        "Adapted",
        "'s end of my eye,\nAnd who does it not be a fearful?\n\nPUTS:\nHere's the raval of the "
        "corpor's\nWhich is the man shoulder do his father's son:\nWhere you go to my mother?",
    ),
)


class NothingYet(QWidget):
    """Words, two buttons, and an example of two answers."""

    def __init__(self, train: Callable[[], object], sample: Callable[[], object]) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        column, panes = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(16)
        panes.setSpacing(16)
        card = Card("Nothing to compare yet", margin=20)
        self.text = Label(tone="text2", wrap=True)
        self.train = Button("Go to Train", train, icon="right")
        self.sample = Button("Try with Sample", sample, icon="spark")
        card.body.addWidget(self.text)
        card.body.addSpacing(4)
        card.body.addWidget(Row(self.train, self.sample, None))
        column.addWidget(card)
        for title, text in _EXAMPLES:
            panes.addWidget(_example(title, text), 1)
        column.addLayout(panes)
        column.addStretch(1)

    def say(self, *, live: bool, begun: bool) -> None:
        """Why there is nothing, and what helps."""
        self.sample.setVisible(not begun)
        self.text.setText(
            "Training is at work. Both can speak as soon as it is done, or has been stopped after "
            "its first checkpoint."
            if live
            else "Once a run has saved its first checkpoint, you can ask the model as it was and "
            "as it is now, side by side, with the same prompt, seed and settings."
        )


def _example(title: str, text: str) -> Card:
    """One side, as it may look."""
    card = Card(title, role="inset")
    card.head.addWidget(Label(f"“{_PROMPT}”", "caption", "text2"))
    card.head.addStretch(1)
    card.head.addWidget(Pill("Example", "plain"))
    card.body.addWidget(Label(text, tone="text2", wrap=True))
    card.body.addStretch(1)
    return card
