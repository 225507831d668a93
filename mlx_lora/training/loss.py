"""The gradient of one optimizer step.

The loss of an optimizer step is the sum over all targets of all its micro-batches divided by their
number, so accumulation over uneven batches gives exactly the gradient of one large batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mlx_lora.data.batching import Batch
from mlx_lora.training.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlx_lora.lora.layers import DropoutKey

# no step has so many micro-batches
_RANKS_APART = 1 << 20


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


class LazyGradient(msgspec.Struct, frozen=True):
    """The same not computed yet.

    Attributes:
        loss: one number.
        flat: the gradients of all trainable tensors one after the other (numbers,), float32.
    """

    loss: mx.array
    flat: mx.array


class Differentiation:
    """Value and gradient of an objective by the trainable tensors, as one flat vector.

    `compiled` hands the whole pass to mx.compile: one trace for every shape of a batch.
    """

    def __init__(self, objective: Objective, key: DropoutKey, *, compiled: bool = False) -> None:
        self._objective, self._key = objective, key
        self._model = objective.model
        self._names = [name for name, _ in tree_flatten(self._model.trainable_parameters())]
        compute = mx.value_and_grad(self._share)
        if compiled:
            mx.enable_compile()  # on Linux it is off until somebody wants it (blas.py)
        self._compute: Callable[..., Any] = (
            mx.compile(_flattened(compute)) if compiled else (_flattened(compute))
        )

    def step(
        self, batches: Sequence[Batch], targets: int, seed: int, step: int, rank: int = 0
    ) -> LazyGradient:
        """Sum over the micro-batches of loss and gradient, divided by `targets`.

        All but the last micro-batch are computed at once, or their graphs would pile up. Without
        one both are zero. `rank` draws dropout masks of its own.
        """
        loss, flat = mx.array(0.0), None
        weights = [value for _, value in tree_flatten(self._model.trainable_parameters())]
        share = mx.array(1.0 / max(1, targets), mx.float32)
        for number, batch in enumerate(batches):
            self._key.set(seed, step, number + rank * _RANKS_APART)
            key = self._key.key
            try:
                value, part = self._compute(weights, _arrays(batch), key, share)
            finally:
                self._put(weights)
                self._key.key = key
            loss = loss + value
            flat = part if flat is None else flat + part
            if number + 1 < len(batches):
                mx.eval(loss, flat)
        if flat is None:
            flat = mx.zeros(sum(weight.size for weight in weights))
        return LazyGradient(loss, flat)

    def tree(self, flat: mx.array) -> Any:
        """A flat vector as a tree like the trainable parameters."""
        return tree_unflatten(list(zip(self._names, self._parts(flat), strict=True)))

    def _parts(self, flat: mx.array) -> list[mx.array]:
        return split_like(flat, [v for _, v in tree_flatten(self._model.trainable_parameters())])

    def _share(
        self, weights: list[mx.array], arrays: dict[str, mx.array], key: mx.array, share: mx.array
    ) -> mx.array:
        self._put(weights)
        self._key.key = key
        return self._objective.loss(_batch(arrays)) * share

    def _put(self, weights: list[mx.array]) -> None:
        self._model.update(tree_unflatten(list(zip(self._names, weights, strict=True))))


def step_gradient(
    model: Any,
    batches: Sequence[Batch],
    *,
    key: DropoutKey,
    seed: int,
    step: int,
    checkpoint_layers: bool = False,
    objective: Objective | None = None,
) -> Gradient:
    """Loss and gradient of one optimizer step over its micro-batches, computed."""
    chosen = objective or Objective(model, recompute=int(checkpoint_layers))
    differentiation = Differentiation(chosen, key)
    targets = sum(batch.target_count for batch in batches)
    found = differentiation.step(batches, targets, seed, step)
    norm = norm_of(found.flat)
    mx.eval(found.loss, found.flat, norm)
    return Gradient(found.loss.item(), differentiation.tree(found.flat), norm.item(), targets)


def clipped(gradient: Gradient, longest: float) -> Any:
    """The gradient's tree, shortened to `longest` where it is longer (Pascanu et al. 2013)."""
    if gradient.norm <= longest:
        return gradient.tree
    factor = longest / (gradient.norm + 1e-6)
    return tree_map(lambda g: g * factor, gradient.tree)


def norm_of(flat: mx.array) -> mx.array:
    """The 2-norm."""
    return mx.sqrt(mx.square(flat).sum())


def split_like(flat: mx.array, tensors: Sequence[mx.array]) -> list[mx.array]:
    """A flat vector in pieces of the shapes of `tensors`."""
    ends, at = [], 0
    for tensor in tensors[:-1]:
        at += tensor.size
        ends.append(at)
    pieces = mx.split(flat, ends) if ends else [flat]
    return [p.reshape(t.shape) for p, t in zip(pieces, tensors, strict=True)]


def flatten(tensors: Sequence[mx.array]) -> mx.array:
    """Tensors one after the other (numbers,), float32."""
    return mx.concatenate([tensor.astype(mx.float32).reshape(-1) for tensor in tensors])


def _flattened(compute: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> tuple[mx.array, mx.array]:
        value, gradients = compute(*arguments)
        return value, flatten(gradients)

    return call


# the arrays of a batch, as one tree for mx.compile
_ARRAYS = ("inputs", "targets", "weights", "documents", "learnt", "sure", "given")


def _arrays(batch: Batch) -> dict[str, mx.array]:
    found = {name: getattr(batch, name) for name in _ARRAYS}
    return {name: array for name, array in found.items() if array is not None}


def _batch(arrays: dict[str, mx.array]) -> Batch:

    return Batch(**{name: arrays.get(name) for name in _ARRAYS}, target_count=0)
