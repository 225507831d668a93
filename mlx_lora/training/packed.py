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

    `documents` (rows, length) numbers the document each position is of.
    """

    offset = 0

    def __init__(self, documents: mx.array) -> None:
        self._documents = documents
        self._made: dict[int | None, mx.array] = {}

    def make_mask(
        self,
        N: int,  # noqa: N803  (mlx-lm's own name)
        return_array: bool = False,  # noqa: ARG002
        window_size: int | None = None,
    ) -> mx.array:
        """Whom each position sees: (rows, 1, N, N) of bool; one mask a window for all layers."""
        if window_size not in self._made:
            places = mx.arange(N)
            seen = places[:, None] >= places[None]
            if window_size is not None:
                seen = seen & (places[:, None] < places[None] + window_size)
            same = self._documents[:, :, None] == self._documents[:, None, :]
            self._made[window_size] = (same & seen)[:, None]
        return self._made[window_size]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Every key and value there is."""
        return keys, values


def caches(anatomy: Anatomy, documents: mx.array | None) -> list[Any] | None:
    """What to call a body with as `cache=`; None where each row is one document."""
    if documents is None:
        return None
    mask = DocumentMask(documents)
    return [mask] * len(anatomy.layers)


def can_pack(model: Any, anatomy: Anatomy) -> bool:
    """Whether two documents in one row come out of this very model as each alone."""
    ids = trial_ids(model, 22)
    cut = 9
    documents = mx.array([[0] * cut + [1] * (22 - cut)])
    try:
        both = anatomy.body(ids, cache=caches(anatomy, documents))
        alone = [anatomy.body(part) for part in (ids[:, :cut], ids[:, cut:])]
        return near(both, mx.concatenate(alone, axis=1))
    except FAULTS:
        return False
