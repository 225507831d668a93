"""The form of a run's settings: the seven plain fields, the others and the engine folded away."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.models.fields import ADVANCED, ENGINE, ENGINE_WORDS, EVERY, PLAIN, STEPS, limits, sentence
from app.models.recipe import parse, value_of, written
from app.widgets.button import Button
from app.widgets.card import Card, Line, Row
from app.widgets.field_row import NARROW, WIDE, ChoiceField, FlagField, LinesField, TextField
from app.widgets.label import Label

if TYPE_CHECKING:
    from app.models.fields import Field
    from app.models.recipe import Place, Tree
    from app.widgets.field_row import FieldRow

_PROMPTS = 3
_EPOCHS = ("training", "epochs")


class ConfigForm(QWidget):
    """Every field by its place.

    Attributes:
        edited: a field has another value; carries (place, value).
        reset: a field is to be as the preset has it; carries its place.
    """

    edited = Signal(tuple)
    reset = Signal(tuple)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        self.rows: dict[Place, FieldRow] = {}
        self._lines: dict[Place, Line] = {}
        self._none = {field.place: field.none for field in ADVANCED if field.none}
        self.plain, self.advanced = Card(spacing=0), Card(spacing=0)
        self.engine = Card("How It Computes", spacing=0)
        self.engine.body.addSpacing(3)
        self.engine.body.addWidget(Label(ENGINE_WORDS, "caption", "text2", wrap=True))
        self.engine.body.addSpacing(6)
        for card, top, fields in (
            (self.plain, 6, (PLAIN[0], STEPS, *PLAIN[1:], EVERY)),
            (self.advanced, 6, ADVANCED),
            (self.engine, 14, ENGINE),
        ):
            card.body.setContentsMargins(16, top, 16, 6)
            for field in fields:
                self._add(card, field)
        self.toggle = Button("Advanced Settings", self._fold, kind="link", icon="right")
        column.addWidget(self.plain)
        self.reset_all = Button("Reset to Preset", kind="link", icon="redo")
        column.addWidget(Row(self.toggle, None, self.reset_all))
        column.addWidget(self.advanced)
        column.addWidget(self.engine)
        self.advanced.hide()
        self.engine.hide()

    def show_values(
        self, values: Tree, changed: set[Place], errors: dict[Place, str], idle: dict[Place, str]
    ) -> None:
        """Values, which of them differ from the preset, what is wrong with some, which are idle.

        One that is idle and yet another than the preset's can be changed, so that it can be put
        back.
        """
        self.reset_all.setVisible(bool(changed))
        counts_steps = value_of(values, STEPS.place) is not None
        self._set_visible(STEPS.place, counts_steps)
        self._set_visible(_EPOCHS, not counts_steps)
        self._set_visible(EVERY.place, EVERY.place not in idle or EVERY.place in changed)
        self._lines[EVERY.place].setVisible(not self.rows[EVERY.place].isHidden())
        for place, row in self.rows.items():
            value = value_of(values, place)
            self._show(row, None if value == self._none.get(place, "") else value)
            why = "" if place in changed else idle.get(place, "")
            row.say(changed=place in changed, error=errors.get(place, ""), idle=why)
        strength = self.rows["adapter", "alpha"]
        rank = value_of(values, ("adapter", "rank"))
        if isinstance(strength, TextField) and isinstance(rank, int):
            strength.line.setPlaceholderText(f"2 × rank = {2 * rank}")

    def unfold(self) -> None:
        """Show the others, and begin there."""
        if self.advanced.isHidden():
            self._fold()
        self.rows[ADVANCED[0].place].inputs()[0].setFocus()

    def fold_out_for(self, errors: dict[Place, str]) -> None:
        """What is wrong must be seen."""
        hidden = {field.place for field in (*ADVANCED, *ENGINE)}
        if self.advanced.isHidden() and hidden & errors.keys():
            self._fold()

    def _fold(self) -> None:
        shown = self.advanced.isHidden()
        self.advanced.setVisible(shown)
        self.engine.setVisible(shown)
        self.toggle.set_icon("down" if shown else "right")
        self.toggle.setAccessibleDescription("Shown" if shown else "Hidden")

    def _add(self, card: Card, field: Field) -> None:
        if card.body.count():
            self._lines[field.place] = Line()
            card.body.addWidget(self._lines[field.place])
        row = self.rows[field.place] = _make(field)
        row.edited.connect(partial(self._tell, field))
        row.reset.connect(partial(self.reset.emit, field.place))
        card.body.addWidget(row)

    def _tell(self, field: Field, raw: Any) -> None:
        value = parse(raw, field.kind) if field.kind in {"whole", "number"} else raw
        if value is None:  # where something must be there, that it is missing is said beside it
            value = field.none if field.empty else ""
        self.edited.emit((field.place, value))

    def _set_visible(self, place: Place, visible: bool) -> None:
        self.rows[place].setVisible(visible)
        if place in self._lines:
            self._lines[place].setVisible(False)

    @staticmethod
    def _show(row: FieldRow, value: Any) -> None:
        match row:
            case TextField():
                row.show_value(written(value))
            case ChoiceField():
                words = ", ".join(value) if isinstance(value, list) else str(value)
                row.show_value(value, words)
            case FlagField():
                row.show_value(value)
            case LinesField():
                row.show_value(value if isinstance(value, list) else [])
            case _:
                pass


def _make(field: Field) -> FieldRow:
    """The row of a field."""
    text, tip = sentence(field), limits(field)
    match field.kind:
        case "choice":
            width = WIDE if field in ENGINE else NARROW
            return ChoiceField(field.label, text, field.choices, tip=tip, width=width)
        case "flag":
            return FlagField(field.label, text, tip=tip)
        case "prompts":
            return LinesField(field.label, text, _PROMPTS, empty=field.empty)
        case _:
            return TextField(field.label, text, empty=field.empty, tip=tip)
