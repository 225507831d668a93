"""How a run computes, in sentences that can be read with the keyboard and copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QTextBlockFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from app.theme import font

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = 2


class EngineView(QTextEdit):
    """One sentence a paragraph."""

    def __init__(self) -> None:
        super().__init__(readOnly=True)
        self.setProperty("role", "plain")
        self.setAccessibleName("How it computes")
        self.setTabChangesFocus(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFont(font("callout"))
        self.document().setDocumentMargin(0)
        self._shown: tuple[str, ...] = ()

    def show_sentences(self, sentences: Sequence[str]) -> None:
        """Other ones; where they are the same, whoever reads them stays where they are."""
        if tuple(sentences) == self._shown:
            return
        self._shown = tuple(sentences)
        self.setPlainText("\n".join(sentences))
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        apart = QTextBlockFormat()
        apart.setBottomMargin(_GAP)
        cursor.mergeBlockFormat(apart)
