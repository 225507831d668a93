"""How to begin with data: a place to drop a file, buttons, and what a good file looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSE = (
    "ROMEO:\nBut, soft! what light\nthrough yonder window\nbreaks? It is the east,\n"
    "and Juliet is the sun."
)
_TURNS = (
    '{"messages": [\n {"role": "user",\n  "content": "Who knocks?"},\n'
    ' {"role": "assistant",\n  "content": "A friend."}]}'
)
_TABLE = 'prompt,completion\nWho is there?,A friend.\nWhat news?,"None, my lord."\n'
_EXAMPLES = (
    ("Plain text", ".txt or .md", _VERSE),
    ("Question + answer", ".csv, .parquet, .json or .jsonl", _TABLE),
    ("Conversation", ".jsonl, a line a row; wrapped here", _TURNS),
)


class DropArea(QFrame):
    """A dashed frame with buttons in it; dropping itself works on the whole window.

    Attributes:
        sample: one of the small sets was chosen; carries its key.
        tried: the whole sample project is wanted.
    """

    chosen, folder, hub, pasted, tried = Signal(), Signal(), Signal(), Signal(), Signal()
    sample = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(226)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 16, 24, 16)
        column.setSpacing(4)
        column.addStretch(1)
        self._mark = QLabel()
        middle = Qt.AlignmentFlag.AlignHCenter
        column.addWidget(self._mark, 0, middle)
        column.addWidget(Label("Drop your data here", "title"), 0, middle)
        words = (
            "Text, JSON, CSV or Parquet. It stays where it is, and nothing leaves this computer."
        )
        column.addWidget(Label(words, tone="text2"), 0, middle)
        column.addSpacing(10)
        self._make_buttons(column)
        column.addStretch(1)
        theme.changed.connect(self._redraw)
        self._redraw()

    def offer_samples(self, samples: Sequence[tuple[str, str, str, str]]) -> None:
        """Small sets to try: key, title, a sentence, and what its rows are."""
        self.samples.clear()
        for key, title, sentence, form in samples:
            action = self.samples.addAction(f"{title}\t{form}")
            action.setToolTip(sentence)
            action.triggered.connect(lambda _=False, key=key: self.sample.emit(key))
        self.samples.addSeparator()
        whole = self.samples.addAction("Train the Whole Sample Project")
        whole.setToolTip("Trains the bundled model on Shakespeare, in two minutes")
        whole.triggered.connect(lambda _=False: self.tried.emit())

    def _make_buttons(self, column: QVBoxLayout) -> None:
        self.choose = Button("Choose File…", self.chosen.emit, kind="primary", icon="folder")
        self.paste = Button("Paste Text…", self.pasted.emit)
        self.try_sample = Button("Try with Sample", icon="down")
        self.samples = QMenu(self)
        self.samples.setToolTipsVisible(True)
        self.try_sample.setMenu(self.samples)
        column.addWidget(Row(None, self.choose, self.paste, self.try_sample, None))
        self.choose_folder = Button("Choose a Folder…", self.folder.emit, kind="link")
        self.choose_folder.setToolTip("A folder with a train file and, if you like, a valid file")
        self.from_hub = Button("From Hugging Face…", self.hub.emit, kind="link")
        self.from_hub.setToolTip("A dataset by its name, downloaded once and kept")
        column.addWidget(Row(None, self.choose_folder, self.from_hub, None))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """A card with a dashed border."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(tokens.color("strong"), 1.5, Qt.PenStyle.DashLine))
        painter.setBrush(tokens.color("card"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 12, 12)
        painter.end()

    def _redraw(self) -> None:
        self._mark.setPixmap(pixmap("download", "text2", 36))


class FormatExamples(Card):
    """Three files, each as it would be typed."""

    def __init__(self) -> None:
        super().__init__("What a good file looks like", spacing=10)
        self.head.addStretch(1)
        hint = "50 good rows beat 5,000 noisy ones. Most people start with 200 to 2,000."
        self.head.addWidget(Label(hint, "caption", "text2"))
        row = QHBoxLayout()
        row.setSpacing(12)
        for title, files, text in _EXAMPLES:
            inset = Card(role="inset", margin=12, spacing=6)
            inset.body.addWidget(Row(Label(title, "strong"), None))
            inset.body.addWidget(Label(files, "caption", "text2"))
            example = Label(text, "mono")
            example.setAccessibleName(f"Example of {title.lower()}")
            inset.body.addWidget(example)
            inset.body.addStretch(1)
            row.addWidget(inset, 1)
        self.body.addLayout(row)
