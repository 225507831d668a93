"""The lines around a fault in a file, with a mark below the place."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QTextBlockFormat, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from app.theme import font, theme
from app.widgets.card import Card


class ExcerptCard(Card):
    """Hidden until there is something to show."""

    def __init__(self) -> None:
        super().__init__("\u2013", spacing=8)
        self.text = QTextEdit(readOnly=True)
        self.text.setTabChangesFocus(True)
        self.text.setProperty("role", "plain")
        self.text.setFont(font("mono"))
        self.text.setLineWrapMode(QTextEdit.LineWrapMode.NoWrap)
        self.text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text.setAccessibleName("The lines around it")
        self.body.addWidget(self.text)
        self._lines: tuple[tuple[int, str], ...] = ()
        self._line, self._mark = 0, -1
        theme.changed.connect(self._redraw)
        self.hide()

    def show_lines(
        self, title: str, lines: tuple[tuple[int, str], ...], line: int, mark: int
    ) -> None:
        """Lines with their numbers; `mark` is the place in the line `line`, -1 for none."""
        self.title.setText(title)
        self._lines, self._line, self._mark = lines, line, mark
        self._redraw()
        rows = len(lines) + (mark >= 0)
        self.text.setFixedHeight(rows * self.text.fontMetrics().lineSpacing() + 18)
        self.show()

    def _redraw(self) -> None:
        self.text.clear()
        cursor, tokens = self.text.textCursor(), theme.tokens
        wide = len(f"{max((number for number, _ in self._lines), default=0):,}")
        for number, text in self._lines:
            hot = number == self._line
            self._add(cursor, f"{number:>{wide},}  {text}", "text" if hot else "text2", hot=hot)
            if hot and self._mark >= 0:
                pointer = " " * (wide + 2 + self._mark) + "\u25b2"
                self._add(cursor, pointer, "bad", hot=True)
        cursor.deletePreviousChar()
        self.text.document().setDocumentMargin(4)
        self.text.moveCursor(QTextCursor.MoveOperation.Start)
        self.text.setStyleSheet(f"color: {tokens.text};")

    def _add(self, cursor: QTextCursor, text: str, tone: str, *, hot: bool) -> None:
        block, look = QTextBlockFormat(), QTextCharFormat()
        if hot:
            block.setBackground(theme.tokens.color("bad_soft"))
        look.setForeground(theme.tokens.color(tone))
        cursor.setBlockFormat(block)
        cursor.insertText(text, look)
        cursor.insertBlock(QTextBlockFormat())
