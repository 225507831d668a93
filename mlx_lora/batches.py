"""What is known of a dataset's rows, and the batches a run makes of them. No mlx here.

Where the length of every row is known, batches are laid out by the very code that trains
(data/packing.py); else they are bounded.
"""

from __future__ import annotations

import functools
import math
import random
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.packing import make_layout
from mlx_lora.training.policy import FEWEST_STEPS, TABLE

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig

# of `batch_size x mean` tokens, what a batch may hold (data/packing.py)
_ROOM = 1.28
# no more rows are laid out: it would keep a person waiting
_LAID_OUT = 20_000
# (tokens, how many rows have so many), ascending
Lengths = tuple[tuple[int, int], ...]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a dataset.

    Attributes:
        training, validation: rows to learn from, and held out.
        mean: tokens of a row; `longest` of the longest.
        limit: the `max_length` these figures were found with.
        lengths: of the rows to learn from; empty where they are not known.
    """

    training: int
    validation: int
    mean: float
    longest: int
    limit: int
    documents: bool = False
    lengths: Lengths = ()

    @property
    def positions(self) -> float:
        """Positions of all rows to learn from: tokens less one a row."""
        if self.lengths:
            return sum((tokens - 1) * count for tokens, count in self.lengths)
        return self.training * max(0.0, self.mean - 1)


class Batch(msgspec.Struct, frozen=True):
    """Positions of all its rows, and of one of them."""

    tokens: int
    width: int


class Batches(msgspec.Struct, frozen=True):
    """An epoch: how many batches, and whether that is counted or about."""

    count: int
    exact: bool


def rows_of(facts: dict[str, Any]) -> Rows | None:
    """The figures an inspection gave; None where there was none."""
    training = facts.get("training_rows")
    if not isinstance(training, int) or training < 1:
        return None
    longest = int(facts.get("longest_tokens") or 0)
    lengths = tuple((int(tokens), int(count)) for tokens, count in facts.get("lengths") or ())
    return Rows(
        training=training,
        validation=int(facts.get("validation_rows") or 0),
        mean=float(facts.get("mean_tokens") or facts.get("median_tokens") or longest or 1),
        longest=longest,
        limit=int(facts.get("limit") or longest or 0),
        documents=list(facts.get("formats") or ()) == ["document"],
        lengths=lengths if sum(count for _, count in lengths) == training else (),
    )


def at_length(rows: Rows, length: int) -> Rows:
    """The rows as they are with another `max_length`.

    Running text is cut into more or fewer rows of that length; other rows are only cut shorter.
    """
    if rows.documents and rows.limit and length != rows.limit:
        share = length / rows.limit
        return msgspec.structs.replace(
            rows,
            training=max(1, math.ceil(rows.training / share)),
            validation=math.ceil(rows.validation / share),
            mean=rows.mean * share,
            longest=length,
            limit=length,
            lengths=(),
        )
    # how long rows are that were cut at a lower limit is not known
    known = length <= rows.limit or rows.longest < rows.limit
    lengths = _cut(rows.lengths, length) if known else ()
    total = sum(tokens * count for tokens, count in lengths)
    return msgspec.structs.replace(
        rows,
        mean=total / rows.training if lengths else min(rows.mean, length),
        longest=min(rows.longest, length),
        lengths=lengths,
    )


def count_batches(config: RunConfig, rows: Rows, *, metal: bool) -> Batches:
    """Batches an epoch.

    Counted where rows have their places or their lengths are known and only one form is tried, or
    those that are tried make as many; else about.
    """
    training = config.training
    about = math.ceil(rows.training / training.batch_size)
    kinds = _kinds(config, metal=metal)
    if kinds == ("rows",):
        return Batches(about, exact=True)
    if not _known(rows):
        return Batches(about, exact=False)
    counts = [_laid_out(kind, rows.lengths, training.batch_size)[0] for kind in kinds]
    short = training.epochs * counts[0] / training.grad_accumulation < FEWEST_STEPS
    return Batches(counts[0], exact=short or len(set(counts)) == 1)


def heaviest_batch(config: RunConfig, rows: Rows | None, length: int, *, metal: bool) -> Batch:
    """The batch that takes most memory, of rows of at most `length` positions.

    Where lengths are not known: `batch_size` rows of the mean length and a little more, or the
    longest row; without any rows all are as long as they can be.
    """
    size, kind = config.training.batch_size, _kinds(config, metal=metal)[0]
    if rows is None:
        return Batch(size * length, length)
    if _known(rows):
        return _laid_out(kind, rows.lengths, size)[1]
    longest = max(1, min(length, rows.longest - 1)) if rows.longest else length
    if kind == "rows" or not rows.mean:
        return Batch(size * longest, longest)
    return Batch(max(longest, round(min(size * longest, _ROOM * size * rows.mean))), longest)


def _known(rows: Rows) -> bool:
    return bool(rows.lengths) and rows.training <= _LAID_OUT


def _kinds(config: RunConfig, *, metal: bool) -> tuple[str, ...]:
    """How rows share batches: the forms that are tried, the table's guess first."""
    asked = config.engine.batching
    return TABLE["metal" if metal else "cpu"].batching if asked == "auto" else (asked,)


@functools.lru_cache(maxsize=32)
def _laid_out(kind: str, lengths: Lengths, size: int) -> tuple[int, Batch]:
    """(batches an epoch, the largest of them) as a run lays them out."""
    positions = [max(1, tokens - 1) for tokens, count in lengths for _ in range(count)]
    layout = make_layout(kind, positions, size)
    sizes = [(len(rows), layout.width(rows)) for rows in layout.fill(random.Random(0))]
    batches = [Batch(rows * width, width) for rows, width in sizes]
    return layout.count, max(batches, key=lambda batch: (batch.tokens, batch.width))


def _cut(lengths: Lengths, longest: int) -> Lengths:
    """The same rows cut at `longest` tokens."""
    counts = dict[int, int]()
    for tokens, count in lengths:
        kept = min(tokens, longest)
        counts[kept] = counts.get(kept, 0) + count
    return tuple(counts.items())
