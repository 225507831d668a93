"""Loss and next-token accuracy on rows that are not learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora.data.batching import make_batch
from mlx_lora.events import Phase, Pulse
from mlx_lora.training.loss import token_losses

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mlx_lora.data.render import Rendered


class Measured(msgspec.Struct, frozen=True):
    """Mean loss (nats a target), share of targets predicted, and over how much."""

    loss: float
    accuracy: float
    rows: int
    targets: int


def measure(
    model: Any, rows: Sequence[Rendered], batch_size: int, name: str = "validation"
) -> Generator[Phase, None, Measured]:
    """Measure a model on rows, with a sign of life between batches; returns the result."""
    pulse, loss, hits, targets = Pulse(), 0.0, 0.0, 0
    by_length = sorted(rows, key=lambda row: (len(row.tokens), row.row))
    for start in range(0, len(rows), batch_size):
        if pulse.due():
            yield Phase(name, start, len(rows))
        batch = make_batch(by_length[start : start + batch_size])
        losses, logits = token_losses(model, batch)
        right = (mx.argmax(logits, axis=-1) == batch.targets) * batch.weights
        loss += (losses * batch.weights).sum().item()
        hits += right.sum().item()
        targets += batch.target_count
    return Measured(loss / max(1, targets), hits / max(1, targets), len(rows), targets)
