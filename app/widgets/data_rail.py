"""Beside the rows: what format it is, how long rows are, which are held out, what is learnt."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QSlider, QVBoxLayout, QWidget

from app.widgets.button import Segments
from app.widgets.card import Card, Line
from app.widgets.histogram import Histogram
from app.widgets.label import Label

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


class DataRail(QWidget):
    """Emits `fraction` (held out, 0.05 to 0.5) and `train_on` (a value of the setting)."""

    fraction = Signal(float)
    train_on = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.setFixedWidth(_WIDTH)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        self._rows = 0
        column.addWidget(self._make_lengths())
        column.addWidget(self._make_split())
        column.addStretch(1)
        self._timer = QTimer(self, singleShot=True, interval=_REST)
        self._timer.timeout.connect(self._tell)

    def say_lengths(self, edges: list[int], counts: list[int], limit: int, p95: int) -> None:
        """How long rows are."""
        self.histogram.say(edges, counts, limit)
        self._p95.setText(f"95 % have up to {p95:,}")

    def say_format(self, name: str, words: str) -> None:
        """What the file is."""
        self.format.setText(name)
        self._format_words.setText(words)

    def say_split(self, learnt: int, held: int, fraction: float, *, own: bool) -> None:
        """How many rows are on either side; `own` where the data brings its own held-out rows."""
        self._rows = learnt + held
        self.slider.setVisible(not own)
        if self._timer.isActive():  # it is being dragged: the person is ahead of the figures
            return
        self.slider.blockSignals(True)
        self.slider.setValue(round(100 * (1 - fraction)))
        self.slider.blockSignals(False)
        self._share.setText("own validation rows" if own else _share(fraction))
        self._sides.setText(f"{learnt:,} to learn from · {held:,} to measure with")

    def say_learning(self, choice: str, *, possible: bool) -> None:
        """What is learnt; where there are no answers there is nothing to choose."""
        for widget in (self._line, self._learn_title, self.learn, self._learn_words):
            widget.setVisible(possible)
        self.learn.choose(choice)
        self._learn_words.setText(_LEARN_WORDS[choice])

    def _make_lengths(self) -> Card:
        card = Card("Token lengths", spacing=6)
        self._p95 = Label("", "caption", "text2")
        card.head.addStretch(1)
        card.head.addWidget(self._p95)
        self.histogram = Histogram("Token lengths")
        card.body.addWidget(self.histogram)
        card.body.addWidget(Line())
        self.format, self._format_words = (
            Label("", "strong"),
            Label("", "caption", "text2", wrap=True),
        )
        card.body.addWidget(self.format)
        card.body.addWidget(self._format_words)
        return card

    def _make_split(self) -> Card:
        card = Card("Split", spacing=6)
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
        self._sides.setText(f"{self._rows - held:,} to learn from · {held:,} to measure with")
        self._timer.start()

    def _tell(self) -> None:
        self.fraction.emit(round(1 - self.slider.value() / 100, 2))


def _share(fraction: float) -> str:
    return f"{1 - fraction:.0%} learn · {fraction:.0%} measure".replace("%", " %")
