"""What the words of `targets` mean: attention, mlp, all, or the names of linear layers. No mlx."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_MARKS = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward", "ffn", "moe")}
# what chooses a token's experts: small data moves tokens to experts that never saw their like, so
# it is only adapted where it is named
_ROUTERS = {"router", "gate", "shared_expert_gate"}


def in_group(inside: AbstractSet[str], target: str) -> set[str]:
    """Those module names inside a layer that a group means; none where `target` is no group.

    The router of a mixture of experts is in no group.
    """
    marks = ("",) if target == "all" else _MARKS.get(target, ())
    return {
        key
        for key in inside
        if any(mark in key for mark in marks) and key.rpartition(".")[2] not in _ROUTERS
    }


def by_name(names: AbstractSet[str], target: str) -> set[str]:
    """Those module names that `target` is the whole or the end of."""
    return {key for key in names if key == target or key.endswith(f".{target}")}
