"""Surfaces: a card, a thin line, and rows of things on them."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from app.widgets.label import ElidedLabel, Label


class Card(QFrame):
    """A surface with a border; what it holds goes into `body`, top to bottom."""

    def __init__(
        self, title: str = "", *, margin: int = 16, spacing: int = 8, role: str = "card"
    ) -> None:
        super().__init__()
        self.setProperty("role", role)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(margin, margin, margin, margin)
        self.body.setSpacing(spacing)
        self.head = QHBoxLayout()
        self.head.setSpacing(8)
        self.title = Label(title, "headline")
        if title:
            self.head.addWidget(self.title)
            self.body.addLayout(self.head)


class Line(QFrame):
    """A hairline."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "line")
        self.setFixedHeight(1)


class Row(QWidget):
    """Things beside each other; None is room between them, elided labels take what is left."""

    def __init__(self, *items: QWidget | None, spacing: int = 8) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.items = QHBoxLayout(self)
        self.items.setContentsMargins(0, 0, 0, 0)
        self.items.setSpacing(spacing)
        for item in items:
            if item is None:
                self.items.addStretch(1)
            else:
                self.items.addWidget(item, int(isinstance(item, ElidedLabel)))


class Metric(QWidget):
    """A large number over what it counts."""

    def __init__(self, what: str, value: str = "–") -> None:
        super().__init__()
        self.setProperty("role", "clear")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        self._what = what
        self.value, self.caption = Label(value, "metric"), Label(what, "caption", "text2")
        column.addWidget(self.value)
        column.addWidget(self.caption)
        self.say(value)

    def say(self, value: str, tone: str = "text") -> None:
        """Another number."""
        self.value.setText(value)
        self.value.set_tone(tone)
        self.value.setAccessibleName(f"{self._what}: {value}")
