"""What a person decides on the Dataset page, as settings of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Signal

from mlx_lora.config import PRESETS, AdapterConfig, DataConfig, merge

if TYPE_CHECKING:
    from app.desk import Desk
    from app.widgets.data_view import DataView

# they belong to one file: another one begins without them
_OF_THE_FILE = ("columns", "subset", "split")


class DatasetChoices(QObject):
    """Writes what the widgets of the view say; `mapped` when columns were chosen."""

    mapped = Signal()

    def __init__(self, view: DataView, desk: Desk) -> None:
        super().__init__(view)
        self._desk = desk
        rail, long_rows = view.rail, view.figures.long_rows
        rail.fraction.connect(lambda share: self.set("val_fraction", share))
        rail.train_on.connect(lambda choice: self.set("train_on", choice))
        rail.format_card.template.connect(lambda name: self.set("template", name))
        rail.size_card.rank.connect(self._set_rank)
        long_rows.chosen.connect(lambda choice: self.set("long_rows", choice))
        long_rows.overlap.connect(lambda tokens: self.set("overlap", tokens))
        long_rows.limit.connect(lambda tokens: self.set("max_length", tokens))
        view.columns.chosen.connect(self._set_columns)

    def settings(self) -> DataConfig:
        """What holds now; the source is not in it, nor a value that is being typed elsewhere."""
        chosen = merge(PRESETS[self._desk.chosen.preset], self._desk.chosen.settings)
        given = chosen.get("data", {}).items()
        return DataConfig(source="", **{name: value for name, value in given if _fits(name, value)})

    def rank(self) -> int:
        """Of the adapter, as it is set; 0 where what is set is no number."""
        chosen = merge(PRESETS[self._desk.chosen.preset], self._desk.chosen.settings)
        rank = chosen.get("adapter", {}).get("rank", AdapterConfig().rank)
        return rank if isinstance(rank, int) else 0

    def set(self, name: str, value: object) -> None:
        """One setting of the data; a dict takes the place of the one before."""
        self._desk.project.update(settings=self._with("data", name, value))

    def for_another_file(self, part: dict[str, Any]) -> dict[str, Any]:
        """The settings without what belongs to one file; `part` is what belongs to the new one."""
        settings = self._desk.chosen.settings
        data = {k: v for k, v in settings.get("data", {}).items() if k not in _OF_THE_FILE}
        return {**settings, "data": {**data, **part}} if data or part else _without_data(settings)

    def for_a_copy(self) -> dict[str, Any]:
        """The settings for a cleaned copy: its rows have the same columns."""
        columns = self._desk.chosen.settings.get("data", {}).get("columns")
        return self.for_another_file({"columns": columns} if columns else {})

    def _with(self, group: str, name: str, value: object) -> dict[str, Any]:
        settings = self._desk.chosen.settings
        return {**settings, group: {**settings.get(group, {}), name: value}}

    def _set_rank(self, rank: int) -> None:
        self._desk.project.update(settings=self._with("adapter", "rank", rank))

    def _set_columns(self, columns: dict[str, str]) -> None:
        self.mapped.emit()
        self.set("columns", columns)


def _fits(name: str, value: object) -> bool:
    """Whether a setting of the data holds a value of its kind."""
    try:
        msgspec.convert({"source": "", name: value}, DataConfig)
    except msgspec.ValidationError:
        return False
    return name != "source"


def _without_data(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: group for name, group in settings.items() if name != "data"}
