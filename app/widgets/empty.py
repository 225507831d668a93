"""Where there is nothing yet: what will be here, and how to begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK, _WIDE = 44, 440


class EmptyView(QWidget):
    """A mark, a headline, a sentence, and one or two buttons, in the middle."""

    def __init__(
        self, mark: str, title: str, text: str, *acts: tuple[str, Callable[[], object]]
    ) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._icon, self._mark = mark, QLabel()
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addStretch(2)
        column.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(4)
        column.addWidget(Label(title, "title"), 0, Qt.AlignmentFlag.AlignHCenter)
        words = Label(text, tone="text2", wrap=True)
        words.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        words.setFixedWidth(_WIDE)
        words.setMinimumHeight(words.heightForWidth(_WIDE))  # centred, it would get one line
        column.addWidget(words, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(8)
        self.buttons = [
            Button(text, act, kind="" if at else "primary") for at, (text, act) in enumerate(acts)
        ]
        column.addWidget(Row(None, *self.buttons, None))
        column.addStretch(3)
        theme.changed.connect(self._redraw)
        self._redraw()

    def _redraw(self) -> None:
        self._mark.setPixmap(pixmap(self._icon, "text3", _MARK))
