"""Buttons, with an icon that follows the theme."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QPushButton, QWidget

from app.icons import icon as make_icon
from app.theme import font, theme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Kind = Literal["", "primary", "danger", "link", "pill", "quiet", "segment"]
_TONES = {"primary": "on_accent", "danger": "bad", "link": "accent", "quiet": "text2"}


class Button(QPushButton):
    """A button of the house; `act` is called when it is pressed."""

    def __init__(
        self,
        text: str = "",
        act: Callable[[], object] | None = None,
        *,
        kind: Kind = "",
        icon: str = "",
        name: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self.setProperty("kind", kind)
        self.setFont(font("strong" if kind == "primary" else "body"))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAutoDefault(False)
        self.setAccessibleName(name or text)
        self._icon, self._kind = icon, kind
        if kind in {"pill", "segment"}:
            self.setCheckable(True)
        self._act = act
        self.clicked.connect(self._press)
        theme.changed.connect(self._redraw)
        self._redraw()

    def _press(self) -> None:
        """Without the `checked` Qt sends along."""
        if self._act is not None:
            self._act()

    def set_icon(self, name: str) -> None:
        """Another icon."""
        self._icon = name
        self._redraw()

    def say(self, text: str) -> None:
        """Another text, for eyes and ears."""
        self.setText(text)
        self.setAccessibleName(text)

    def _redraw(self) -> None:
        if self._icon:
            gap = 6 if self.text() else 0
            self.setIconSize(QSize(16 + gap, 16))
            self.setIcon(make_icon(self._icon, _TONES.get(self._kind, "text"), gap=gap))
        else:
            self.setIcon(QIcon())


class Segments(QFrame):
    """A few choices of which one holds, as one control; `act` gets the choice's key."""

    def __init__(
        self, choices: Iterable[tuple[str, str]], act: Callable[[str], object], *, name: str
    ) -> None:
        super().__init__()
        self.setProperty("role", "inset")
        self.setAccessibleName(name)
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(2)
        self._group, self.buttons = QButtonGroup(self), dict[str, Button]()
        for key, text in choices:
            button = Button(text, partial(act, key), kind="segment", name=f"{name}: {text}")
            self._group.addButton(button)
            self.buttons[key] = button
            row.addWidget(button)

    def choose(self, key: str) -> None:
        """Show another choice; tells nobody."""
        self.buttons[key].setChecked(True)


class Pills(QWidget):
    """The same as pills beside each other."""

    def __init__(
        self, choices: Iterable[tuple[str, str]], act: Callable[[str], object], *, name: str
    ) -> None:
        super().__init__()
        self.setAccessibleName(name)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        self._group, self.buttons = QButtonGroup(self), dict[str, Button]()
        for key, text in choices:
            button = Button(text, partial(act, key), kind="pill", name=f"{name}: {text}")
            self._group.addButton(button)
            self.buttons[key] = button
            row.addWidget(button)

    def choose(self, key: str) -> None:
        """Show another choice; tells nobody."""
        self.buttons[key].setChecked(True)
