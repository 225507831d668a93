"""One voice's answer: written while it comes, its speed, how it ended, a vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QTextCursor, QTextOption
from PySide6.QtWidgets import QPlainTextEdit

from app.theme import font, theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import ElidedLabel
from app.widgets.pill import Pill
from app.widgets.word_diff import Span, show_spans

if TYPE_CHECKING:
    from collections.abc import Callable

# pixels: the lowest view, letters of an answer
_LEAST, _READING = 58, 14


class StreamPane(Card):
    """Shows one answer.

    Attributes:
        text: the answer as it came, letter for letter.
        view: where it is shown, perhaps with marks.
        better: the vote for this side.
    """

    def __init__(self, title: str, vote: Callable[[], object]) -> None:
        super().__init__(title, spacing=6)
        self._name, self.text = title, ""
        self._spans: list[Span] = []
        self.source, self.status = ElidedLabel("", "caption", "text2"), Pill()
        self.head.addWidget(self.source, 1)
        self.head.addWidget(self.status)
        self.view = QPlainTextEdit(readOnly=True)
        self.view.setProperty("role", "plain")
        self.view.setAccessibleName(f"Answer of {title}")
        self.view.setTabChangesFocus(True)
        reading = font("body")
        reading.setPixelSize(_READING)
        self.view.setFont(reading)
        self.view.document().setDocumentMargin(0)
        self.view.setMinimumHeight(_LEAST)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.view.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.body.addWidget(self.view, 1)
        self.facts = ElidedLabel("", "caption", "text2")
        self.copy = Button("Copy", self._copy, kind="link", name=f"Copy answer of {title}")
        self.better = Button("Better", vote, kind="pill", name=f"{title} is better")
        self.body.addWidget(Row(self.facts, self.copy, self.better))
        theme.changed.connect(self._redraw)
        self.clear("")

    def clear(self, waiting: str) -> None:
        """Nothing is said yet; `waiting` says why."""
        self.text, self._spans = "", []
        self.view.clear()
        self.view.setPlaceholderText(waiting)
        self.facts.setText("")
        self.status.hide()

    def say(self, status: str, tone: str, icon: str = "") -> None:
        """How it stands, or how it ended, in a few words."""
        self.status.say(status, tone, icon)
        self.status.show()

    def say_facts(self, facts: str, note: str = "") -> None:
        """How much and how fast; `note` explains the figures."""
        self.facts.setText(facts)
        self.facts.setAccessibleDescription(note)
        self.status.setToolTip(note)

    def add(self, text: str) -> None:
        """More of the answer; the view follows the end unless somebody scrolled away from it."""
        if not text:
            return
        self.text += text
        bar = self.view.verticalScrollBar()
        follows = bar.value() >= bar.maximum()
        cursor = QTextCursor(self.view.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text)
        if follows:
            bar.setValue(bar.maximum())

    def show_text(self, text: str, empty: str) -> None:
        """A whole answer; `empty` is shown in place of one without a word."""
        self.view.setPlaceholderText(empty)
        if text != self.text or self._spans:
            self.text, self._spans = text, []
            show_spans(self.view, [Span(text)])

    def mark(self, spans: list[Span]) -> None:
        """The same text with marks on some words; none takes the marks away."""
        if not spans and not self._spans:
            return
        self._spans = spans
        shown = spans or [Span(self.text)]
        at = self.view.verticalScrollBar().value()
        show_spans(self.view, shown)
        self.view.verticalScrollBar().setValue(at)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text)

    def _redraw(self) -> None:
        if self._spans:
            self.mark(self._spans)
