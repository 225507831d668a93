"""How long a run is and when it is looked at: a pure function of the configuration. No mlx here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig


class Plan(msgspec.Struct, frozen=True):
    """How many steps, and when what happens."""

    steps: int
    eval_every: int
    save_every: int
    sample_every: int


def make_plan(config: RunConfig, batches_per_epoch: int) -> Plan:
    """Steps from epochs where steps are not given; a tenth of the run between validations."""
    training = config.training
    epoch_steps = training.epochs * batches_per_epoch / training.grad_accumulation
    steps = training.steps or max(1, math.ceil(epoch_steps - 1e-9))
    eval_every = training.eval_every or max(1, min(steps, max(10, steps // 10)))
    return Plan(
        steps, eval_every, training.save_every or eval_every, training.sample_every or eval_every
    )
