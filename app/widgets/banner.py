"""A strip that says something: what happened, is my work safe, one thing to do, Details, Copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout

from app.icons import pixmap
from app.theme import font, theme
from app.widgets.button import Button
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from app.problems import Problem

Tone = Literal["info", "ok", "warn", "bad"]
_ICONS = {"info": "info", "ok": "check", "warn": "warn", "bad": "warn"}


class Banner(QFrame):
    """Hidden until there is something to say."""

    def __init__(self) -> None:
        super().__init__()
        self._tone: Tone = "info"
        outer = QVBoxLayout(self)
        outer.setContentsMargins(12, 10, 12, 10)
        row = QHBoxLayout()
        row.setSpacing(10)
        outer.addLayout(row)
        self._mark = QLabel()
        self._mark.setAlignment(Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(2)
        self.title, self.text = Label(role="strong", wrap=True), Label(role="callout", wrap=True)
        words.addWidget(self.title)
        words.addWidget(self.text)
        row.addWidget(self._mark)
        row.addLayout(words, 1)
        self.details = QPlainTextEdit(readOnly=True)
        self.details.setAccessibleName("Details")
        self.details.setTabChangesFocus(True)
        self.details.setFont(font("mono"))
        self.details.setFixedHeight(110)
        self.fix, self.more = Button(), Button("Details", self._toggle, kind="link")
        self.copy, self.close_button = (
            Button("Copy", self._copy, kind="link", name="Copy details"),
            Button("", self.clear, kind="quiet", icon="close", name="Dismiss"),
        )
        self._buttons = (self.fix, self.more, self.copy, self.close_button)
        for button in self._buttons:
            row.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)
        outer.addWidget(self.details)
        self._act: Callable[[], object] | None = None
        self.fix.clicked.connect(self._fix)
        theme.changed.connect(self._redraw)
        self.clear()

    def say(
        self,
        title: str,
        text: str = "",
        tone: Tone = "info",
        *,
        fix: tuple[str, Callable[[], object]] | None = None,
        closable: bool = True,
        details: str = "",
    ) -> None:
        """Show something, with one button for what to do about it."""
        self._tone = tone
        self.title.setText(title)
        self.text.setText(text)
        self.text.setVisible(bool(text))
        self.details.setPlainText(details)
        self.details.hide()
        self.more.say("Details")
        for button in (self.more, self.copy):
            button.setVisible(bool(details))
        self._act = fix[1] if fix else None
        self.fix.setVisible(fix is not None)
        if fix:
            self.fix.say(fix[0])
        self.close_button.setVisible(closable)
        self.setProperty("role", tone)
        self.style().unpolish(self)
        self.style().polish(self)
        self._redraw()
        self.setAccessibleName(f"{title}. {text}")
        self.show()
        announce(self, f"{title}. {text}")

    def show_problem(
        self,
        problem: Problem,
        fix: tuple[str, Callable[[], object]] | None = None,
        *,
        closable: bool = False,
    ) -> None:
        """Show an error."""
        text = " ".join(filter(None, (problem.text, problem.safe)))
        self.say(problem.title, text, "bad", fix=fix, closable=closable, details=problem.details)

    def clear(self) -> None:
        """Nothing to say."""
        self._act = None
        self.hide()

    def _fix(self) -> None:
        if self._act is not None:
            self._act()

    def _toggle(self) -> None:
        shown = self.details.isHidden()
        self.details.setVisible(shown)
        self.more.say("Hide Details" if shown else "Details")

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(f"{self.title.text()}\n{self.details.toPlainText()}")

    def _redraw(self) -> None:
        tone = "accent" if self._tone == "info" else self._tone
        self._mark.setPixmap(pixmap(_ICONS[self._tone], tone, 18))


def announce(widget: QWidget, text: str) -> None:
    """Tell a screen reader."""
    QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(widget, text))
