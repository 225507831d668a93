"""What a dataset amounts to for a model, in numbers: lengths in tokens of every row, as arrays."""

from __future__ import annotations

import itertools
import math
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from mlx_lora.data.order import padding
from mlx_lora.data.packing import make_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mlx_lora.data.render import Rendered

_BUCKETS = 28
# lengths beyond so many times the 95th percentile share the last bucket
_TAIL = 2.5
# so many different lengths are said one by one
_DIFFERENT = 2048
# batches are laid out for so many rows: more say the same
_LAID_OUT = 50_000


class Ledger:
    """Row number, whole length, kept length and learnt tokens of every row: 16 bytes each.

    The arrays it gives are views of its own: no row can be added while one is in use.
    """

    def __init__(self) -> None:
        self._columns = [array("I") for _ in range(4)]

    def add(self, row: Rendered) -> None:
        """One more row."""
        values = (row.row, len(row.tokens) + row.cut, len(row.tokens), row.targets)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    @property
    def numbers(self) -> NDArray[np.uint32]:
        """Row numbers (rows,)."""
        return np.frombuffer(self._columns[0], np.uint32)

    @property
    def whole(self) -> NDArray[np.uint32]:
        """Lengths (rows,) in tokens before rows are cut."""
        return np.frombuffer(self._columns[1], np.uint32)

    @property
    def kept(self) -> NDArray[np.uint32]:
        """Lengths (rows,) in tokens as the model sees them."""
        return np.frombuffer(self._columns[2], np.uint32)

    @property
    def learnt(self) -> NDArray[np.uint32]:
        """Targets of the loss (rows,)."""
        return np.frombuffer(self._columns[3], np.uint32)


def measure(
    ledgers: dict[str, Ledger], held: NDArray[np.bool_] | None, batch_size: int
) -> dict[str, Any]:
    """The figures of training and validation rows; lengths are in tokens, before rows are cut.

    `held` (rows with something to learn of the training file,) are those held out of it; None
    where a file of their own is. `trained_tokens + masked_tokens + cut_tokens` are `tokens`.
    `median_tokens` and `longest_tokens` are of rows as they are learnt; `padding` the share of
    positions that batches of them leave empty; `lengths` how many rows to learn from have so many
    tokens, where they are not too many to say.
    """
    empty = Ledger()
    train, valid = ledgers.get("train", empty), ledgers.get("valid", empty)
    whole = np.concatenate([train.whole, valid.whole])
    kept = np.concatenate([train.kept, valid.kept])
    learnt = np.concatenate([train.learnt, valid.learnt])
    useful, lengths = train.learnt[train.learnt > 0], train.kept[train.learnt > 0]
    if held is None:
        training, validation = len(useful), int((valid.learnt > 0).sum())
    else:
        training, validation = int((~held).sum()), int(held.sum())
        useful, lengths = useful[~held], lengths[~held]
    seen = kept[learnt > 0]
    tokens = int(whole.sum(dtype=np.int64))
    trained = int(learnt.sum(dtype=np.int64))
    cut = int((whole - kept).sum(dtype=np.int64))
    return {
        "training_rows": training,
        "validation_rows": validation,
        "training_targets": int(useful.sum(dtype=np.int64)),
        "tokens": tokens,
        "trained_tokens": trained,
        "masked_tokens": tokens - trained - cut,
        "cut_tokens": cut,
        "cut_rows": int((whole > kept).sum()),
        "mean_tokens": round(float(whole.mean()), 1),
        "median_tokens": _plain(np.median(seen)),
        "p50_tokens": _at(whole, 0.5),
        "p95_tokens": _at(whole, 0.95),
        "longest_tokens": int(seen.max()),
        "longest_row_tokens": int(whole.max()),
        "padding": _padding(lengths[:_LAID_OUT].tolist(), batch_size),
        "lengths": _counted(lengths),
        "histogram": histogram(whole),
    }


def histogram(lengths: Sequence[int] | NDArray[np.uint32]) -> dict[str, list[int]]:
    """`edges` (n + 1, ascending) and `counts` (n) of lengths, in steps of 1, 2 or 5 x 10^k.

    A bucket holds `edge <= length < next edge`; the last one also everything longer.
    """
    values = np.asarray(lengths, np.uint32)
    longest = int(values.max())
    end = min(longest, math.ceil(_at(values, 0.95) * _TAIL)) + 1
    step = next(
        step
        for power in itertools.count()
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if end / step <= _BUCKETS
    )
    number = math.ceil(end / step)
    counts = np.bincount(np.minimum(values // step, number - 1), minlength=number)
    return {
        "edges": [step * at for at in range(number)] + [max(step * number, longest)],
        "counts": counts.tolist(),
    }


def _padding(lengths: list[int], batch_size: int) -> float:
    """Share of empty positions where rows of like length are put together by tokens."""
    positions = [length - 1 for length in lengths]
    if not positions:
        return 0.0
    return round(padding(make_layout("buckets", positions, batch_size), positions), 4)


def _counted(lengths: NDArray[np.uint32]) -> list[list[int]]:
    """(tokens, rows) of each length there is, ascending; empty where there are too many."""
    tokens, counts = np.unique(lengths, return_counts=True)
    if len(tokens) > _DIFFERENT:
        return []
    return [[int(length), int(count)] for length, count in zip(tokens, counts, strict=True)]


def _at(lengths: NDArray[np.uint32], share: float) -> int:
    """The length that such a share of the rows does not pass."""
    place = math.ceil(share * len(lengths)) - 1
    return int(np.partition(lengths, place)[place])


def _plain(value: Any) -> float | int:
    number = float(value)
    return int(number) if number.is_integer() else number
