"""Where an axis has its marks, and what they say."""

from __future__ import annotations

import math

import msgspec

_NICE = (1, 2, 5, 10)
_FEW = 3
# the shortest run whose beginning is shown larger
_NEAR = 20


class Axis(msgspec.Struct, frozen=True):
    """One axis: its ends, whether it is logarithmic, and its marks with their words."""

    low: float
    high: float
    log: bool = False
    marks: tuple[tuple[float, str], ...] = ()

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end, 1 at the high one; never outside."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def step_axis(steps: int, at: int, most: int = 6) -> Axis:
    """Steps from 0 to the last, or to half, a quarter ... of them while `at` is near the start."""
    high = max(steps, 1)
    while high // 2 >= max(_NEAR, 4 * at):
        high //= 2
    gap = max(1, round(_nice(high / most)))
    marks = tuple((float(at), f"{at:,}") for at in range(0, high + 1, gap))
    return Axis(0.0, float(high), False, marks)


def loss_axis(low: float, high: float, *, log: bool = False, most: int = 5) -> Axis:
    """An axis that shows `low` to `high`; from 0 where that costs little room."""
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    if log and high > 0:
        return _log_axis(max(low, high * 1e-6), high)
    room = (high - low) * 0.06
    gap = _nice((high + room - low) / most)
    floor = 0.0 if 0 <= low < 0.45 * high else math.floor((low - room) / gap) * gap
    gap = _nice((high + room - floor) / most)
    floor = math.floor(floor / gap + 1e-9) * gap
    top = high + room
    count = math.floor((top - floor) / gap + 1e-9)
    return Axis(floor, top, False, tuple(_mark(floor + n * gap, gap) for n in range(count + 1)))


def _log_axis(low: float, high: float) -> Axis:
    """Marks at 1, 2, 5 of every power of ten; evenly between where those are too few."""
    low, high = low * 0.95, high * 1.05
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [n * 10.0**power for power in range(first, last + 1) for n in _NICE[:3]]
    inside = [value for value in values if low <= value <= high]
    if len(inside) < _FEW:
        gap = _nice((high - low) / 4)
        inside = [gap * n for n in range(math.ceil(low / gap), math.floor(high / gap) + 1)]
        return Axis(low, high, True, tuple(_mark(value, gap) for value in inside))
    while len(inside) > 7:  # noqa: PLR2004
        inside = inside[::2]
    return Axis(low, high, True, tuple((value, f"{value:g}") for value in inside))


def _nice(width: float) -> float:
    """1, 2 or 5 times a power of ten, not less than `width`."""
    power = 10.0 ** math.floor(math.log10(width))
    return next((n * power for n in _NICE if n * power >= width * (1 - 1e-9)), 10 * power)


def _mark(value: float, gap: float) -> tuple[float, str]:
    digits = max(0, -math.floor(math.log10(gap) + 1e-9))
    return value, f"{value:.{digits}f}"
