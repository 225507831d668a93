"""A line to search in: a glass in front, a cross behind, both with names."""

from __future__ import annotations

from PySide6.QtWidgets import QLineEdit, QToolButton

from app.icons import icon
from app.theme import theme


class SearchField(QLineEdit):
    """Where a person types what they look for."""

    def __init__(self, hint: str, *, name: str) -> None:
        super().__init__()
        self.setPlaceholderText(hint)
        self.setAccessibleName(name)
        self.setClearButtonEnabled(True)
        glass = icon("search", "text2")
        self._mark = self.addAction(glass, QLineEdit.ActionPosition.LeadingPosition)
        for button in self.findChildren(QToolButton):
            button.setAccessibleName("Clear" if button.defaultAction() is None else "Search")
        theme.changed.connect(self._redraw)

    def _redraw(self) -> None:
        self._mark.setIcon(icon("search", "text2"))
