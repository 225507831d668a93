"""How rows of weights are packed: in groups, of the first size that divides them. No mlx here."""

from __future__ import annotations

GROUPS = (64, 32, 128)


def group_for(width: int) -> int | None:
    """The group size for rows of `width` weights; None where no supported group divides it."""
    return next((group for group in GROUPS if width % group == 0), None)
