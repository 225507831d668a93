"""Which states of a run's adapter can be heard: the kept one, and every checkpoint on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal

from mlx_lora import checkpoints

if TYPE_CHECKING:
    from app.desk import Desk
    from mlx_lora.runs import Run


class CheckpointChoice(msgspec.Struct, frozen=True):
    """One state of the adapter.

    Attributes:
        step: None for the kept adapter, or the best state so far where the run has not ended.
        title: in words, with its step where that is known.
        loss: on the held-out rows, nats a token.
    """

    step: int | None
    title: str
    best: bool = False
    loss: float | None = None


class CheckpointList(QObject):
    """The states of the project's run; `changed` when they, or the chosen one, are others now.

    Attributes:
        choices: the kept adapter first, then the newest checkpoint.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.choices: list[CheckpointChoice] = []
        desk.project.changed.connect(lambda _: self.changed.emit())

    @property
    def chosen(self) -> CheckpointChoice:
        """The state that is heard; the kept one where the project's is not there any more."""
        step = self._desk.chosen.checkpoint
        found = [choice for choice in self.choices if choice.step == step]
        return (found or self.choices or [CheckpointChoice(None, "Kept adapter")])[0]

    def look(self) -> None:
        """Look at the disk again."""
        progress = self._desk.progress
        run, kept = progress.run, progress.state.best_step
        if run is None:
            self.choices = []
            self.changed.emit()
            return
        self._desk.tasks.run(
            lambda: list_checkpoints(run, kept),
            lambda found: self._take(run, found),
            lambda _: self._take(run, []),  # a damaged one is said by whoever asks it
        )

    def choose(self, step: int | None) -> None:
        """Hear, and export, another state."""
        self._desk.project.update(checkpoint=step)

    def name(self, step: int | None) -> str:
        """What a step is called, on disk or not."""
        found = (choice.title for choice in self.choices if choice.step == step)
        return next(found, "Kept adapter" if step is None else f"Step {step:,}")

    def _take(self, run: Run, found: list[CheckpointChoice]) -> None:
        if run is not self._desk.progress.run:
            return
        self.choices = found
        if found and self.chosen.step != self._desk.chosen.checkpoint:
            self.choose(self.chosen.step)
        self.changed.emit()


def list_checkpoints(run: Run, kept_step: int | None) -> list[CheckpointChoice]:
    """The kept adapter first, then every checkpoint, the newest first.

    Raises:
        UserError: `damaged_checkpoint`.
    """
    found = checkpoints.scan(run.checkpoints)
    best = checkpoints.best(found)
    step = kept_step if kept_step is not None or best is None else best.manifest.step
    name = "Kept adapter" if run.adapter.is_dir() else "Best so far"
    first = CheckpointChoice(None, f"{name} · step {step:,}" if step is not None else name)
    others = (
        CheckpointChoice(
            one.manifest.step, f"Step {one.manifest.step:,}", one is best,
            one.manifest.validation_loss,
        )
        for one in reversed(found)
    )  # fmt: skip
    return [first, *others]
