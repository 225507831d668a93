"""Rows to a batch of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.data.render import Rendered


class Batch(msgspec.Struct, frozen=True):
    """Rows of one length, padded at the end.

    Attributes:
        inputs: ids (rows, length), int32.
        targets: the id after each input (rows, length), int32.
        weights: 1.0 where the target is learnt, else 0.0 (rows, length), float32.
        target_count: how many targets are learnt.
    """

    inputs: mx.array
    targets: mx.array
    weights: mx.array
    target_count: int


def make_batch(rows: Sequence[Rendered]) -> Batch:
    """Pad rows to the longest of them."""
    length = max(len(row.tokens) for row in rows) - 1
    inputs = np.zeros((len(rows), length), np.int32)
    targets = np.zeros((len(rows), length), np.int32)
    weights = np.zeros((len(rows), length), np.float32)
    for at, row in enumerate(rows):
        count = len(row.tokens) - 1
        inputs[at, :count] = row.tokens[:-1]
        targets[at, :count] = row.tokens[1:]
        weights[at, :count] = row.mask[1:]
    return Batch(mx.array(inputs), mx.array(targets), mx.array(weights), int(weights.sum()))
