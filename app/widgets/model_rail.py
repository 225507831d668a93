"""The right side of Model: everything about the model that is looked at, and this machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QProgressBar, QVBoxLayout, QWidget

from app.widgets.banner import announce
from app.widgets.button import Button
from app.widgets.card import Card, Line, Row
from app.widgets.label import ElidedLabel, Label
from app.widgets.pill import Pill
from app.widgets.scroll import ScrollColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.widgets.button import Kind

_WIDTH = 296
# beside another button there is room for so many letters
_LONG = 14


class Act(msgspec.Struct, frozen=True):
    """A button: `key` is what `wanted` carries when it is pressed."""

    key: str
    text: str
    kind: str = ""
    icon: str = ""
    why: str = ""


class RailFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one model.

    Attributes:
        pill: (text, tone, icon) of whether it fits.
        words: the pill in sentences.
        facts: (what, value), one a line.
        share: how far its download or check is, 0 to 1; below 0 where that is not known, None where
            there is none.
        progress: (strong, plain) words under the bar.
        note: (tone, text) of what to know.
        acts: what can be done about it now; `more` what can be done at any time.
    """

    title: str
    line: str = ""
    pill: tuple[str, str, str] | None = None
    words: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    share: float | None = None
    progress: tuple[str, str] = ("", "")
    note: tuple[str, str] | None = None
    acts: tuple[Act, ...] = ()
    more: tuple[Act, ...] = ()


class ModelRail(ScrollColumn):
    """`wanted` carries the key of what was pressed."""

    wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__(spacing=12)
        self.setFixedWidth(_WIDTH)
        self.card, self.machine = Card(margin=16, spacing=8), MachineCard()
        self.facts: RailFacts | None = None
        self.title, self.line = ElidedLabel("", "headline"), ElidedLabel("", "caption", "text2")
        self.title.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.line.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.pill, self.words = Pill(), Label("", "caption", "text2", wrap=True)
        self._pill_row = Row(self.pill, None)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress of this model")
        self.strong, self.plain = (
            Label("", "strong", wrap=True), Label("", "caption", "text2", wrap=True)
        )  # fmt: skip
        self.note = Label("", "callout", "warn", wrap=True)
        self.acts, self.more = Acts(self.wanted.emit), Acts(self.wanted.emit)
        self.line_above, self.line_below = Line(), Line()
        self.table = FactTable()
        head = QVBoxLayout()
        head.setSpacing(1)
        head.addWidget(self.title)
        head.addWidget(self.line)
        self.card.body.addLayout(head)
        for part in (
            self._pill_row, self.words, self.bar, self.strong, self.plain, self.note,
            self.acts, self.line_above, self.table, self.line_below, self.more,
        ):  # fmt: skip
            self.card.body.addWidget(part)
        self.column.addWidget(self.card)
        self.column.addWidget(self.machine)
        self.column.addStretch(1)

    def show_facts(self, facts: RailFacts) -> None:
        """Another model, or another state of it."""
        if facts == self.facts:
            return
        before, self.facts = self.facts, facts
        self.title.setText(facts.title)
        self.line.setText(facts.line)
        self.line.setVisible(bool(facts.line))
        self._pill_row.setVisible(facts.pill is not None)
        if facts.pill is not None:
            self.pill.say(*facts.pill)
        _say(self.words, facts.words)
        self._show_progress(facts)
        self.note.setVisible(facts.note is not None)
        if facts.note is not None:
            self.note.set_tone(facts.note[0])
            self.note.setText(facts.note[1])
            # what happens to the model one is at; another one's note is read on the way to it
            if before is not None and before.title == facts.title and before.note != facts.note:
                announce(self.note, facts.note[1])
        self.acts.show_acts(facts.acts)
        self.table.show_facts(facts.facts)
        self.more.show_acts(facts.more)
        self.line_above.setVisible(bool(facts.facts))
        self.line_below.setVisible(bool(facts.more))
        self.card.setAccessibleName(f"{facts.title}. {facts.line}")

    def _show_progress(self, facts: RailFacts) -> None:
        self.bar.setVisible(facts.share is not None)
        if facts.share is not None:
            self.bar.setRange(0, 1000 if facts.share >= 0 else 0)
            self.bar.setValue(round(1000 * max(0.0, facts.share)))
        _say(self.strong, facts.progress[0])
        _say(self.plain, facts.progress[1])


