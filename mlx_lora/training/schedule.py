"""The learning rate: a linear warm-up, then a cosine (Loshchilov & Hutter 2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlx_lora.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The rate of step `step` (from 1) of `steps`."""
    warmup = round(config.warmup * steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    first = max(warmup, 1)  # the step that has the peak
    progress = (step - first) / max(1, steps - first)
    floor = config.final_rate
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
