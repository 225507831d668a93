"""How documents share the rows of a batch, so that few positions are computed for nothing.

A layout is made once a run from the documents' lengths (positions: tokens less one): how many
batches an epoch has and what lengths meet in each. Every epoch it is filled anew from a random
generator. A batch is a list of rows, a row a list of documents, by index.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    Batch = list[list[int]]

# batches a stretch in which rows are sorted by length
_STRETCH = 256
# lengths are taken as a little longer or shorter, so that other documents meet in every epoch
_BLUR = 0.02
# packed rows are a multiple of this long, and of this length where documents are short
_GRAIN, _SHORT, _LONG = 64, 256, 512
# budgets tried, as shares of the first, until an epoch has about as many batches as batch_size
# makes; not for so many documents that it would take seconds
_ROOM, _CLOSE, _TRIED = (1.07, 1.14, 1.21, 1.28), 1.03, 200_000


class Layout(Protocol):
    """Batches of one epoch.

    Attributes:
        count: how many, the same in every epoch.
    """

    count: int

    def fill(self, generator: random.Random) -> list[Batch]:
        """The batches of one epoch, in order; every document is in exactly one row."""
        ...

    def width(self, batch: Batch) -> int:
        """Positions of each row of a batch."""
        ...


class _Single:
    """Rows that hold one document each, as wide as the longest."""

    _lengths: Sequence[int]

    def width(self, batch: Batch) -> int:
        """See `Layout`."""
        return max(self._lengths[row[0]] for row in batch)


class FixedRows(_Single):
    """`size` rows a batch, one document each, of like length: what `batch_size` says, to the row.

    The shuffled documents are sorted within stretches of many batches, so that little is padded.
    """

    def __init__(self, lengths: Sequence[int], size: int) -> None:
        self._lengths, self._size = lengths, size
        self.count = math.ceil(len(lengths) / size)

    def fill(self, generator: random.Random) -> list[Batch]:
        """See `Layout`."""
        order = list(range(len(self._lengths)))
        generator.shuffle(order)
        stretch = self._size * _STRETCH
        batches = []
        for start in range(0, len(order), stretch):
            part = _sorted(order[start : start + stretch], self._lengths, generator)
            batches += [part[at : at + self._size] for at in range(0, len(part), self._size)]
        generator.shuffle(batches)
        return [[[document] for document in batch] for batch in batches]


class Buckets(_Single):
    """Rows of like length, one document each, as many as `budget` positions hold.

    A document longer than the budget is a batch of its own, so the longest document bounds the
    memory of a step, not `batch_size` times it.
    """

    def __init__(self, lengths: Sequence[int], budget: int) -> None:
        self._lengths = lengths
        self._sizes: list[int] = []
        size = longest = 0
        for length in sorted(lengths):
            longest = length
            if size and (size + 1) * longest > budget:
                self._sizes.append(size)
                size = 0
            size += 1
        self._sizes += [size] if size else []
        self.count = len(self._sizes)

    def fill(self, generator: random.Random) -> list[Batch]:
        """See `Layout`."""
        order = _sorted(range(len(self._lengths)), self._lengths, generator)
        batches, at = [], 0
        for size in self._sizes:
            batches.append([[document] for document in order[at : at + size]])
            at += size
        generator.shuffle(batches)
        return batches


class PackedRows:
    """Rows of one length, several documents in each, best-fit decreasing (Johnson 1973).

    Documents longer than a row get rows of twice, four times, ... the length, filled up with short
    ones. Which lengths share a row stays the same all the run; which documents of a length, which
    rows share a batch and in what order changes with every epoch.

    Attributes:
        length: positions of an ordinary row.
    """

    def __init__(self, lengths: Sequence[int], budget: int) -> None:
        self._lengths, self._budget = lengths, budget
        self.length = row_length(lengths, budget)
        self._bins = _best_fit(lengths, self.length)
        tiers: dict[int, int] = defaultdict(int)
        for capacity, _ in self._bins:
            tiers[capacity] += 1
        self.count = sum(math.ceil(n / self._rows(capacity)) for capacity, n in tiers.items())

    def width(self, batch: Batch) -> int:
        """See `Layout`."""
        held = max(sum(self._lengths[document] for document in row) for row in batch)
        return _capacity(held, self.length)

    def fill(self, generator: random.Random) -> list[Batch]:
        """See `Layout`."""
        waiting = defaultdict(list)
        order = list(range(len(self._lengths)))
        generator.shuffle(order)
        for document in order:
            waiting[self._lengths[document]].append(document)
        tiers = defaultdict(list)
        for capacity, held in self._bins:
            tiers[capacity].append([waiting[length].pop() for length in held])
        batches = []
        for capacity, rows in sorted(tiers.items()):
            generator.shuffle(rows)
            size = self._rows(capacity)
            batches += [rows[at : at + size] for at in range(0, len(rows), size)]
        generator.shuffle(batches)
        return batches

    def _rows(self, capacity: int) -> int:
        return max(1, round(self._budget / capacity))


def make_layout(kind: str, lengths: Sequence[int], batch_size: int) -> Layout:
    """The layout of that name: `rows`, `buckets` or `pack`; lengths in positions."""
    if kind == "rows":
        return FixedRows(lengths, batch_size)
    budget, wanted = position_budget(lengths, batch_size), len(lengths) / batch_size
    make = PackedRows if kind == "pack" else Buckets
    best: Layout = make(lengths, budget)
    # documents that just do not fit together make smaller batches, and so more steps, than asked
    for share in _ROOM if len(lengths) <= _TRIED else ():
        if best.count <= wanted * _CLOSE:
            break
        tried = make(lengths, round(budget * share))
        best = min(best, tried, key=lambda layout: abs(layout.count - wanted))
    return best


def row_length(lengths: Sequence[int], budget: int) -> int:
    """Positions of a packed row: 256 to 512 for short documents, twice the median for long ones.

    Attention costs a row's square, so rows are short; `budget` positions make whole rows.
    """
    rows = max(1, math.ceil(budget / _LONG))
    even = _up(math.ceil(budget / rows), _GRAIN)
    median = sorted(lengths)[len(lengths) // 2]
    wanted = max(min(max(even, _SHORT), _LONG), _up(2 * median, _GRAIN))
    return min(wanted, max(_GRAIN, _up(max(lengths), _GRAIN)))


def position_budget(lengths: Sequence[int], batch_size: int) -> int:
    """Positions that `batch_size` documents have on average."""
    return max(1, round(batch_size * sum(lengths) / len(lengths)))


def _best_fit(lengths: Sequence[int], length: int) -> list[tuple[int, list[int]]]:
    """(positions of the row, lengths in it) of every row."""
    bins: list[tuple[int, list[int]]] = []
    rooms: list[int] = []  # the different rooms that are left, ascending
    with_room: dict[int, list[int]] = defaultdict(list)
    for wanted in sorted(lengths, reverse=True):
        at = bisect_left(rooms, wanted)
        if at < len(rooms):
            room = rooms[at]
            number = with_room[room].pop()
            if not with_room[room]:
                rooms.pop(at)
            bins[number][1].append(wanted)
        else:
            room, number = _capacity(wanted, length), len(bins)
            bins.append((room, [wanted]))
        left = room - wanted
        if left:
            if not with_room[left]:
                insort(rooms, left)
            with_room[left].append(number)
    return bins


def _capacity(wanted: int, length: int) -> int:
    """The shortest row of `length`, twice, four times, ... that holds so many positions."""
    while length < wanted:
        length *= 2
    return length


def _sorted(
    documents: Iterable[int], lengths: Sequence[int], generator: random.Random
) -> list[int]:
    return sorted(
        documents, key=lambda at: (lengths[at] + 1) * generator.uniform(1 - _BLUR, 1 + _BLUR)
    )


def _up(number: int, grain: int) -> int:
    return -(-number // grain) * grain
