"""How to begin with data: a place to drop a file, buttons, and what a good file looks like."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label

_VERSE = (
    "ROMEO:\nBut, soft! what light\nthrough yonder window\nbreaks? It is the east,\n"
    "and Juliet is the sun."
)
_TURNS = (
    '{"messages": [\n {"role": "user",\n  "content": "Who knocks?"},\n'
    ' {"role": "assistant",\n  "content": "A friend."}]}'
)
_EXAMPLES = (
    ("Plain text", ".txt or .md", _VERSE),
    (
        "Question + answer",
        ".jsonl, a line a row; wrapped here",
        '{"prompt": "Who is there?",\n "completion": "A friend."}',
    ),
    ("Conversation", ".jsonl, a line a row; wrapped here", _TURNS),
)


class DropArea(QFrame):
    """A dashed frame with buttons in it; dropping itself works on the whole window."""

    chosen, folder, sample, pasted, tried = Signal(), Signal(), Signal(), Signal(), Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(226)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 16, 24, 16)
        column.setSpacing(4)
        column.addStretch(1)
        self._mark = QLabel()
        column.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignHCenter)
        middle = Qt.AlignmentFlag.AlignHCenter
        column.addWidget(Label("Drop your text here", "title"), 0, middle)
        words = "A text file or JSON rows. It stays where it is, and nothing leaves this computer."
        column.addWidget(Label(words, tone="text2"), 0, middle)
        column.addSpacing(10)
        self.choose = Button("Choose File…", self.chosen.emit, kind="primary", icon="folder")
        self.use_sample = Button("Use Sample Data", self.sample.emit)
        self.paste = Button("Paste Text…", self.pasted.emit)
        column.addWidget(Row(None, self.choose, self.use_sample, self.paste, None))
        self.choose_folder = Button("Choose a Folder…", self.folder.emit, kind="link")
        self.choose_folder.setToolTip("A folder with a train file and, if you like, a valid file")
        self.try_sample = Button("Try with Sample", self.tried.emit, kind="link")
        self.try_sample.setToolTip("Trains the bundled model on Shakespeare, in two minutes")
        column.addWidget(Row(None, self.choose_folder, self.try_sample, None))
        column.addStretch(1)
        theme.changed.connect(self._redraw)
        self._redraw()

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
