"""What is known of the chosen model and of this machine's speed, asked off the window's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.models.offers import fit_base
from app.models.outlook import Given
from app.project import build_run_config
from mlx_lora.batches import rows_of
from mlx_lora.errors import UserError
from mlx_lora.forecast import base_of
from mlx_lora.models.catalog import find_entry
from mlx_lora.models.shelf import look_up
from mlx_lora.pace import assumed_speed, measured_speed

if TYPE_CHECKING:
    from app.desk import Desk
    from mlx_lora.forecast import Base
    from mlx_lora.pace import Speed


class Foresight(QObject):
    """Follows the project's model.

    Attributes:
        changed: something else is known.
        lost: the model cannot be read; carries a `UserError`.
        base: the model's sizes, None until they are known.
    """

    changed = Signal()
    lost = Signal(UserError)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._source = desk, ""
        self.base: Base | None = None
        self._speed: Speed = assumed_speed(desk.machine)

    def follow(self) -> None:
        """Ask again where the project has another model by now."""
        model = self._desk.chosen.model
        if model is not None and model.source != self._source:
            self.ask()

    def ask(self) -> None:
        """Read the model's sizes and the speed of earlier runs; a suggested one's are known."""
        model = self._desk.chosen.model
        if model is None:
            return
        source = model.source
        if source != self._source:
            known = find_entry(source)
            self.base = base_of(known) if known else None
        self._source = source
        self._desk.tasks.run(
            lambda: base_of(look_up(source)),
            lambda base: self._take(source, base),
            lambda error: self._lose(source, error),
        )

    def given(self) -> Given | None:
        """What does not change while a person configures; None while it is not known."""
        if self.base is None:
            return None
        desk = self._desk
        facts = desk.chosen.data.facts if desk.chosen.data else {}
        machine = desk.machine
        return Given(
            self.base, rows_of(facts), self._speed, machine.metal, desk.memory_limit, machine.memory
        )

    def needed(self, preset: str) -> dict[str, dict[str, Any]]:
        """What a preset leaves to be set for the model to fit."""
        if self.base is None or preset == "demo":
            return {}
        machine, limit = self._desk.machine, self._desk.memory_limit
        fit = fit_base(self.base, preset, metal=machine.metal, limit=limit, memory=machine.memory)
        return fit.settings

    def _take(self, source: str, base: Base | None) -> None:
        if source != self._source or base is None:
            return
        self.base = base
        self.changed.emit()
        try:
            config = build_run_config(self._desk.chosen)
        except UserError:
            return
        runs, shape = self._desk.runs, base.shape
        self._desk.tasks.run(
            lambda: measured_speed(runs.list(), config, shape), self._take_speed, self._no_speed
        )

    def _take_speed(self, speed: Speed | None) -> None:
        self._speed = speed or assumed_speed(self._desk.machine)
        self.changed.emit()

    def _no_speed(self, _error: UserError) -> None:
        """Runs that cannot be read are no reason to complain here."""

    def _lose(self, source: str, error: UserError) -> None:
        if source == self._source:
            self.lost.emit(error)
