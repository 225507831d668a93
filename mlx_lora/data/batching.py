"""Rows of documents to a batch of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mlx_lora.data.render import Rendered

# learnt positions are counted up to a multiple of this, so that few shapes come up
_GRAIN = 64


class Batch(msgspec.Struct, frozen=True):
    """Rows of one length, padded at the end. Arrays are NumPy's or, once `on_device`, MLX's.

    Attributes:
        inputs: ids (rows, length), int32.
        targets: the id after each input (rows, length), int32.
        weights: 1.0 where the target is learnt, else 0.0 (rows, length), float32.
        documents: which document of its row a position is of, counted from 0; padding counts as
            one more (rows, length), int32. None where every row holds one document.
        learnt: places of the learnt targets in the flattened rows, filled up with 0 (n,), int32.
        sure: 1.0 for each of them, 0.0 for what was filled up (n,), float32.
        target_count: how many targets are learnt.
        given: hidden states that go into the first adapted layer (rows, length, width), where they
            are known already.
    """

    inputs: Any
    targets: Any
    weights: Any
    documents: Any
    learnt: Any
    sure: Any
    target_count: int
    given: Any = None

    def on_device(self) -> Batch:
        """The same as MLX arrays."""
        return Batch(
            mx.array(self.inputs),
            mx.array(self.targets),
            mx.array(self.weights),
            None if self.documents is None else mx.array(self.documents),
            mx.array(self.learnt),
            mx.array(self.sure),
            self.target_count,
            self.given,
        )


def make_batch(rows: Sequence[Rendered]) -> Batch:
    """One document a row, padded to the longest of them."""
    return lay_out([[row] for row in rows], max(len(row.tokens) for row in rows) - 1).on_device()


def lay_out(rows: Sequence[Sequence[Rendered]], length: int) -> Batch:
    """Rows of `length` positions, each with documents one after the other, in NumPy arrays.

    A document of n tokens takes n - 1 positions: its last token is only a target.
    """
    inputs = np.zeros((len(rows), length), np.int32)
    targets = np.zeros((len(rows), length), np.int32)
    weights = np.zeros((len(rows), length), np.float32)
    documents = np.zeros((len(rows), length), np.int32)
    for at, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row):
            end = start + len(document.tokens) - 1
            inputs[at, start:end] = document.tokens[:-1]
            targets[at, start:end] = document.tokens[1:]
            weights[at, start:end] = document.mask[1:]
            documents[at, start:end] = number
            start = end
        documents[at, start:] = len(row)
    learnt, sure = _learnt(weights)
    several = any(len(row) > 1 for row in rows)
    return Batch(
        inputs, targets, weights, documents if several else None, learnt, sure, int(sure.sum())
    )


def _learnt(weights: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    places = np.flatnonzero(weights).astype(np.int32)
    size = min(weights.size, max(1, -(-len(places) // _GRAIN)) * _GRAIN)
    learnt, sure = np.zeros(size, np.int32), np.zeros(size, np.float32)
    learnt[: len(places)], sure[: len(places)] = places, 1.0
    return learnt, sure
