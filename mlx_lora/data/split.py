"""Training rows and held-out rows, without overlap, as a pure function of the rows and the seed."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")


def split_rows(
    rows: Sequence[Item], fraction: float, seed: int, content: Callable[[Item], bytes]
) -> tuple[list[Item], list[Item]]:
    """(training, held out): about `fraction` of the rows held out, at least one, never all.

    Rows of equal content stay on one side, so that nothing learnt is also measured.
    """
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(hashlib.sha256(content(row)).hexdigest(), []).append(index)
    wanted = round(len(rows) * fraction)
    if fraction <= 0 or len(groups) < 2:  # noqa: PLR2004
        return list(rows), []
    order = list(groups.values())
    random.Random(f"split/{seed}").shuffle(order)
    held: set[int] = set()
    for group in order[:-1]:
        if held and len(held) + len(group) > max(1, wanted):
            continue
        held.update(group)
        if len(held) >= max(1, wanted):
            break
    training = [row for index, row in enumerate(rows) if index not in held]
    return training, [row for index, row in enumerate(rows) if index in held]
