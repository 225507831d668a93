"""An export on its way, step by step; and what came of it: checked, figures, what to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDrag, QMouseEvent
from PySide6.QtWidgets import QApplication, QGridLayout, QLabel, QProgressBar, QWidget

from app.icons import pixmap
from app.theme import theme
from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import ElidedLabel, Label
from app.widgets.pill import Pill

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Mark = Literal["done", "doing", "todo"]
_MARKS = {"done": ("check", "ok"), "doing": ("play", "accent"), "todo": ("clock", "text3")}
_SAID = {"done": "done", "doing": "in work", "todo": "to do"}


class MakingFacts(msgspec.Struct, frozen=True):
    """What a card shows.

    Attributes:
        steps: (words, mark), while it is made.
        share: of the step in work, None where that is not known.
        pill: word, tone, icon.
        lines: sentences and figures.
        size: of what was made.
        file: what can be dragged out of the window; empty where there is nothing.
    """

    title: str
    pill: tuple[str, str, str]
    steps: tuple[tuple[str, Mark], ...] = ()
    share: float | None = None
    lines: tuple[str, ...] = ()
    size: str = ""
    file: str = ""


class MakingCard(Card):
    """One export; `acts` are the buttons under it, by their text."""

    def __init__(
        self, facts: MakingFacts, acts: Sequence[tuple[str, Callable[[], object]]]
    ) -> None:
        super().__init__(margin=14, spacing=6, role="card")
        self.title, self.pill = ElidedLabel(facts.title, "strong"), Pill()
        self.weight = Label("", "callout", "text2")
        self.body.addWidget(Row(self.title, self.weight))
        self.body.addWidget(Row(self.pill, None))
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName(f"Progress of {facts.title}")
        self.body.addWidget(self.bar)
        self._steps = QGridLayout()
        self._steps.setVerticalSpacing(5)
        self._steps.setColumnStretch(1, 1)
        self.body.addLayout(self._steps)
        self._marks: list[tuple[QLabel, Label]] = []
        self.lines = Label("", "callout", "text2", wrap=True)
        self.body.addWidget(self.lines)
        self.buttons = [
            Button(text, act, kind="link", name=f"{text}: {facts.title}") for text, act in acts
        ]
        if facts.file:
            self.buttons.insert(0, DragHandle(facts.file, facts.title))
        if self.buttons:
            self.body.addWidget(Flow(self.buttons))
        theme.changed.connect(self._redraw)
        self.show_facts(facts)

    def show_facts(self, facts: MakingFacts) -> None:
        """How far it is."""
        self._facts = facts
        self.pill.say(*facts.pill)
        self.weight.setText(facts.size)
        self.bar.setVisible(bool(facts.steps))
        self.bar.setRange(0, 0 if facts.share is None else 1000)
        self.bar.setValue(round(1000 * (facts.share or 0)))
        self.lines.setText("\n".join(facts.lines))
        self.lines.setVisible(bool(facts.lines))
        while len(self._marks) < len(facts.steps):
            mark, words = QLabel(), Label("", "callout")
            self._steps.addWidget(mark, len(self._marks), 0)
            self._steps.addWidget(words, len(self._marks), 1)
            self._marks.append((mark, words))
        self._redraw()

    def _redraw(self) -> None:
        for at, (mark, words) in enumerate(self._marks):
            shown = at < len(self._facts.steps)
            mark.setVisible(shown)
            words.setVisible(shown)
            if shown:
                text, state = self._facts.steps[at]
                name, tone = _MARKS[state]
                mark.setPixmap(pixmap(name, tone, 14))
                words.setText(text)
                words.set_tone("text" if state == "doing" else "text2")
                words.setAccessibleName(f"{text}, {_SAID[state]}")


class Flow(QWidget):
    """Buttons in lines of two."""

    def __init__(self, buttons: Sequence[QWidget]) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(4)
        grid.setVerticalSpacing(0)
        for at, button in enumerate(buttons):
            grid.addWidget(button, at // 2, at % 2, Qt.AlignmentFlag.AlignLeft)
        grid.setColumnStretch(1, 1)


class DragHandle(Button):
    """Can be dragged out of the window, to a folder or another app; pressed, it copies the path."""

    def __init__(self, file: str, title: str) -> None:
        name = f"Drag or copy: {title}"
        super().__init__("Drag Out", self._copy, kind="link", icon="file", name=name)
        self.setToolTip("Drag it to a folder or another app. Pressed, it is copied as a file.")
        self._file, self._from = file, QPoint()

    def files(self) -> QMimeData:
        """What is dragged."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(self._file)])
        return data

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A drag may begin here."""
        self._from = event.position().toPoint()
        super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Far enough: it is a drag."""
        far = (event.position().toPoint() - self._from).manhattanLength()
        held = event.buttons() & Qt.MouseButton.LeftButton
        if held and far >= QApplication.startDragDistance():
            drag = QDrag(self)
            drag.setMimeData(self.files())
            drag.setPixmap(pixmap("file", "accent", 32))
            self.setDown(False)
            drag.exec(Qt.DropAction.CopyAction)

    def _copy(self) -> None:
        QApplication.clipboard().setMimeData(self.files())
