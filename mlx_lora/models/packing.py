"""How rows of weights are packed: in groups, of the first size that divides them. No mlx here."""

from __future__ import annotations

import re

GROUPS = (64, 32, 128)
# what a float base may be packed to, as `bits` of the configuration says it
PACKED = frozenset({"4", "6", "8"})


def group_for(width: int) -> int | None:
    """The group size for rows of `width` weights; None where no supported group divides it."""
    return next((group for group in GROUPS if width % group == 0), None)


def plain_fits(plain: int, memory: int) -> bool:
    """Whether packed weights may be held as floats: they leave half of the memory to training."""
    return plain <= memory // 2


def packed_name(name: str, bits: int) -> str:
    """What a packed copy of a model is called: `gemma-3-1b-it-bf16` is `gemma-3-1b-it-4bit`."""
    plain = re.sub(r"(?i)[-_.](?:bf16|fp16|f16|fp32|f32)$", "", name.rpartition("/")[2])
    return f"{plain}-{bits}bit"
