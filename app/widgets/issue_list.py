"""The weightiest thing to look at in the data, in one line over the rows, with a way to all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.label import ElidedLabel
from app.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.issues import Issue

# level -> (role of the frame, tone and name of the mark)
LOOKS = {
    "error": ("bad", "bad", "close"), "warning": ("warn", "warn", "warn"),
    "note": ("info", "accent", "info"),
}  # fmt: skip


class IssueStrip(QFrame):
    """Hidden where nothing is to be looked at.

    Attributes:
        reviewed: the person wants to see them all.
        cleaned: a cleaned copy is wanted.
        columns_wanted: the person wants to say which column is which.
    """

    reviewed, cleaned, columns_wanted = Signal(), Signal(), Signal()

    def __init__(self) -> None:
        super().__init__()
        self._level = "note"
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 4, 8, 4)
        row.setSpacing(8)
        self._mark, self.text = QLabel(), ElidedLabel("", "callout")
        self.text.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        self.review = Button("Review", self.reviewed.emit, kind="link")
        self.clean = Button("Write a Cleaned Copy…", self.cleaned.emit, kind="link")
        self.columns = Button("Choose Columns…", self.columns_wanted.emit, kind="link")
        row.addWidget(self._mark)
        row.addWidget(self.text, 1)
        row.addWidget(self.columns)
        row.addWidget(self.clean)
        row.addWidget(self.review)
        theme.changed.connect(self._redraw)
        self.hide()

    def show_issues(self, issues: Sequence[Issue]) -> None:
        """Other issues, the weightiest first."""
        self.setVisible(bool(issues))
        if not issues:
            return
        self._level = issues[0].level
        rest = [
            plural(n, f"more {level}" if level == self._level else level)
            for level, n in _counts(issues[1:]).items()
        ]
        more = f" · {', '.join(rest)}" if rest else ""
        if len(issues) == 2:  # noqa: PLR2004  (two have room)
            more = f" · {issues[1].title}"
        words = f"{issues[0].title}{more}"
        self.text.setText(words)
        self.setAccessibleName(words)
        unknown = issues[0].code == "unknown"
        self.columns.setVisible(unknown)
        self.clean.setVisible(issues[0].level == "error" and issues[0].cleanable and not unknown)
        self._redraw()

    def _redraw(self) -> None:
        role, tone, mark = LOOKS[self._level]
        if self.property("role") != role:
            self.setProperty("role", role)
            self.style().unpolish(self)
            self.style().polish(self)
        self._mark.setPixmap(pixmap(mark, tone, 16))


def _counts(issues: Sequence[Issue]) -> dict[str, int]:
    found: dict[str, int] = {}
    for issue in issues:
        found[issue.level] = found.get(issue.level, 0) + 1
    return found
