"""All findings at the left, the chosen one at the right; or that there is nothing to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QWidget

from app.widgets.card import Card
from app.widgets.finding_details import FindingDetails
from app.widgets.finding_list import FindingList
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.issues import Issue


class FindingsCard(Card):
    """Knows its issues; the list and the details tell what a person wants."""

    def __init__(self) -> None:
        super().__init__(margin=0, spacing=0)
        self._issues: list[Issue] = []
        self.list, self.details = FindingList(), FindingDetails()
        self.details.column.setContentsMargins(0, 0, 0, 0)
        both = QWidget()
        both.setProperty("role", "clear")
        row = QHBoxLayout(both)
        row.setContentsMargins(1, 8, 16, 12)
        row.setSpacing(20)
        row.addWidget(self.list, 5)
        row.addWidget(self.details, 6)
        self._nothing = Label("", tone="text2")
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack = QStackedWidget()
        self._stack.addWidget(both)
        self._stack.addWidget(self._nothing)
        self.body.addWidget(self._stack)
        self.list.wanted.connect(self._show)

    def show_issues(self, issues: Sequence[Issue], *, known: bool) -> None:
        """Other issues, by level; `known` where all rows were looked at."""
        self._nothing.setText("Nothing to look at" if known else "The rows are being checked…")
        self._stack.setCurrentIndex(0 if issues else 1)
        if list(issues) != self._issues:
            self._issues = list(issues)
            self.list.show_issues(self._issues)

    def _show(self, key: str) -> None:
        self.details.show_issue(next(issue for issue in self._issues if issue.key == key))
