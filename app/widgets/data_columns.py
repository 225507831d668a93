"""Which column of the person's own is which field: a form, with the first rows as they would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QGridLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
)

from app.widgets.button import Button, Segments
from app.widgets.card import Card, Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# field -> (title, what it is)
FIELDS = {
    "prompt": ("Question", "what the model reads"), "completion": ("Answer", "what it learns"),
    "input": ("Context", "what it is asked about; may be left out"),
    "system": ("System", "how it shall behave; may be left out"),
    "text": ("Text", "learnt word by word"),
    "messages": ("Conversation", "a list of turns with role and content"),
}  # fmt: skip
KINDS = {
    "answers": ("Question + Answer", ("prompt", "completion", "input", "system")),
    "texts": ("Text", ("text",)),
    "turns": ("Conversation", ("messages",)),
}
_OPTIONAL, _NONE, _PREVIEW = {"input", "system"}, "None", 5
Columns = list[dict[str, str]]


class ColumnsForm(Card):
    """Emits `chosen` with field -> column, empty to let the names decide; `closed` to leave it."""

    chosen = Signal(object)
    closed = Signal()

    def __init__(self) -> None:
        super().__init__("Which column is which?", spacing=8)
        self._columns: Columns = []
        self._rows: Sequence[Mapping[str, Any]] = ()
        self.kind = Segments(
            ((key, kind[0]) for key, kind in KINDS.items()), self._switch, name="Rows are"
        )
        self._shown = "answers"
        self.head.addStretch(1)
        self.head.addWidget(self.kind)
        words = "Your file stays as it is: this only says how its rows are read."
        self.body.addWidget(Label(words, "callout", "text2"))
        self.boxes, self._examples = dict[str, QComboBox](), dict[str, ElidedLabel]()
        self._titles: dict[str, Label] = {}
        self.body.addLayout(self._make_fields())
        self.body.addWidget(Label("The first rows would be", "strong"))
        self.body.addWidget(self._make_preview(), 1)
        self._why = ElidedLabel("", "callout", "text2")
        self.use = Button("Use These Columns", self._use)
        self.forget = Button("Let the Names Decide", lambda: self.chosen.emit({}), kind="link")
        self.close_button = Button("Cancel", self.closed.emit)
        self.body.addWidget(Row(self._why, self.forget, self.close_button, self.use))

    def offer(
        self,
        columns: Columns,
        fields: Mapping[str, str],
        rows: Sequence[Mapping[str, Any]],
        *,
        saved: bool,
    ) -> None:
        """The columns there are with an example each, what is suggested or was said, first rows."""
        self._columns, self._rows = columns, rows
        for field, box in self.boxes.items():
            box.blockSignals(True)
            box.clear()
            box.addItem(_NONE, "")
            for column in columns:
                box.addItem(column["name"], column["name"])
            box.setCurrentIndex(max(0, box.findData(fields.get(field, ""))))
            box.blockSignals(False)
        self.forget.setVisible(saved)
        kinds = {key for key, (_, names) in KINDS.items() if names[0] in fields}
        self._switch(next((key for key in KINDS if key in kinds), "answers"))

    def fields(self) -> dict[str, str]:
        """What is chosen now: field -> column."""
        names = KINDS[self._shown][1]
        chosen = {name: str(self.boxes[name].currentData() or "") for name in names}
        return {name: column for name, column in chosen.items() if column}

    def _switch(self, kind: str) -> None:
        self._shown = kind
        self.kind.choose(kind)
        names = KINDS[kind][1]
        for name, box in self.boxes.items():
            for widget in (self._titles[name], box, self._examples[name]):
                widget.setVisible(name in names)
        self._show()

    def _make_fields(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(2, 1)
        for at, (field, (title, meaning)) in enumerate(FIELDS.items()):
            box = QComboBox()
            box.setFixedWidth(200)
            box.setAccessibleName(f"Column of the {title.lower()}")
            box.setToolTip(f"{title}: {meaning}")
            box.currentIndexChanged.connect(self._show)
            self.boxes[field], self._titles[field] = box, Label(title, "callout", "text2")
            self._examples[field] = ElidedLabel("", "callout", "text2")
            for column, widget in enumerate((self._titles[field], box, self._examples[field])):
                grid.addWidget(widget, at, column)
        return grid

    def _make_preview(self) -> QTableWidget:
        self.preview = table = QTableWidget(0, 0)
        table.setAccessibleName("First rows as they would be read")
        table.setTabKeyNavigation(False)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(30)
        table.horizontalHeader().setHighlightSections(False)
        table.horizontalHeader().setAccessibleName("Fields")
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        table.horizontalHeader().setDefaultAlignment(
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        )
        table.setMinimumHeight(96)
        return table

    def _show(self, _at: int = 0) -> None:
        """Examples, first rows, and whether it can be used."""
        chosen, examples = self.fields(), {c["name"]: c["example"] for c in self._columns}
        for name, label in self._examples.items():
            column = chosen.get(name, "")
            label.setText(
                f"such as “{examples[column]}”" if column in examples else FIELDS[name][1]
            )
        self._fill(chosen, examples)
        needed = [name for name in KINDS[self._shown][1] if name not in _OPTIONAL]
        missing = [FIELDS[name][0].lower() for name in needed if name not in chosen]
        twice = len(set(chosen.values())) < len(chosen)
        why = f"No column for the {' and the '.join(missing)} yet" if missing else ""
        self._why.setText(why or ("One column is chosen twice" if twice else ""))
        self.use.setEnabled(not missing and not twice)

    def _fill(self, chosen: Mapping[str, str], examples: Mapping[str, str]) -> None:
        rows = [row["values"] for row in self._rows[:_PREVIEW]]
        wanted = set(chosen.values())
        # rows that were read under other names do not have the columns: the examples do
        if not any(wanted & row.keys() for row in rows):
            rows = [examples]
        self.preview.setColumnCount(len(chosen))
        self.preview.setRowCount(len(rows) if chosen else 0)
        self.preview.setHorizontalHeaderLabels([FIELDS[name][0] for name in chosen])
        for at, row in enumerate(rows):
            for place, column in enumerate(chosen.values()):
                text = str(row.get(column, ""))
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                self.preview.setItem(at, place, item)

    def _use(self) -> None:
        self.chosen.emit(self.fields())