class Acts(QWidget):
    """Buttons: plain ones beside each other, links one under the other."""

    def __init__(self, act: Callable[[str], object]) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._act, self._acts = act, tuple[Act, ...]()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self.buttons: dict[str, Button] = {}

    def show_acts(self, acts: Sequence[Act]) -> None:
        """These; buttons that stay are the same widgets, and keep the focus."""
        self.setVisible(bool(acts))
        if tuple(acts) == self._acts:
            return
        self._acts = tuple(acts)
        links = any(one.kind == "link" for one in acts)
        self._grid.setVerticalSpacing(0 if links else 6)
        wanted = {one.key: one for one in acts}
        for key in [key for key in self.buttons if key not in wanted]:
            gone = self.buttons.pop(key)
            gone.hide()
            gone.deleteLater()
        while self._grid.count():
            self._grid.takeAt(0)
        at = 0
        for one in acts:
            button = self._button(one)
            wide = one.kind != "link" and (len(one.text) > _LONG or _alone(one, acts))
            at += at % 2 if wide else 0
            self._grid.addWidget(button, at // 2, at % 2, 1, 2 if wide else 1, *_aligned(one))
            at += 2 if wide else 1
        self._grid.setColumnStretch(0, 1)
        self._grid.setColumnStretch(1, 1)

    def _button(self, one: Act) -> Button:
        known = self.buttons.get(one.key)
        if known is not None and known.property("kind") == one.kind:
            known.say(one.text)
        else:
            if known is not None:
                known.hide()
                known.deleteLater()
            kind: Kind = one.kind  # type: ignore[assignment]
            press = partial(self._act, one.key)
            known = Button(one.text, press, kind=kind, icon=one.icon, parent=self)
            self.buttons[one.key] = known
        known.setToolTip(one.why)
        known.setAccessibleDescription(one.why)
        known.show()
        return known


def _alone(one: Act, acts: Sequence[Act]) -> bool:
    plain = [act for act in acts if len(act.text) <= _LONG]
    return len(plain) == 1 or (len(plain) % 2 == 1 and one is plain[-1])


def _aligned(one: Act) -> tuple[Qt.AlignmentFlag, ...]:
    return (Qt.AlignmentFlag.AlignLeft,) if one.kind == "link" else ()


class FactTable(QWidget):
    """What, and its value, a line each; long values take several."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(1, 1)
        self._rows: list[tuple[Label, Label]] = []

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """These."""
        while len(self._rows) < len(facts):
            what, value = Label("", "caption", "text2"), Label("", "caption", wrap=True)
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(what, len(self._rows), 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(value, len(self._rows), 1)
            self._rows.append((what, value))
        for at, (what, value) in enumerate(self._rows):
            shown = at < len(facts)
            what.setVisible(shown)
            value.setVisible(shown)
            if shown:
                what.setText(facts[at][0])
                value.setText(facts[at][1])
                value.setAccessibleName(f"{facts[at][0]}: {facts[at][1]}")
        self.setVisible(bool(facts))


class MachineCard(Card):
    """This machine, and what of it training may use."""

    def __init__(self) -> None:
        super().__init__(margin=16, spacing=4)
        self.title, self.text = (
            ElidedLabel("", "strong"), Label("", "caption", "text2", wrap=True)
        )  # fmt: skip
        self.title.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.pill = Pill()
        for part in (self.title, self.text, Row(self.pill, None)):
            self.body.addWidget(part)

    def say(self, title: str, text: str, pill: tuple[str, str, str]) -> None:
        """What it is."""
        self.title.setText(title)
        self.text.setText(text)
        self.pill.say(*pill)
        self.setAccessibleName(f"{title}. {text}")


def _say(label: Label, text: str) -> None:
    label.setText(text)
    label.setVisible(bool(text))
