"""A setting: what it is called, what it does in one sentence, and its control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Callable


class SettingRow(QWidget):
    """Words at the left, a control at the right; a wide one goes below."""

    def __init__(
        self, title: str, text: str, *controls: QWidget, below: QWidget | None = None
    ) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(6)
        row, words = QHBoxLayout(), QVBoxLayout()
        row.setSpacing(12)
        words.setSpacing(1)
        self.title, self.text = Label(title, "strong"), Label(text, "caption", "text2", wrap=True)
        words.addWidget(self.title)
        words.addWidget(self.text)
        row.addLayout(words, 1)
        for control in controls:
            row.addWidget(control, 0, Qt.AlignmentFlag.AlignVCenter)
        outer.addLayout(row)
        if below is not None:
            outer.addWidget(below)


class FolderRow(SettingRow):
    """A folder: where it is, and buttons for what can be done about it."""

    def __init__(
        self, title: str, text: str, *acts: tuple[str, Callable[[], object]], none: str = ""
    ) -> None:
        self.buttons = {
            verb: Button(verb, act, name=f"{verb.rstrip('…')}: {title}") for verb, act in acts
        }
        self.path, self._none = ElidedLabel("", "callout", mode=Qt.TextElideMode.ElideMiddle), none
        super().__init__(title, text, below=Row(self.path, *self.buttons.values()))
        self.path.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)

    def say(self, path: str) -> None:
        """Another folder; what holds without one where it is empty."""
        self.path.setText(path or self._none)
        self.path.set_tone("text" if path else "text2")
        if "Clear" in self.buttons:
            self.buttons["Clear"].setEnabled(bool(path))
