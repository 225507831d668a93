"""Which state of the adapter is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QMenu

from app.widgets.button import Button

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.models.checkpoint_list import CheckpointChoice


class CheckpointPicker(Button):
    """A button that names the chosen state, with a menu of all; `choose` gets its step."""

    def __init__(self, choose: Callable[[int | None], object]) -> None:
        super().__init__("Kept adapter", icon="clock")
        self._choose = choose
        self._offered: tuple[Sequence[CheckpointChoice], int | None] = ((), None)
        self._menu = QMenu(self)
        self.setMenu(self._menu)
        self.setToolTip("Which state of the adapter is heard")

    def offer(self, choices: Sequence[CheckpointChoice], chosen: int | None) -> None:
        """The states there are, and which one holds."""
        if self._offered == (choices, chosen):
            return
        self._offered = (choices, chosen)
        self._menu.clear()
        group = QActionGroup(self._menu)
        self.setEnabled(bool(choices))
        for choice in choices:
            notes = [f"loss {choice.loss:.3f}"] if choice.loss is not None else []
            notes += ["best"] if choice.best else []
            note = " · ".join(notes)
            action = self._menu.addAction(f"{choice.title}\t{note}" if note else choice.title)
            action.setCheckable(True)
            action.setChecked(choice.step == chosen)
            group.addAction(action)
            action.triggered.connect(lambda _=False, step=choice.step: self._choose(step))
            if choice.step == chosen:
                self.setText(choice.title)
                self.setAccessibleName(f"Checkpoint: {choice.title}")
