"""The line of jobs: the one at work with its progress, those behind it to reorder and cancel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QLabel, QProgressBar, QVBoxLayout, QWidget

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Card, Line, Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.models.queue_line import QueueEntry


class Move(msgspec.Struct, frozen=True):
    """A waiting job shall go `by` places later, earlier when negative."""

    key: int
    by: int


class QueueList(Card):
    """All jobs; hidden where there is none.

    Attributes:
        moved: a waiting job shall stand elsewhere, as a `Move`.
        ended: a job shall be stopped or taken out, by its key.
    """

    moved = Signal(object)
    ended = Signal(object)

    def __init__(self) -> None:
        super().__init__("Queue", spacing=10)
        self.rows: list[QueueRow] = []
        self._hairlines: list[Line] = []
        self._count = Label("", "caption", "text2")
        self.head.addStretch(1)
        self.head.addWidget(self._count)
        self._lines = QVBoxLayout()
        self._lines.setSpacing(8)
        self.body.addLayout(self._lines)
        self.setAccessibleName("Queue")
        self.hide()

    def say(self, entries: Sequence[QueueEntry]) -> None:
        """Show the line as it stands; the buttons of a job stay where the focus is."""
        if [row.key for row in self.rows] != [entry.key for entry in entries]:
            self._arrange(entries)
        waiting = sum(not entry.running for entry in entries)
        self._count.setText(f"{waiting} waiting" if waiting else "")
        for at, (row, entry) in enumerate(zip(self.rows, entries, strict=True)):
            place = at - (len(entries) - waiting)
            row.say(entry, first=place == 0, last=place == waiting - 1, place=place + 1)
        self.setVisible(bool(entries))

    def _arrange(self, entries: Sequence[QueueEntry]) -> None:
        """The rows that stay keep their widgets, and with them the focus."""
        known = {row.key: row for row in self.rows}
        for line in self._hairlines:
            line.hide()
            line.deleteLater()
        for row in self.rows:
            self._lines.removeWidget(row)
        self._hairlines = [Line() for _ in entries[1:]]
        self.rows = [
            known.pop(entry.key) if entry.key in known else self._make(entry) for entry in entries
        ]
        for row in known.values():
            row.hide()
            row.deleteLater()
        before: QWidget | None = None
        for at, row in enumerate(self.rows):
            if at:
                self._lines.addWidget(self._hairlines[at - 1])
            self._lines.addWidget(row)
            if before is not None:
                QWidget.setTabOrder(before, row.up)
            QWidget.setTabOrder(row.up, row.down)
            QWidget.setTabOrder(row.down, row.end)
            before = row.end

    def _make(self, entry: QueueEntry) -> QueueRow:
        row = QueueRow(entry.key)
        row.moved.connect(lambda by, key=entry.key: self.moved.emit(Move(key, by)))
        row.unwanted.connect(lambda key=entry.key: self.ended.emit(key))
        return row


class QueueRow(QWidget):
    """One job. Alt with an arrow moves it, Delete takes it out."""

    moved = Signal(int)
    unwanted = Signal()

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key, self._place = key, 0
        self.setProperty("role", "clear")
        self._mark = QLabel()
        self._mark.setFixedWidth(20)
        self._mark.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.title, self.kind = ElidedLabel("", "strong"), ElidedLabel("", "caption", "text2")
        words = QWidget()
        words.setProperty("role", "clear")
        column = QVBoxLayout(words)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(self.title)
        column.addWidget(self.kind)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedWidth(180)
        self.share = Label("", "caption", "text2")
        self.share.setFixedWidth(36)
        self.share.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.up = Button("", partial(self.moved.emit, -1), kind="quiet", icon="up")
        self.down = Button("", partial(self.moved.emit, 1), kind="quiet", icon="down")
        self.end = Button("Cancel", self.unwanted.emit)
        row = Row(self._mark, words, self.bar, self.share, self.up, self.down, self.end)
        row.items.setStretchFactor(words, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(row)
        for keys, by in (("Alt+Up", -1), ("Alt+Down", 1)):
            self._shortcut(keys).activated.connect(partial(self._try, by))
        self._shortcut("Delete").activated.connect(self.unwanted)
        theme.changed.connect(self._redraw)

    def say(self, entry: QueueEntry, *, first: bool, last: bool, place: int) -> None:
        """How it stands; `place` counts those that wait."""
        self._place = 0 if entry.running else place
        self.title.setText(entry.title)
        waits = "next" if first else "waiting"
        self.kind.setText(f"{entry.kind} · {entry.doing if entry.running else waits}")
        self.bar.setVisible(entry.running)
        self.share.setVisible(entry.running)
        self.bar.setRange(0, entry.total)
        self.bar.setValue(entry.done)
        self.bar.setAccessibleName(f"Progress of {entry.title}")
        self.share.setText(f"{entry.done / entry.total:.0%}" if entry.total else "")
        for button, edge, word in ((self.up, first, "earlier"), (self.down, last, "later")):
            button.setVisible(not entry.running)
            if not edge:
                button.setEnabled(True)
            button.setAccessibleName(f"Move {entry.title} {word}")
            button.setToolTip(f"{word.capitalize()} (Alt with an arrow)")
        for button, other, edge in ((self.up, self.down, first), (self.down, self.up, last)):
            if edge and button.hasFocus():
                other.setFocus()  # the hand stays on the job
            button.setEnabled(not edge)
        self.end.say("Stopping…" if entry.stopping else "Stop" if entry.running else "Cancel")
        self.end.setEnabled(not entry.stopping)
        self.end.setAccessibleName(f"{self.end.text()} {entry.title}")
        self._redraw()

    def _try(self, by: int) -> None:
        """A key does what its button would."""
        button = self.up if by < 0 else self.down
        if button.isVisible() and button.isEnabled():
            self.moved.emit(by)

    def _shortcut(self, keys: str) -> QShortcut:
        context = Qt.ShortcutContext.WidgetWithChildrenShortcut
        return QShortcut(QKeySequence(keys), self, context=context)

    def _redraw(self) -> None:
        if self._place:
            self._mark.setText(str(self._place))
        else:
            self._mark.setPixmap(pixmap("play", "accent", 16))
