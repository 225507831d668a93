"""AdamW on the adapter's numbers as one vector, its state as a flat set of named tensors.

mlx's own AdamW with bias correction (Loshchilov & Hutter 2019), element by element, so one vector
gives what a tensor at a time would, in a few operations in place of a few for every tensor. A and B
are not decayed unless asked: decay would pull the product towards the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.optimizers
from mlx.utils import tree_flatten, tree_unflatten

from mlx_lora.training.loss import flatten, split_like

if TYPE_CHECKING:
    from mlx_lora.config import TrainingConfig

_ALL, _MOMENTS = "all", ("m", "v")


class AdamW:
    """The optimizer of one run."""

    def __init__(self, model: Any, config: TrainingConfig) -> None:
        self._model = model
        self._inner = mlx.optimizers.AdamW(
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            bias_correction=True,
        )
        self._inner.init({_ALL: self._weights()})

    def advance(self, gradient: mx.array, rate: float, sound: mx.array) -> mx.array:
        """One step, not computed yet; `gradient` (numbers,) in the order of the trainable tensors.

        Where `sound` is false, or a weight would become no finite number, weights and moments stay
        as they are. Returns whether they moved.
        """
        weights, state = self._weights(), dict(self._inner.state)
        before = {name: state[_ALL][name] for name in _MOMENTS}
        self._inner.learning_rate = rate
        made = self._inner.apply_gradients({_ALL: gradient}, {_ALL: weights})[_ALL]
        moved = sound & mx.isfinite(made).all()
        self._put(mx.where(moved, made, weights))
        now = self._inner.state
        now["step"] = mx.where(moved, now["step"], state["step"])
        now[_ALL] = {name: mx.where(moved, now[_ALL][name], before[name]) for name in _MOMENTS}
        return moved

    def pending(self) -> list[mx.array]:
        """Everything a step changes, to be computed together."""
        values = [value for _, value in self._named()]
        return [*values, *self._inner.state[_ALL].values(), self._inner.state["step"]]

    def update(self, gradient: Any, rate: float) -> bool:
        """One step, computed; `gradient` is a tree like the trainable parameters.

        Returns False, and leaves weights and moments as they were, where the step would make a
        weight that is no finite number.
        """
        flat = flatten([value for _, value in tree_flatten(gradient)])
        moved = self.advance(flat, rate, mx.array(True))
        mx.eval(moved, self.pending())
        return bool(moved.item())

    def tensors(self) -> dict[str, mx.array]:
        """Step count, rate and both moments of every tensor."""
        state, named = self._inner.state, self._named()
        found = {"step": state["step"], "learning_rate": state["learning_rate"]}
        for moment in _MOMENTS:
            pieces = split_like(state[_ALL][moment], [value for _, value in named])
            names = [f"{name}.{moment}" for name, _ in named]
            found |= dict(zip(names, pieces, strict=True))
        return found

    def load(self, tensors: dict[str, mx.array]) -> None:
        """Continue from `tensors()` of the same model.

        Raises:
            ValueError: when the set of tensors is another one.
        """
        if tensors.keys() != self.tensors().keys():
            raise ValueError("the saved optimizer state belongs to other trainable tensors")
        names = [name for name, _ in self._named()]
        moments = {m: flatten([tensors[f"{name}.{m}"] for name in names]) for m in _MOMENTS}
        kept = {name: tensors[name] for name in ("step", "learning_rate")}
        self._inner.state = {**kept, _ALL: moments}
        self._inner.init({_ALL: self._weights()})

    def _named(self) -> list[tuple[str, mx.array]]:
        return list(tree_flatten(self._model.trainable_parameters()))

    def _weights(self) -> mx.array:
        return flatten([value for _, value in self._named()])

    def _put(self, flat: mx.array) -> None:
        named = self._named()
        pieces = split_like(flat, [value for _, value in named])
        names = [name for name, _ in named]
        self._model.update(tree_unflatten(list(zip(names, pieces, strict=True))))
