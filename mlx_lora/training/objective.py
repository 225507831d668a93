"""A batch to the sum of its losses, in the form a run has chosen: every form, the same number.

Cross-entropy of the next token (nats) over the targets that are learnt, summed and not averaged:
the division by their number is the optimizer step's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx

from mlx_lora.models.anatomy import list_of_layers
from mlx_lora.training.head_loss import Tally, make_head_loss, tally
from mlx_lora.training.layers import Passed, Recomputed, swapped
from mlx_lora.training.packed import caches

if TYPE_CHECKING:
    from mlx_lora.data.batching import Batch
    from mlx_lora.models.anatomy import Anatomy


class Objective:
    """What one run minimises.

    Args:
        model: mlx-lm's model, adapter attached.
        anatomy: its parts. Without them there is no chunked loss and no packed row.
        chunked: never hold the logits of all positions (`head_loss`).
        recompute: 0 keeps every value for the backward pass, n computes every n-th layer again.
        first: the first layer that has an adapter; those before it are left out of batches that
            bring the hidden states.
        axes: of the mask of packed rows (`packed.packing_axes`).
    """

    def __init__(
        self,
        model: Any,
        anatomy: Anatomy | None = None,
        *,
        chunked: bool = False,
        recompute: int = 0,
        first: int = 0,
        axes: int = 1,
    ) -> None:
        self.model, self.anatomy, self.first, self._axes = model, anatomy, first, axes
        self._recompute = recompute
        self._head = anatomy.head if anatomy is not None and chunked else None
        self._loss = make_head_loss(self._head) if self._head is not None else None

    def loss(self, batch: Batch) -> mx.array:
        """Sum of the losses of the learnt targets."""
        if self._loss is None:
            losses, _ = self.token_losses(batch)
            return (losses * batch.weights).sum()
        return self._loss(self._learnt_states(batch), _learnt_targets(batch), batch.sure)

    def tally(self, batch: Batch) -> Tally:
        """Losses and right guesses summed, without a gradient."""
        if self._head is not None:
            return tally(self._head, self._learnt_states(batch), _learnt_targets(batch), batch.sure)
        losses, logits = self.token_losses(batch)
        right = (mx.argmax(logits, axis=-1) == batch.targets) * batch.weights
        return Tally((losses * batch.weights).sum(), right.sum())

    def token_losses(self, batch: Batch) -> tuple[mx.array, mx.array]:
        """Loss of every position (rows, length), float32, and the logits it came from."""
        with swapped(self._layers(), lambda number, layer: self._layer(number, layer, batch)):
            named = self._named(batch)
            logits = self.model(batch.inputs, **named).astype(mx.float32)
        picked = mx.take_along_axis(logits, batch.targets[..., None], axis=-1).squeeze(-1)
        return mx.logsumexp(logits, axis=-1) - picked, logits

    def _learnt_states(self, batch: Batch) -> mx.array:
        """Hidden states (n, width) at the places where something is learnt."""
        assert self.anatomy is not None
        with swapped(self._layers(), lambda number, layer: self._layer(number, layer, batch)):
            hidden = self.anatomy.body(batch.inputs, **self._named(batch))
        return hidden.reshape(-1, hidden.shape[-1])[batch.learnt]

    def _named(self, batch: Batch) -> dict[str, Any]:
        """The mask of packed rows as an argument, where there are any."""
        if batch.documents is None or self.anatomy is None:
            return {}
        return {"cache": caches(self.anatomy, batch.documents, self._axes)}

    def _layers(self) -> list[Any]:
        return self.anatomy.layers if self.anatomy is not None else list_of_layers(self.model)

    def _layer(self, number: int, layer: Any, batch: Batch) -> Any:
        if batch.given is not None and number < self.first:
            return Passed(layer, batch.given if number == self.first - 1 else None)
        if self._recompute and number % self._recompute == 0:
            return Recomputed(layer)
        return layer


def _learnt_targets(batch: Batch) -> mx.array:
    targets: mx.array = batch.targets.reshape(-1)[batch.learnt]
    return targets
