"""Which words two texts do not share. A pure function, and how its result looks."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

import msgspec
from PySide6.QtGui import QTextCharFormat, QTextCursor

from app.theme import theme

if TYPE_CHECKING:
    from PySide6.QtWidgets import QPlainTextEdit

Kind = Literal["same", "removed", "added"]
# a word or a sign with the space behind it; space at the very beginning stands alone
_WORDS = re.compile(r"(?:\w+(?:['’]\w+)*|[^\w\s])\s*|\s+")


class Span(msgspec.Struct, frozen=True):
    """A stretch of a text; all spans of a text together are the text, letter for letter."""

    text: str
    kind: Kind = "same"


def diff_words(before: str, after: str) -> tuple[list[Span], list[Span]]:
    """Spans of both texts: `removed` is only in the first, `added` only in the second.

    Compared word by word, punctuation for itself; space alone never differs.
    """
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    left: list[Span] = []
    right: list[Span] = []
    matcher = SequenceMatcher(
        None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False
    )
    for what, a, b, c, d in matcher.get_opcodes():
        same = what == "equal"
        _add(left, old[a:b], "same" if same else "removed")
        _add(right, new[c:d], "same" if same else "added")
    return left, right


def show_spans(edit: QPlainTextEdit, spans: list[Span]) -> None:
    """Put a text into a view: removed words struck out, added ones underlined, in colour too."""
    edit.clear()
    cursor = QTextCursor(edit.document())
    cursor.beginEditBlock()
    for span in spans:
        cursor.insertText(span.text, _format(span.kind))
    cursor.endEditBlock()


def _add(spans: list[Span], words: list[str], kind: Kind) -> None:
    """Space at the ends of a changed stretch is nobody's change, and is not underlined."""
    text = "".join(words)
    if not text:
        return
    inner = text.strip()
    if kind == "same" or not inner:
        _append(spans, Span(text))
        return
    start = text.index(inner)
    _append(spans, Span(text[:start]))
    _append(spans, Span(inner, kind))
    _append(spans, Span(text[start + len(inner) :]))


def _append(spans: list[Span], span: Span) -> None:
    if not span.text:
        return
    if spans and spans[-1].kind == span.kind:
        spans[-1] = Span(spans[-1].text + span.text, span.kind)
    else:
        spans.append(span)


def _format(kind: Kind) -> QTextCharFormat:
    made = QTextCharFormat()
    if kind == "removed":
        made.setFontStrikeOut(True)
        made.setForeground(theme.tokens.color("bad"))
        made.setBackground(theme.tokens.color("bad_soft"))
    elif kind == "added":
        made.setFontUnderline(True)
        made.setForeground(theme.tokens.color("ok"))
        made.setBackground(theme.tokens.color("ok_soft"))
    return made
