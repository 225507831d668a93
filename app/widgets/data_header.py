"""Which file it is, and its four numbers."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Card, Metric
from app.widgets.label import ElidedLabel


class DataHeader(Card):
    """A card over the whole width."""

    replace = Signal()

    def __init__(self) -> None:
        super().__init__(margin=12)
        self.body.setContentsMargins(16, 10, 12, 10)
        row = QHBoxLayout()
        row.setSpacing(12)
        self._mark = QLabel()
        self._mark.setFixedSize(QSize(24, 24))
        words = QVBoxLayout()
        words.setSpacing(1)
        self.name = ElidedLabel("", "strong", mode=Qt.TextElideMode.ElideMiddle)
        self.kind = ElidedLabel("", "caption", "text2")
        words.addStretch(1)
        words.addWidget(self.name)
        words.addWidget(self.kind)
        words.addStretch(1)
        row.addWidget(self._mark)
        row.addLayout(words, 1)
        self.rows, self.tokens = Metric("rows"), Metric("tokens")
        self.average, self.over = Metric("average tokens"), Metric("over the limit")
        for metric in (self.rows, self.tokens, self.average, self.over):
            row.addWidget(metric)
            row.addSpacing(12)
        self.button = Button("Replace…", self.replace.emit, name="Replace the data")
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignVCenter)
        self.body.addLayout(row)
        theme.changed.connect(self._redraw)
        self._redraw()

    def say(self, name: str, kind: str) -> None:
        """Another file."""
        self.name.setText(name)
        self.kind.setText(kind)

    def say_numbers(self, numbers: tuple[str, str, str, str] | None, *, over: bool) -> None:
        """Rows, tokens, average, over the limit; dashes where they are not known yet."""
        metrics = (self.rows, self.tokens, self.average, self.over)
        for metric, number in zip(metrics, numbers or ("–",) * 4, strict=True):
            metric.say(number, "warn" if over and metric is self.over else "text")

    def _redraw(self) -> None:
        self._mark.setPixmap(pixmap("file", "accent", 24))
