"""Next-token cross-entropy over the targets that are learnt, and its gradient.

The loss of an optimizer step is the sum over all targets of all its micro-batches divided by their
number, so accumulation over uneven batches gives exactly the gradient of one large batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import msgspec
from mlx.utils import tree_map

from mlx_lora.lora.attach import layer_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlx_lora.data.batching import Batch
    from mlx_lora.lora.layers import DropoutKey


class Gradient(msgspec.Struct, frozen=True):
    """Loss (nats a target) and gradient of one optimizer step.

    Attributes:
        tree: gradient of every trainable tensor, in the model's tree.
        norm: its global 2-norm, before any clipping.
        targets: how many tokens were learnt from.
    """

    loss: float
    tree: Any
    norm: float
    targets: int


def token_losses(model: Any, batch: Batch) -> tuple[mx.array, mx.array]:
    """Cross-entropy of every position (rows, length), float32, and the logits it came from."""
    logits = model(batch.inputs).astype(mx.float32)
    picked = mx.take_along_axis(logits, batch.targets[..., None], axis=-1).squeeze(-1)
    return mx.logsumexp(logits, axis=-1) - picked, logits


def loss_sum(model: Any, batch: Batch) -> mx.array:
    """Sum of the losses of the learnt targets."""
    losses, _ = token_losses(model, batch)
    return (losses * batch.weights).sum()


def step_gradient(
    model: Any,
    batches: Sequence[Batch],
    *,
    key: DropoutKey,
    seed: int,
    step: int,
    checkpoint_layers: bool = False,
) -> Gradient:
    """Loss and gradient of one optimizer step over its micro-batches."""
    targets = sum(batch.target_count for batch in batches)

    def share(batch: Batch) -> mx.array:
        with _recomputed_layers(model, checkpoint_layers):
            return loss_sum(model, batch) / targets

    compute = nn.value_and_grad(model, share)
    total, loss = None, 0.0
    for micro_batch, batch in enumerate(batches):
        key.set(seed, step, micro_batch)
        value, tree = compute(batch)
        total = tree if total is None else tree_map(mx.add, total, tree)
        mx.eval(value, total)
        loss += value.item()
    norm = mx.sqrt(sum(mx.square(g).sum() for _, g in nn.utils.tree_flatten(total)))
    return Gradient(loss, total, norm.item(), targets)


def clipped(gradient: Gradient, longest: float) -> Any:
    """The gradient's tree, shortened to `longest` where it is longer (Pascanu et al. 2013)."""
    if gradient.norm <= longest:
        return gradient.tree
    factor = longest / (gradient.norm + 1e-6)
    return tree_map(lambda g: g * factor, gradient.tree)


@contextmanager
def _recomputed_layers(model: Any, active: bool) -> Iterator[None]:
    """For one forward pass, let every layer keep only its inputs and be computed again.

    The list of layers is put back at once: no class and no module is changed for longer than the
    trace takes.
    """
    layers = _list_of_layers(model)
    originals = list(layers)
    if active:
        layers[:] = [_Recomputed(layer) for layer in originals]
    try:
        yield
    finally:
        layers[:] = originals


def _list_of_layers(model: Any) -> list[Any]:
    """The list itself: some families' `model.layers` is a copy made at every call."""
    place: Any = model
    for part in layer_prefix(model).removesuffix(".").split("."):
        place = place[int(part)] if part.isdigit() else place[part]
    return place


class _Recomputed:
    """A layer whose inner values are computed again in the backward pass (Chen et al. 2016)."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        # inputs given by name too, or what comes through them gets no gradient
        def call(parameters: Any, inputs: Any, named: Any) -> Any:
            self._layer.update(parameters)
            return self._layer(*inputs, **named)

        return mx.checkpoint(call)(self._layer.trainable_parameters(), inputs, named)
