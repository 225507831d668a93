"""A growing line of points that can be drawn at any width in the same time."""

from __future__ import annotations

import bisect
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# points a group on the lowest level, and groups of a level in one of the next
_FAN = 4
_SHORTEST, _LONGEST = 5.0, 200.0


class Series:
    """Points (step, value) with rising steps; a pyramid of their extremes; their running mean.

    Attributes:
        steps, values: the points.
        smoothed: the running mean at every point, as long behind as `horizon` says.
        low, high: extremes of `smoothed`; meaningless while it is empty.
    """

    def __init__(self, horizon: float = 20.0) -> None:
        self.steps, self.values, self.smoothed = array("q"), array("d"), array("d")
        self.low, self.high = float("inf"), float("-inf")
        self._keep = 1.0 - 1.0 / horizon
        self._sum = self._weight = 0.0
        # level -> (lowest, highest) of each group; the last group of a level may grow
        self._levels: list[tuple[array[float], array[float]]] = []

    def __len__(self) -> int:
        return len(self.steps)

    def append(self, step: int, value: float) -> None:
        """One more point."""
        index = len(self.values)
        self.steps.append(step)
        self.values.append(value)
        self._sum = self._keep * self._sum + value
        self._weight = self._keep * self._weight + 1.0
        mean = self._sum / self._weight
        self.smoothed.append(mean)
        self.low, self.high = min(self.low, mean), max(self.high, mean)
        size, level = _FAN, 0
        while level < len(self._levels) or (index % size == 0 and index >= size):
            if level == len(self._levels):
                self._levels.append(self._group(size, index))
            else:
                self._widen(level, index // size, value)
            size, level = size * _FAN, level + 1

    def extend(self, points: Sequence[tuple[int, float]]) -> None:
        """More points."""
        for step, value in points:
            self.append(step, value)

    def holds(self, points: Sequence[tuple[int, float]]) -> bool:
        """Whether these begin with what is here already."""
        last = len(self) - 1
        return last < 0 or (
            len(points) > last and points[last] == (self.steps[last], self.values[last])
        )

    def bars(self, most: int) -> Iterator[tuple[int, float, float]]:
        """(step, lowest, highest) of groups of neighbours, about `most` of them."""
        size, level = 1, -1
        while len(self) > size * most and level + 1 < len(self._levels):
            size, level = size * _FAN, level + 1
        if level < 0:
            yield from zip(self.steps, self.values, self.values, strict=True)
            return
        lows, highs = self._levels[level]
        yield from zip(self.steps[::size], lows, highs, strict=True)

    def line(self, segments: int) -> list[tuple[int, float]]:
        """The running mean, at most so many segments; the newest point is the last."""
        last = len(self) - 1
        if last < 0:
            return []
        count = min(last, segments)
        at = [round(last * part / count) for part in range(count + 1)] if count else [0]
        return [(self.steps[index], self.smoothed[index]) for index in at]

    def nearest(self, step: float) -> int:
        """The index of the point nearest to a step; there must be one."""
        right = min(bisect.bisect_left(self.steps, step), len(self) - 1)
        left = max(right - 1, 0)
        return left if step - self.steps[left] <= self.steps[right] - step else right

    def _group(self, size: int, index: int) -> tuple[array[float], array[float]]:
        """A new level, when its second group begins."""
        first, here = self.values[:size], self.values[index]
        return array("d", (min(first), here)), array("d", (max(first), here))

    def _widen(self, level: int, group: int, value: float) -> None:
        lows, highs = self._levels[level]
        if group == len(lows):
            lows.append(value)
            highs.append(value)
        else:
            lows[group], highs[group] = min(lows[group], value), max(highs[group], value)


def horizon_of(steps: int) -> float:
    """How many steps the running mean looks back in a run of so many."""
    return min(max(steps / 100, _SHORTEST), _LONGEST)
