"""Several documents in one row: each position sees its own document's past and nothing else.

mlx-lm's families ask the cache of a layer for their mask (`create_attention_mask`), so an object
that looks like an empty cache brings the block-diagonal causal mask in without patching a model.
Rotary positions are relative, so documents need not begin at 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx

from mlx_lora.models.anatomy import FAULTS, near, trial_ids

if TYPE_CHECKING:
    from mlx_lora.models.anatomy import Anatomy


class DocumentMask:
    """In the place of a layer's cache: keeps nothing, and masks other documents.

    `documents` (rows, length) numbers the document each position is of. `axes` is how many axes of
    heads a family's scores have: 1, or 2 where it keeps groups of queries apart (Gemma 2).
    """

    offset = 0

    def __init__(self, documents: mx.array, axes: int) -> None:
        self._documents, self._axes = documents, axes
        self._made: dict[int | None, mx.array] = {}

    def make_mask(
        self,
        N: int,  # noqa: N803  (mlx-lm's own name)
        return_array: bool = False,  # noqa: ARG002
        window_size: int | None = None,
    ) -> mx.array:
        """Whom each position sees: (rows, 1.., N, N) of bool; one mask a window for all layers."""
        if window_size not in self._made:
            places = mx.arange(N)
            seen = places[:, None] >= places[None]
            if window_size is not None:
                seen = seen & (places[:, None] < places[None] + window_size)
            same = self._documents[:, :, None] == self._documents[:, None, :]
            rows = self._documents.shape[0]
            self._made[window_size] = (same & seen).reshape(rows, *[1] * self._axes, N, N)
        return self._made[window_size]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Every key and value there is."""
        return keys, values


def caches(anatomy: Anatomy, documents: mx.array, axes: int) -> list[DocumentMask]:
    """What to call a body with as `cache=`."""
    return [DocumentMask(documents, axes)] * len(anatomy.layers)


def packing_axes(model: Any, anatomy: Anatomy) -> int:
    """The axes of the mask with which documents in one row come out as each alone; 0 if with none.

    Tried on this very model with three rows cut at different places: a mask laid over the wrong
    axis would pass with one.
    """
    ids, cuts = trial_ids(model, 22, rows=3), (9, 4, 17)
    documents = mx.array([[0] * cut + [1] * (22 - cut) for cut in cuts])
    alone = [
        mx.concatenate([anatomy.body(row[:, :cut]), anatomy.body(row[:, cut:])], axis=1)
        for row, cut in zip(mx.split(ids, 3), cuts, strict=True)
    ]
    wanted = mx.concatenate(alone)
    return next((n for n in (1, 2) if _packs(anatomy, ids, documents, n, wanted)), 0)


def _packs(
    anatomy: Anatomy, ids: mx.array, documents: mx.array, axes: int, wanted: mx.array
) -> bool:
    try:
        return near(anatomy.body(ids, cache=caches(anatomy, documents, axes)), wanted)
    except FAULTS:
        return False
