"""Row lengths as instruction data has them. No mlx here."""

from __future__ import annotations

import math
import random

# tokens; about those of Alpaca's rows: half of them shorter than 90, a few ten times that
_MEDIAN, _SIGMA, _SHORTEST = 90, 0.75, 16


def alpaca_lengths(count: int, longest: int, seed: int = 0) -> list[int]:
    """Lengths in tokens: lognormal, median 90, sigma 0.75, clipped to 16 ... `longest`."""
    draw = random.Random(f"lengths/{seed}")
    drawn = (draw.lognormvariate(math.log(_MEDIAN), _SIGMA) for _ in range(count))
    return [max(_SHORTEST, min(longest, round(length))) for length in drawn]
