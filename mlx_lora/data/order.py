"""Which documents make which batch: a pure function of (layout, seed, epoch).

Every document is seen once an epoch.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.data.packing import Batch, Layout


class Order:
    """The endless sequence of batches of a run, addressed by number."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self._layout, self._seed = layout, seed
        self.batches_per_epoch = layout.count
        # in one piece: two threads may ask
        self._made = (-1, list["Batch"]())

    def batch(self, number: int) -> Batch:
        """Rows of document indices of batch `number`, counted from 0 over all epochs."""
        epoch, at = divmod(number, self.batches_per_epoch)
        made = self._made
        if made[0] != epoch:
            generator = random.Random(f"order/{self._seed}/{epoch}")
            made = self._made = (epoch, self._layout.fill(generator))
        return made[1][at]

    def width(self, batch: Batch) -> int:
        """Positions of each row of a batch."""
        return self._layout.width(batch)


def padding(layout: Layout, lengths: Sequence[int]) -> float:
    """Share of the positions of an epoch's batches that hold nothing of a document."""
    order = Order(layout, 0)
    held = 0
    for number in range(order.batches_per_epoch):
        batch = order.batch(number)
        held += len(batch) * layout.width(batch)
    return 1 - sum(lengths) / held if held else 0.0
