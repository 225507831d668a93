"""A model with an adapter on it: what a run left, for those who ask it, measure it, export it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlx_lora import checkpoints
from mlx_lora.config import ModelConfig
from mlx_lora.errors import UserError
from mlx_lora.runs import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.runs import Run


class Trained(msgspec.Struct, frozen=True):
    """A model with an adapter on it, and the run they come from where there is one."""

    model: ModelConfig
    adapter: str
    record: RunRecord | None


def trained_run(run: Run, step: int | None = None) -> Trained:
    """What a run left: its adapter, or that of the checkpoint after `step`.

    Raises:
        UserError: `no_adapter`, `damaged_run`, `damaged_checkpoint`.
    """
    record = run.record()
    return Trained(record.config.model, str(adapter_folder(run, step)), record)


def adapter_folder(run: Run, step: int | None = None) -> Path:
    """The adapter of a run, or that of the checkpoint after `step`.

    A run that has not ended has that of its best checkpoint so far.

    Raises:
        UserError: `no_adapter`, `damaged_checkpoint`.
    """
    if step is None and run.adapter.is_dir():
        return run.adapter
    saved = checkpoints.scan(run.checkpoints)
    if step is not None:
        saved = [one for one in saved if one.manifest.step == step]
    best = checkpoints.best(saved)
    if best is not None:
        return best.folder
    if step is not None:
        why, fix = f"its checkpoint after step {step} is not there any more", "choose another one"
        raise UserError("no_adapter", run.name, why, fix)
    why, fix = "this run has saved nothing yet", f"understudy resume {run.name}"
    raise UserError("no_adapter", run.name, why, fix)
