"""How much memory is needed, by part, against what there is; and what would help."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.theme import font, theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label
from app.widgets.pill import Pill
from app.words import MACHINE

if TYPE_CHECKING:
    from collections.abc import Sequence

_BAR, _ROOM = 12, 46


class MemoryBar(QLabel):
    """Parts beside each other, and a line at the limit."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[tuple[str, float]] = []
        self._limit, self._words = 1.0, ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_parts(self, parts: Sequence[tuple[str, float]], limit: float, words: str) -> None:
        """(tone, bytes) of each part, the limit in bytes and in words."""
        self._parts, self._limit, self._words = list(parts), limit, words
        self.setAccessibleName("Memory by part")
        self.update()

    def sizeHint(self) -> QSize:
        """The bar and a line of words."""
        return QSize(200, _ROOM)

    def minimumSizeHint(self) -> QSize:
        """Narrow where it must be."""
        return QSize(120, _ROOM)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Track, parts, limit."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        need = sum(size for _, size in self._parts)
        whole = max(self._limit * 1.25, need * 1.02, 1.0)
        track = QRectF(0, 8, self.width(), _BAR)
        clip = QPainterPath()
        clip.addRoundedRect(track, _BAR / 2, _BAR / 2)
        painter.save()
        painter.setClipPath(clip)
        painter.fillRect(track, tokens.color("track"))
        left = 0.0
        for tone, size in self._parts:
            wide = size / whole * track.width()
            painter.fillRect(QRectF(left, 8, max(wide - 1, 0.5), _BAR), tokens.color(tone))
            left += wide
        painter.restore()
        at = self._limit / whole * track.width()
        painter.setPen(QPen(tokens.color("text"), 2))
        painter.drawLine(QPointF(at, 4), QPointF(at, 8 + _BAR + 4))
        painter.setFont(font("caption"))
        painter.setPen(tokens.color("text2"))
        wide = painter.fontMetrics().horizontalAdvance(self._words) + 2
        start = min(max(0.0, at - wide / 2), self.width() - wide)
        room = QRectF(start, 8 + _BAR + 6, wide, 16)
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, self._words)
        painter.end()


class MemoryCard(Card):
    """Peak memory; `wanted` carries the number of a remedy that was pressed."""

    wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__("Peak Memory", spacing=6)
        self.pill = Pill("…", "plain")
        self.head.addStretch(1)
        self.head.addWidget(self.pill)
        self.need, self.of = Label("–", "metric"), Label("", "callout", "text2")
        self.body.addWidget(Row(self.need, self.of, None))
        self.bar = MemoryBar()
        self.body.addWidget(self.bar)
        self._legend, self._remedies = QVBoxLayout(), QVBoxLayout()
        self._legend.setSpacing(3)
        self._remedies.setSpacing(6)
        self.body.addLayout(self._legend)
        self.words = Label("", "caption", "text2", wrap=True)
        self.body.addWidget(self.words)
        self.body.addLayout(self._remedies)
        self.measuring = Measuring()
        self.body.addWidget(self.measuring)
        self.remedies: list[Button] = []
        self._rows: list[Part] = []

    def show_need(
        self, need: str, of: str, parts: Sequence[tuple[str, str, str, float]], limit: float
    ) -> None:
        """(tone, name, size in words, bytes) of each part."""
        self.need.setText(need)
        self.of.setText(of)
        self.bar.show_parts([(tone, size) for tone, _, _, size in parts], limit, "limit")
        while len(self._rows) < len(parts):
            row = Part()
            self._legend.addWidget(row)
            self._rows.append(row)
        for row in self._rows[len(parts) :]:
            row.hide()
        for row, (tone, said, words, _) in zip(self._rows, parts, strict=False):
            row.say(tone, said, words)
            row.show()
        self.setAccessibleDescription(
            f"{need} {of}: " + ", ".join(f"{said} {words}" for _, said, words, _ in parts)
        )

    def show_verdict(self, pill: tuple[str, str, str], words: str) -> None:
        """Whether it fits, in a word and a sentence."""
        self.pill.say(*pill)
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def show_remedies(self, remedies: Sequence[tuple[str, str]]) -> None:
        """(what a button says, what it does) for each."""
        while len(self.remedies) > len(remedies):
            button = self.remedies.pop()
            button.hide()
            button.deleteLater()
        while len(self.remedies) < len(remedies):
            button = Button("", partial(self.wanted.emit, len(self.remedies)))
            self._remedies.addWidget(button)
            self.remedies.append(button)
        for button, (text, why) in zip(self.remedies, remedies, strict=True):
            button.say(text)
            button.setToolTip(why)
            button.setAccessibleDescription(why)


class Measuring(QWidget):
    """The button that measures in place of the forecast, and what was found.

    `asked` begins or ends a measurement; `used` carries the batch size that was found to fit.
    """

    asked = Signal()
    used = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 0)
        column.setSpacing(6)
        self.words = Label("", "caption", "text2", wrap=True)
        self.button = Button("", self.asked.emit)
        self.button.setToolTip(
            "Makes three steps of this run with its longest rows, then finds the largest batch "
            "that fits. Nothing is trained."
        )
        self.button.setAccessibleDescription(self.button.toolTip())
        self.use = Button("", lambda: self.used.emit(self._batch))
        self._batch = 0
        for part in (self.words, self.use, self.button):
            column.addWidget(part)
        self.say_found("", 0, "")

    def say_doing(self, words: str) -> None:
        """It is at work."""
        self.words.setText(f"{words}…")
        self.words.show()
        self.use.hide()
        self.button.say("Stop Measuring")

    def say_found(self, words: str, batch: int, trouble: str) -> None:
        """What was found; the batch size there is to use, 0 for none; why nothing was found."""
        said = trouble or words
        self.words.setText(said)
        self.words.setVisible(bool(said))
        self._batch = batch
        self.use.say(f"Use Batch {batch:,}")
        self.use.setVisible(batch > 0)
        self.button.say("Measure Again" if words else f"Measure on This {MACHINE.capitalize()}")


class Part(Row):
    """A line of the legend."""

    def __init__(self) -> None:
        self._dot, self._name, self._size = (
            Dot(), Label("", "caption", "text2"), Label("", "caption")
        )  # fmt: skip
        super().__init__(self._dot, self._name, None, self._size, spacing=6)

    def say(self, tone: str, name: str, size: str) -> None:
        """Another part."""
        self._dot.show_tone(tone)
        self._name.setText(name)
        self._size.setText(size)


class Dot(QLabel):
    """The colour of a part."""

    def __init__(self) -> None:
        super().__init__()
        self._tone = "text3"
        self.setFixedSize(8, 12)
        theme.changed.connect(self.update)

    def show_tone(self, tone: str) -> None:
        """Another colour."""
        self._tone = tone
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """A disc."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.tokens.color(self._tone))
        painter.drawEllipse(QPointF(4, self.height() / 2), 4, 4)
        painter.end()
