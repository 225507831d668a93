"""Interleaved measurements: whatever slows the machine down slows all sides down alike. No mlx."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mlx_lora import blas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")


class Spread(msgspec.Struct, frozen=True):
    """The middle of some measurements and how far they lie apart."""

    median: float
    low: float
    high: float
    count: int

    def words(self, digits: int = 2) -> str:
        """`2.13 [1.98, 2.40]`."""
        return f"{self.median:,.{digits}f} [{self.low:,.{digits}f}, {self.high:,.{digits}f}]"


def spread(values: Sequence[float]) -> Spread:
    """Median, least and largest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def interleave(sides: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Every side once a round, in turns forwards and backwards; results by side, in rounds."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in reversed(list(sides)) if number % 2 else sides:
            found[name].append(sides[name]())
    return found


def ratios(theirs: Callable[[], float], ours: Callable[[], float], pairs: int) -> list[float]:
    """Their seconds over ours, pair by pair; the order of a pair alternates."""
    found = interleave({"theirs": theirs, "ours": ours}, pairs)
    return [other / own for other, own in zip(found["theirs"], found["ours"], strict=True)]


def tell(name: str, values: Sequence[float], against: str = "mlx-lm") -> float:
    """Print how many times faster we are, with the spread of the pairs; returns the median."""
    found = spread(values)
    line = f"{name}: {found.words()} x {against}, {found.count} pairs, {blas.expected()}"
    sys.stdout.write(f"{line}\n")
    return found.median
