"""What the words of `targets` mean: attention, mlp, all, or the names of linear layers. No mlx."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_MARKS = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward", "ffn", "moe")}


def in_group(inside: AbstractSet[str], target: str) -> set[str]:
    """Those module names inside a layer that a group means; none where `target` is no group."""
    if target == "all":
        return set(inside)
    return {key for key in inside if any(mark in key for mark in _MARKS.get(target, ()))}


def by_name(names: AbstractSet[str], target: str) -> set[str]:
    """Those module names that `target` is the whole or the end of."""
    return {key for key in names if key == target or key.endswith(f".{target}")}
