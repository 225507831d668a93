"""A row as the model sees it: what every part of the data step hands on."""

from __future__ import annotations

import msgspec


class Rendered(msgspec.Struct, frozen=True):
    """A row as the model sees it.

    Attributes:
        row: number of the row in its file.
        tokens: ids.
        mask: for each token, 1 where it is a target of the loss. The first token never is.
        cut: tokens that did not fit into the length limit.
        rest: those tokens, where the renderer keeps them.
        gap: how many of `tokens` stand before what was cut; None where all do.
        dropped: it is longer than the limit, and such rows are to be left out.
        end_cut: the end of its last answer, or of its text, was cut off.
        stops: of the whole row, a token that ends a generation is learnt.
        control: a text in it reads like a control token; to the model it is plain text.
    """

    row: int
    tokens: list[int]
    mask: list[int]
    cut: int = 0
    rest: tuple[int, ...] = ()
    gap: int | None = None
    dropped: bool = False
    end_cut: bool = False
    stops: bool = True
    control: bool = False

    @property
    def targets(self) -> int:
        """How many tokens are learnt."""
        return sum(self.mask)

    def whole(self) -> tuple[list[int], list[str]]:
        """All ids kept, what was cut off in its place, and of each `trained`, `masked` or `cut`."""
        gap = len(self.tokens) if self.gap is None else self.gap
        states = ["trained" if learnt else "masked" for learnt in self.mask]
        ids = [*self.tokens[:gap], *self.rest, *self.tokens[gap:]]
        return ids, [*states[:gap], *["cut"] * len(self.rest), *states[gap:]]
