"""What each way to treat rows beyond the length limit would cost, counted before a run starts."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.formats import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlx_lora.data.formats import Example
    from mlx_lora.data.render import Renderer

CHOICES = ("cut", "keep-end", "split", "drop")


class LongRows:
    """Counts the rows that are longer than the limit, and each choice's effect on them.

    `make(choice)` makes a renderer that treats long rows so, and cuts nothing for "".
    """

    def __init__(self, make: Callable[[str], Renderer], limit: int) -> None:
        self._make, self._limit = functools.cache(make), limit
        self._count = 0
        self._sums = {choice: Effect() for choice in CHOICES}

    def add(self, example: Example) -> None:
        """One more long row."""
        self._count += 1
        for row in self._make("").render(example):
            effects = effects_of(row.mask, self._limit, text=isinstance(example, Text))
            if isinstance(example, Text):  # borders, overlap and start tokens decide of windows
                windows = [window.targets for window in self._make("split").render(example)]
                learnt = sum(windows)
                rows = sum(count > 0 for count in windows)
                effects["split"] = Effect(rows, learnt, sum(row.mask) - learnt, 0)
            for choice, effect in effects.items():
                self._sums[choice].add(effect)

    def effects(self) -> dict[str, Any]:
        """`count`, and by choice rows, trained_tokens, lost_tokens, ends_lost of those rows."""
        choices = {name: msgspec.to_builtins(effect) for name, effect in self._sums.items()}
        return {"count": self._count, "choices": choices}


class Effect(msgspec.Struct):
    """What comes of long rows: rows that stay, tokens learnt and lost, answers without an end."""

    rows: int = 0
    trained_tokens: int = 0
    lost_tokens: int = 0
    ends_lost: int = 0

    def add(self, other: Effect) -> None:
        """Both together."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def effects_of(mask: Sequence[int], limit: int, *, text: bool) -> dict[str, Effect]:
    """By choice what comes of one row whose tokens are learnt where `mask` (tokens,) is 1.

    A row in which nothing is left to learn does not stay. Only a `text` can be split, here without
    regard to borders and overlap; other rows are cut then.
    """
    total = sum(mask)

    def kept(part: Sequence[int], *, end: bool) -> Effect:
        learnt = sum(part)
        return Effect(int(learnt > 0), learnt, total - learnt, int(not end and mask[-1] == 1))

    cut = kept([0, *mask[1:limit]], end=False)
    whole = Effect(-(-len(mask) // limit), total, 0, 0)
    return {
        "cut": cut,
        "keep-end": kept(mask[-(limit - 1) :], end=True),
        "split": whole if text else cut,
        "drop": Effect(0, 0, total, 0),
    }
