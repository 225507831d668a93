"""Loss and next-token accuracy on rows that are not learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import msgspec

from mlx_lora.data.batching import make_batch
from mlx_lora.events import Phase, Pulse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from mlx_lora.data.render import Rendered
    from mlx_lora.training.objective import Objective


class Measured(msgspec.Struct, frozen=True):
    """Mean loss (nats a target), share of targets predicted, and over how much."""

    loss: float
    accuracy: float
    rows: int
    targets: int


def measure(
    objective: Objective, rows: Sequence[Rendered], batch_size: int, name: str = "validation"
) -> Generator[Phase, None, Measured]:
    """Measure a model on rows, with a sign of life between batches; returns the result.

    A batch is `batch_size` rows of the mean length, or the longest row.
    """
    pulse, done, loss, hits, targets = Pulse(), 0, 0.0, 0.0, 0
    for group in _batches(rows, batch_size):
        if pulse.due():
            yield Phase(name, done, len(rows))
        batch = make_batch(group)
        found = objective.tally(batch)
        mx.eval(found.loss, found.hits)
        loss += found.loss.item()
        hits += found.hits.item()
        targets += batch.target_count
        done += len(group)
    return Measured(loss / max(1, targets), hits / max(1, targets), len(rows), targets)


def _batches(rows: Sequence[Rendered], batch_size: int) -> Iterator[list[Rendered]]:
    """Rows of like length, as many as a step of training would hold."""
    budget = batch_size * sum(len(row.tokens) for row in rows) / max(1, len(rows))
    group: list[Rendered] = []
    for row in sorted(rows, key=lambda row: (len(row.tokens), row.row)):
        if group and (len(group) + 1) * len(row.tokens) > budget:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
