"""Two small cards: whether the rows are enough to learn from, and how rows are put to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox

from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label
from app.widgets.pill import Pill

if TYPE_CHECKING:
    from collections.abc import Mapping

_SIZES = {
    "too_few": ("Too few", "bad", "warn"), "few": ("Few", "warn", "warn"),
    "good": ("Good", "ok", "check"), "plenty": ("Plenty", "ok", "check"),
}  # fmt: skip
TEMPLATES = {
    "plain": ("Plain", "Question, a line break, answer."),
    "alpaca": ("Alpaca", "“### Instruction:” and “### Response:” around them."),
    "chatml": ("ChatML", "Turns between <|im_start|> and <|im_end|>."),
    "none": ("None", "Question and answer run on as one text."),
}


class SizeCard(Card):
    """Emits `rank` with the rank to start with; hidden until there is a verdict."""

    rank = Signal(int)

    def __init__(self) -> None:
        super().__init__("Size", margin=12, spacing=4)
        self.pill = Pill()
        self.head.addStretch(1)
        self.head.addWidget(self.pill)
        self.text = Label("", "callout", wrap=True)
        self.advice = Label("", "caption", "text2", wrap=True)
        self.use = Button("", lambda: self.rank.emit(self._rank), kind="link")
        self._rank = 0
        self.body.addWidget(self.text)
        last = Row(self.use)
        last.items.insertWidget(0, self.advice, 1)
        self.body.addWidget(last)
        self.hide()

    def say(self, verdict: Mapping[str, Any], rank: int) -> None:
        """`verdict` of a report, and the rank that is set now."""
        self.setVisible(bool(verdict))
        if not verdict:
            return
        self.pill.say(*_SIZES.get(verdict["size"], (verdict["size"], "", "info")))
        self.text.setText(verdict["text"])
        self.advice.setText(verdict["rank_text"])
        self._rank = verdict["rank"]
        same = rank == self._rank
        self.use.say(f"Rank {rank} is set" if same else f"Use Rank {self._rank}")
        self.use.setEnabled(not same)


class FormatCard(Card):
    """What the rows are.

    Attributes:
        template: another form for a model without one of its own, a value of the setting.
        columns_wanted: the person wants to say which column is which.
        json_wanted: the answers that do not parse are wanted.
    """

    template = Signal(str)
    columns_wanted, json_wanted = Signal(), Signal()

    def __init__(self) -> None:
        super().__init__("Format", margin=12, spacing=2)
        self.name = Label("", "strong", wrap=True)
        self.words = Label("", "caption", "text2", wrap=True)
        self.columns = Button("Choose Columns…", self.columns_wanted.emit, kind="link")
        self.head.addStretch(1)
        self.head.addWidget(self.columns)
        self.forms = QComboBox()
        for key, (title, _) in TEMPLATES.items():
            self.forms.addItem(title, key)
        self.forms.setAccessibleName("How questions and answers are put")
        self.forms.activated.connect(lambda _at: self.template.emit(self.forms.currentData()))
        self._form = Row(Label("Put as", "callout", "text2"), self.forms, None)
        self.json = Label("", "caption", "text2", wrap=True)
        self.show_json = Button("Show", self.json_wanted.emit, kind="link", name="Show answers")
        self._answers = Row(self.show_json)
        self._answers.items.insertWidget(0, self.json, 1)
        for widget in (self.name, self._form, self.words, self._answers):
            self.body.addWidget(widget)

    def say(self, name: str, words: str, template: str, *, mappable: bool) -> None:
        """Its name; `template` is the model's own ("model"), one of ours, or "" for none needed."""
        self.name.setText(name)
        known = TEMPLATES.get(template)
        self._form.setVisible(known is not None)
        if known is not None:
            self.forms.setCurrentIndex(self.forms.findData(template))
            words = f"{known[1]} This model has no chat form of its own. {words}"
        self.words.setText(words)
        self.words.setVisible(bool(words))
        self.columns.setVisible(mappable)

    def say_json(self, words: str, *, bad: bool) -> None:
        """How many answers are JSON."""
        self._answers.setVisible(bool(words))
        self.json.setText(words)
        self.json.set_tone("warn" if bad else "text2")
        self.show_json.setVisible(bad)
