"""The first rows of a dataset as a table: number, the fields the person wrote, tokens."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt

from app.theme import font, theme

_Index = QModelIndex | QPersistentModelIndex
_TITLES = {"user": "First question", "assistant": "Last answer", "input": "Input"}
_REASONS = {
    "empty": "left out: no text or no answer",
    "no_target": "left out: nothing to learn within the limit",
    "dropped": "left out: longer than the limit", "broken": "cannot be read",
    "unknown": "its fields are not understood", "refused": "the model’s chat form refuses it",
}  # fmt: skip
# those that are in the way of training, in a word
_FAULTS = {"broken": "broken", "unknown": "unclear", "refused": "refused"}
_NOWHERE = QModelIndex()


class DatasetRows(QAbstractTableModel):
    """Rows of `Found.rows`; what is cut or left out is said in words and in colour."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.fields: list[str] = []

    def show(self, rows: list[dict[str, Any]], fields: list[str]) -> None:
        """Other rows."""
        self.beginResetModel()
        self.rows, self.fields = rows, fields
        self.endResetModel()

    def row_of(self, number: int) -> int:
        """Where the row with this number is, -1 where it is not shown."""
        return next((at for at, row in enumerate(self.rows) if row["row"] == number), -1)

    def rowCount(self, parent: _Index = _NOWHERE) -> int:
        """Rows shown."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = _NOWHERE) -> int:
        """Number, fields, tokens."""
        return 0 if parent.isValid() else len(self.fields) + 2

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """The names of the fields."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        last = section == len(self.fields) + 1
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if last else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        if section == 0:
            return "Row"
        name = "tokens" if last else self.fields[section - 1]
        return _TITLES.get(name, name.capitalize())

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A cell."""
        row, column = self.rows[index.row()], index.column()
        last = column == len(self.fields) + 1
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._text(row, column, last=last)
            case Qt.ItemDataRole.ToolTipRole:
                return self._explain(row, column, last=last)
            case Qt.ItemDataRole.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignRight if last else Qt.AlignmentFlag.AlignLeft
                return side | Qt.AlignmentFlag.AlignVCenter
            case Qt.ItemDataRole.ForegroundRole:
                return self._color(row, column, last=last)
            case Qt.ItemDataRole.FontRole if last or column == 0:
                return font("body", tabular=True)
        return None

    def _text(self, row: dict[str, Any], column: int, *, last: bool) -> str:
        if column == 0:
            return f"{row['row']:,}"
        if not last:
            return str(row["values"].get(self.fields[column - 1], ""))
        if row["left_out"]:
            return _FAULTS.get(str(row["left_out"]), "left out")
        return f"{row['tokens']:,}{' · cut' if row['cut'] else ''}"

    def _explain(self, row: dict[str, Any], column: int, *, last: bool) -> str:
        if not last:
            return self._text(row, column, last=False)
        if row["left_out"]:
            reason = str(row["left_out"])
            if row.get("why"):
                return str(row["why"])
            return _REASONS.get(reason, reason).capitalize()
        if row["cut"]:
            return f"{row['cut']:,} tokens do not fit and are cut off"
        return f"{row['tokens']:,} tokens"

    def _color(self, row: dict[str, Any], column: int, *, last: bool) -> Any:
        if last and row["left_out"] in _FAULTS:
            return theme.tokens.color("bad")
        if last and (row["cut"] or row["left_out"]):
            return theme.tokens.color("warn")
        return theme.tokens.color("text2") if column == 0 or row["left_out"] else None
