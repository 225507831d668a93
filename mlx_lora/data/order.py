"""Which rows make which batch: a pure function of (rows, seed, epoch).

Every row is seen once an epoch, short last batch included. Rows of like length share a batch, so
that little is padded: the shuffled rows are sorted by length within stretches of many batches, and
the batches shuffled again.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# batches a stretch: 2 to 4 % padding on lengths like Alpaca's, where 32 make 7 to 11 %
_STRETCH = 256
# lengths are taken as a little longer or shorter, so that other rows meet in every epoch
_BLUR = 0.02


class Order:
    """The endless sequence of batches of a run, addressed by number."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._size, self._seed = list(lengths), batch_size, seed
        self.batches_per_epoch = math.ceil(len(lengths) / batch_size)
        self._epoch, self._plan = -1, list[list[int]]()

    def rows(self, number: int) -> list[int]:
        """Row indices of batch `number`, counted from 0 over all epochs."""
        epoch, at = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._plan_epoch(epoch)
        return self._plan[at]

    def _plan_epoch(self, epoch: int) -> list[list[int]]:
        generator = random.Random(f"order/{self._seed}/{epoch}")
        order = list(range(len(self._lengths)))
        generator.shuffle(order)
        stretch = self._size * _STRETCH
        batches = []
        for start in range(0, len(order), stretch):
            part = sorted(
                order[start : start + stretch],
                key=lambda row: self._lengths[row] * generator.uniform(1 - _BLUR, 1 + _BLUR),
            )
            batches += [part[at : at + self._size] for at in range(0, len(part), self._size)]
        generator.shuffle(batches)
        return batches


def padding(lengths: Sequence[int], batch_size: int) -> float:
    """Share of the positions of an epoch's batches that hold no token of a row."""
    order = Order(lengths, batch_size, 0)
    held = 0
    for number in range(order.batches_per_epoch):
        rows = order.rows(number)
        held += len(rows) * max(lengths[row] for row in rows)
    return 1 - sum(lengths) / held if held else 0.0
