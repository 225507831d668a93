"""Which answer was better, so far; how the held-out row really goes on; marks on or off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPlainTextEdit

from app.theme import font
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Callable

_LINES = 3


class VerdictCard(Card):
    """The strip under both answers."""

    def __init__(self, tie: Callable[[], object], differences: Callable[[], object]) -> None:
        super().__init__(margin=12)
        self.body.setContentsMargins(16, 8, 12, 8)
        self.tally = ElidedLabel("", "callout", "text2")
        self.differences = Button("Show Differences", differences, kind="pill")
        self.differences.setToolTip(
            "Words only the base says are struck out, words only the adapted model says underlined"
        )
        self.tie = Button("Tie", tie, kind="pill", name="Both are as good")
        self.body.addWidget(
            Row(Label("Which is better?", "strong"), self.tally, self.differences, self.tie)
        )


class TruthCard(Card):
    """How the row that a prompt was taken from really goes on."""

    def __init__(self) -> None:
        super().__init__(margin=12, spacing=4, role="inset")
        self.body.setContentsMargins(16, 8, 16, 8)
        self.body.addWidget(Label("How the held-out row goes on", "strong"))
        self.text = QPlainTextEdit(readOnly=True)
        self.text.setProperty("role", "plain")
        self.text.setAccessibleName("How the held-out row goes on")
        self.text.setTabChangesFocus(True)
        self.text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text.setFont(font("body"))
        self.text.document().setDocumentMargin(0)
        self.body.addWidget(self.text)
        self.hide()

    def say(self, text: str) -> None:
        """Show it; nothing hides the card."""
        self.setVisible(bool(text))
        self.text.setPlainText(text)
        lines = min(_LINES, max(1, text.count("\n") + 1 + len(text) // 140))
        self.text.setFixedHeight(self.text.fontMetrics().lineSpacing() * lines + 6)
