"""What the frozen layers make of every document, computed once and kept over the epochs.

Where only the last layers have adapters, hidden states below the first of them never change. They
are held in the base's own type where that has 16 bits, else in float16 while every number fits it,
else in float32, and go back in as the batch's `given`. Computed from a fixed sequence of batches,
so a resumed run gets the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from mlx_lora.data.batching import make_batch
from mlx_lora.events import Phase, Pulse
from mlx_lora.models.anatomy import FAULTS, near, trial_ids
from mlx_lora.training.layers import Passed, Watched, swapped

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from mlx_lora.data.render import Rendered
    from mlx_lora.models.anatomy import Anatomy

# positions computed at once while filling
_BATCH = 2048
_HALVES = (mx.float16, mx.bfloat16)


class PrefixCache:
    """Hidden states that go into layer `first`, of a list of documents.

    Attributes:
        size: bytes held.
    """

    def __init__(self, lengths: Sequence[int], width: int, kept: mx.Dtype, used: mx.Dtype) -> None:
        """For documents of `lengths` positions; `kept` is the type held, `used` the model's."""
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._kept, self._used = kept, used
        self._view = mx.uint32 if kept == mx.float32 else mx.uint16
        word = np.uint32 if kept == mx.float32 else np.uint16
        self._words = np.zeros((int(self._starts[-1]), width), word)
        self.size = self._words.nbytes

    def put(self, number: int, states: mx.array) -> bool:
        """Keep document `number`'s states (positions, width); False where they do not fit."""
        start, end = self._starts[number], self._starts[number + 1]
        held = states.astype(self._kept)
        self._words[start:end] = np.array(held.view(self._view))
        return bool(mx.isfinite(held).all().item())

    def gather(self, rows: Sequence[Sequence[int]], length: int) -> NDArray[Any]:
        """The bits of rows of documents (rows, length, width); padding is zero."""
        made = np.zeros((len(rows), length, self._words.shape[1]), self._words.dtype)
        for at, row in enumerate(rows):
            place = 0
            for number in row:
                start, end = self._starts[number], self._starts[number + 1]
                made[at, place : place + end - start] = self._words[start:end]
                place += end - start
        return made

    def states(self, bits: NDArray[Any]) -> mx.array:
        """What `gather` gave as hidden states of the model's type."""
        return mx.array(bits).view(self._kept).astype(self._used)


def fill(
    anatomy: Anatomy, first: int, documents: Sequence[Rendered], budget: int
) -> Generator[Phase, None, PrefixCache | None]:
    """Compute and keep; returns the cache, or None where it would take more than `budget` bytes."""
    lengths = [len(document.tokens) - 1 for document in documents]
    trial = _states(anatomy, first, documents[:1])
    width, used = trial.shape[-1], trial.dtype
    for kept in (used,) if used in _HALVES else (mx.float16, mx.float32):
        if sum(lengths) * width * kept.size > budget:
            return None
        cache = PrefixCache(lengths, width, kept, used)
        if (yield from _fill(cache, anatomy, first, documents)):
            return cache
    return None


def _fill(
    cache: PrefixCache, anatomy: Anatomy, first: int, documents: Sequence[Rendered]
) -> Generator[Phase, None, bool]:
    """Whether every state is a finite number in the type that is kept."""
    pulse, done = Pulse(), 0
    lengths = [len(document.tokens) - 1 for document in documents]
    yield Phase("frozen_layers", 0, len(documents))
    for group in _groups(lengths):
        if pulse.due():
            yield Phase("frozen_layers", done, len(documents))
        states = _states(anatomy, first, [documents[number] for number in group])
        for at, number in enumerate(group):
            if not cache.put(number, states[at, : lengths[number]]):
                return False
        done += len(group)
    return True


def can_replay(model: Any, anatomy: Anatomy, first: int) -> bool:
    """Whether this very model gives the same when what its first layers make is put in instead."""
    if not 0 < first < len(anatomy.layers):
        return False
    ids = trial_ids(model, 9)
    try:
        whole = anatomy.body(ids)
        states = _run_prefix(anatomy, first, ids)
        given = mx.array(np.array(states.astype(mx.float32))).astype(states.dtype)

        def choose(number: int, layer: Any) -> Any:
            if number >= first:
                return layer
            return Passed(layer, given if number == first - 1 else None)

        with swapped(anatomy.layers, choose):
            return near(anatomy.body(ids), whole)
    except FAULTS:
        return False


def _states(anatomy: Anatomy, first: int, documents: Sequence[Rendered]) -> mx.array:
    states = _run_prefix(anatomy, first, make_batch(documents).inputs)
    mx.eval(states)
    return states


def _run_prefix(anatomy: Anatomy, first: int, ids: mx.array) -> mx.array:
    """Hidden states (rows, length, width) behind layer `first - 1`."""
    watched: list[Watched] = []

    def choose(number: int, layer: Any) -> Any:
        if number < first - 1:
            return layer
        if number >= first:
            return Passed(layer)
        watched.append(Watched(layer))
        return watched[0]

    with swapped(anatomy.layers, choose):
        anatomy.body(ids)
    states: mx.array = watched[0].out
    return states


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Documents of like length, as many as a batch holds."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda at: (lengths[at], at)):
        if not groups or (len(groups[-1]) + 1) * lengths[number] > _BATCH:
            groups.append([])
        groups[-1].append(number)
    return groups
