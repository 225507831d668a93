"""The lines around a fault in a file, with a mark below the place."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QTextBlockFormat, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from app.theme import font, theme
from app.widgets.card import Card

Lines = tuple[tuple[int, str], ...]


class ExcerptText(QTextEdit):
    """Lines with their numbers, as high as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setTabChangesFocus(True)
        self.setProperty("role", "plain")
        self.setFont(font("mono"))
        self.setLineWrapMode(QTextEdit.LineWrapMode.NoWrap)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("The lines around it")
        self._lines: Lines = ()
        self._line, self._mark = 0, -1
        theme.changed.connect(self._redraw)

    def show_lines(self, lines: Lines, line: int, mark: int) -> None:
        """`mark` is the place in the line numbered `line`, -1 for none."""
        self._lines, self._line, self._mark = lines, line, mark
        self._redraw()
        rows = len(lines) + (mark >= 0)
        self.setFixedHeight(rows * self.fontMetrics().lineSpacing() + 18)

    def _redraw(self) -> None:
        self.clear()
        cursor, tokens = self.textCursor(), theme.tokens
        wide = len(f"{max((number for number, _ in self._lines), default=0):,}")
        for number, text in self._lines:
            hot = number == self._line
            self._add(cursor, f"{number:>{wide},}  {text}", "text" if hot else "text2", hot=hot)
            if hot and self._mark >= 0:
                pointer = " " * (wide + 2 + self._mark) + "▲"
                self._add(cursor, pointer, "bad", hot=True)
        cursor.deletePreviousChar()
        self.document().setDocumentMargin(4)
        self.moveCursor(QTextCursor.MoveOperation.Start)
        self.setStyleSheet(f"color: {tokens.text};")

    def _add(self, cursor: QTextCursor, text: str, tone: str, *, hot: bool) -> None:
        block, look = QTextBlockFormat(), QTextCharFormat()
        if hot:
            block.setBackground(theme.tokens.color("bad_soft"))
        look.setForeground(theme.tokens.color(tone))
        cursor.setBlockFormat(block)
        cursor.insertText(text, look)
        cursor.insertBlock(QTextBlockFormat())


class ExcerptCard(Card):
    """The same under a title; hidden until there is something to show."""

    def __init__(self) -> None:
        super().__init__("–", spacing=8)
        self.text = ExcerptText()
        self.body.addWidget(self.text)
        self.hide()

    def show_lines(self, title: str, lines: Lines, line: int, mark: int) -> None:
        """Lines with their numbers; `mark` is the place in the line `line`, -1 for none."""
        self.title.setText(title)
        self.text.show_lines(lines, line, mark)
        self.show()
