"""A column that scrolls by itself where it is higher than the window."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QScrollArea, QVBoxLayout, QWidget

# between what it holds and its bar, where there is one
_GAP = 6


class ScrollColumn(QScrollArea):
    """What it holds goes into `column`, top to bottom."""

    def __init__(self, *, spacing: int = 12) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        inner = QWidget()
        inner.setProperty("role", "page")
        self.column = QVBoxLayout(inner)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.verticalScrollBar().rangeChanged.connect(self._make_room)
        self.column.setSpacing(spacing)
        self.setWidget(inner)

    def _make_room(self, _low: int, high: int) -> None:
        self.column.setContentsMargins(0, 0, _GAP if high else 0, 0)
