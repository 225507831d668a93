"""Rows that are longer than the limit: cut, their end kept, split into windows, or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_lora.data.rendered import Rendered

LongRowsChoice = Literal["cut", "keep-end", "split", "drop"]
# natural borders of a text, best first
_BORDERS = ("\n\n", "\n", ". ", " ")


class Limit(msgspec.Struct, frozen=True):
    """How long a row may be, and what is done with a longer one.

    Attributes:
        length: most tokens of a row.
        overlap: tokens a window repeats of the one before; at most half of a window.
        bos_id: the start token, which stays at the front of whatever is kept.
    """

    length: int
    choice: LongRowsChoice = "cut"
    overlap: int = 0
    bos_id: int | None = None

    def fit(self, row: Rendered, *, keep_rest: bool) -> Rendered:
        """A row of any length within the limit; the first token follows nothing: no target."""
        mask = [0, *row.mask[1:]]
        count, over = len(row.tokens), len(row.tokens) - self.length
        if over <= 0:
            return msgspec.structs.replace(row, mask=mask)
        dropped = self.choice == "drop"
        gap, back = self.length, count
        if self.choice == "keep-end":
            gap = min(self.length, len(self.head(row.tokens)))
            back = gap + over
        kept = [0, *mask[1:gap], *mask[back:]] if gap else [0, *mask[back + 1 :]]
        return msgspec.structs.replace(
            row,
            tokens=row.tokens[:gap] + row.tokens[back:],
            mask=[0] * self.length if dropped else kept,
            cut=over,
            rest=tuple(row.tokens[gap:back]) if keep_rest else (),
            gap=gap,
            dropped=dropped,
            end_cut=not dropped and 1 in mask and gap <= _last(mask) < back,
        )

    def head(self, tokens: list[int]) -> list[int]:
        """The start token a row begins with, if it does."""
        return [self.bos_id] if self.bos_id is not None and tokens[:1] == [self.bos_id] else []

    def windows(
        self, text: str, head: list[int], ids: list[int], offsets: list[tuple[int, int]]
    ) -> Iterator[tuple[list[int], list[int]]]:
        """(tokens, mask) of a text in windows that end at natural borders, each behind `head`.

        `offsets` are the characters of `text` that each of `ids` stands for. Every id is learnt
        once, but the first of a window that follows nothing.
        """
        room = max(1, self.length - len(head))
        overlap = min(self.overlap, room // 2)
        start, first = 0, 0
        if head and ids[:1] == head:  # the text may begin with the start token
            start = first = 1
        while start < len(ids):
            before = max(first, start - overlap)
            stop = min(before + room, len(ids))
            if stop < len(ids):  # the end token alone would be nothing to learn
                stop = _border(text, offsets, start, max(start + 1, min(stop, len(ids) - 2)))
            tokens = head + ids[before:stop]
            repeated = len(head) + start - before
            mask = [0] * repeated + [1] * (stop - start)
            yield tokens, [0, *mask[1:]]
            start = stop


def _last(mask: list[int]) -> int:
    """Where the last target is."""
    return len(mask) - 1 - mask[::-1].index(1)


def _border(text: str, offsets: list[tuple[int, int]], start: int, stop: int) -> int:
    """The last token behind a natural border in the second half of the block."""
    for border in _BORDERS:
        for at in range(stop, start + (stop - start) // 2, -1):
            begin = offsets[at][0]
            if (
                text[max(0, begin - len(border)) : begin] == border
                or text[begin : begin + 1] == border
            ):
                return at
    return stop
