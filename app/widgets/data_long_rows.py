"""What becomes of rows longer than the limit: four choices, each with what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractSpinBox, QButtonGroup, QRadioButton, QSpinBox

from app.theme import font, theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label
from app.words import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

CHOICES = {
    "cut": ("Cut the end", "The beginning is kept."),
    "keep-end": ("Keep the end", "The beginning is cut, so that answers stay whole."),
    "split": ("Split into windows", "Texts are learnt in parts; answers are cut at their end."),
    "drop": ("Leave them out", "Nothing of them is learnt."),
}
_MARK, _DOT = 16, 6


class ChoiceButton(QRadioButton):
    """A round mark, a name, and under it what it would do."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.effect = ""
        self.setAccessibleName(title)
        self.setFixedHeight(46)
        theme.changed.connect(self.update)

    def say(self, effect: str) -> None:
        """What it would do."""
        self.effect = effect
        self.setAccessibleDescription(effect)
        self.setToolTip(effect)
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(240, 46)

    def hitButton(self, _place: object) -> bool:
        """All of it."""
        return True

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Mark, name, effect, focus."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        on, box = self.isChecked(), self.rect()
        if self.hasFocus():
            pen = painter.pen()
            pen.setColor(tokens.color("accent"))
            pen.setWidth(2)
            painter.setPen(pen)
            painter.drawRoundedRect(box.adjusted(1, 1, -1, -1), 6, 6)
        painter.setPen(tokens.color("accent" if on else "strong"))
        painter.setBrush(tokens.color("accent" if on else "card"))
        painter.drawEllipse(8, 7, _MARK, _MARK)
        if on:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(tokens.color("on_accent"))
            inner = 8 + (_MARK - _DOT) // 2
            painter.drawEllipse(inner, inner - 1, _DOT, _DOT)
        words = box.adjusted(8 + _MARK + 8, 5, -6, -5)
        painter.setFont(font("strong" if on else "body"))
        painter.setPen(tokens.color("text"))
        painter.drawText(words, Qt.AlignmentFlag.AlignTop, self.text())
        painter.setFont(font("caption", tabular=True))
        painter.setPen(tokens.color("text2"))
        shown = painter.fontMetrics().elidedText(
            self.effect, Qt.TextElideMode.ElideRight, words.width()
        )
        painter.drawText(words, Qt.AlignmentFlag.AlignBottom, shown)
        painter.end()


class LongRowsCard(Card):
    """Hidden where every row fits.

    Attributes:
        chosen: one of the choices, a value of the setting.
        overlap: tokens a window repeats.
        limit: a longer limit is wanted.
    """

    chosen = Signal(str)
    overlap = Signal(int)
    limit = Signal(int)

    def __init__(self) -> None:
        super().__init__("Long rows", spacing=4)
        self.title.setWordWrap(True)
        self.body.addWidget(Label("What shall become of them?", "callout", "text2"))
        self._group, self.choices = QButtonGroup(self), dict[str, ChoiceButton]()
        for key, (title, words) in CHOICES.items():
            button = ChoiceButton(title)
            button.say(words)
            button.clicked.connect(lambda _=False, key=key: self.chosen.emit(key))
            self._group.addButton(button)
            self.choices[key] = button
            self.body.addWidget(button)
        self._step = self._make_overlap()
        self.body.addWidget(self._step)
        self._longer = 0
        self.longer = Button("", lambda: self.limit.emit(self._longer))
        self.longer.setToolTip("Training needs more memory and time for longer rows")
        self.body.addSpacing(4)
        self.body.addWidget(Row(self.longer, None))
        self.body.addStretch(1)

    def say(self, found: Mapping[str, Any], choice: str, overlap: int, limit: int) -> None:
        """`found` is the report's `long_rows`; empty where it is not known."""
        number = found.get("count", 0)
        be = "is" if number == 1 else "are"
        self.setVisible(bool(number))
        self.title.setText(f"{plural(number, 'row')} {be} longer than {limit:,} tokens")
        for key, button in self.choices.items():
            button.setChecked(key == choice)
            button.say(_effect(key, found.get("choices", {}).get(key)))
        self.spin.blockSignals(True)
        self.spin.setMaximum(max(0, limit // 2))
        self.spin.setValue(overlap)
        self.spin.blockSignals(False)
        self._step.setVisible(choice == "split")

    def say_longer(self, limit: int) -> None:
        """The longer limit that is offered."""
        self._longer = limit
        self.longer.say(f"Allow {limit:,} Tokens")

    def _make_overlap(self) -> Row:
        self.spin = QSpinBox()
        self.spin.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.spin.setProperty("bare", "true")
        self.spin.lineEdit().setTextMargins(6, 0, 0, 0)
        self.spin.setKeyboardTracking(False)
        self.spin.setFixedWidth(72)
        self.spin.setAccessibleName("Tokens a window repeats of the one before")
        self.spin.valueChanged.connect(self.overlap)
        row = Row(Label("Each window repeats", "callout", "text2"), self.spin)
        row.items.addWidget(Label("tokens of the one before", "callout", "text2"))
        row.items.addStretch(1)
        row.items.setContentsMargins(32, 0, 0, 0)
        return row


def _effect(key: str, found: Mapping[str, int] | None) -> str:
    """In numbers where they are known."""
    if found is None:
        return CHOICES[key][1]
    parts = [
        f"{plural(found['rows'], 'row')}", f"{found['trained_tokens']:,} learnt",
        f"{found['lost_tokens']:,} lost" if found["lost_tokens"] else "nothing lost",
    ]  # fmt: skip
    ends = found["ends_lost"]
    return " · ".join([*parts, *([f"{plural(ends, 'end')} lost"] if ends else [])])
