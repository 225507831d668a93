"""One optimizer step as one graph: gradient, clipping, guard and update are computed together.

The host reads the loss a step late, so it never waits while the engine has nothing to do. A step
whose loss, gradient or weights would be no finite number changes nothing, and neither does any step
after it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora.training.loss import LazyGradient, norm_of
from mlx_lora.training.peers import Peers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.data.batching import Batch
    from mlx_lora.training.loss import Differentiation
    from mlx_lora.training.optimizers import AdamW


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is being computed.

    Attributes:
        loss, norm: nats a target, and the gradient's 2-norm before clipping; one number each.
        moved: whether it changed the weights.
        targets: how many tokens are learnt from.
        rate: its learning rate.
        began: when it was handed over, `time.perf_counter`.
    """

    step: int
    loss: Any
    norm: Any
    moved: Any
    targets: int
    rate: float
    began: float


class Stepper:
    """Makes the steps of one run."""

    def __init__(
        self,
        differentiation: Differentiation,
        optimizer: AdamW,
        *,
        clip: float,
        seed: int,
        peers: Peers | None = None,
    ) -> None:
        self._differentiation, self._optimizer = differentiation, optimizer
        self._peers = peers or Peers()
        self._clip, self._seed = clip, seed
        self._sound = mx.array(True)

    def launch(
        self, step: int, batches: Sequence[Batch], rate: float, targets: int | None = None
    ) -> Pending:
        """Hand a step to the engine without waiting for it, but for what peers add to it.

        `targets` are those of all ranks, so that what is added up is their mean.
        """
        began = time.perf_counter()
        if targets is None:
            targets = sum(batch.target_count for batch in batches)
        rank = self._peers.rank
        found = self._differentiation.step(batches, targets, self._seed, step, rank)
        if self._peers.size > 1:
            total = self._peers.sum(mx.concatenate([found.loss.reshape(1), found.flat]))
            found = LazyGradient(total[0], total[1:])
        norm = norm_of(found.flat)
        # longer gradients are shortened (Pascanu et al. 2013); others pass bit for bit
        factor = mx.where(norm <= self._clip, 1.0, self._clip / (norm + 1e-6))
        sound = self._sound & mx.isfinite(found.loss) & mx.isfinite(norm)
        moved = self._optimizer.advance(found.flat * factor, rate, sound)
        self._sound = moved
        mx.async_eval(found.loss, norm, moved, *self._optimizer.pending())
        return Pending(
            step=step,
            loss=found.loss,
            norm=norm,
            moved=moved,
            targets=targets,
            rate=rate,
            began=began,
        )
