"""AdamW on the adapter's tensors, its state as a flat set of named tensors.

mlx's own AdamW with bias correction (Loshchilov & Hutter 2019). A and B are not decayed unless
asked: decay would pull the product towards the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.optimizers
from mlx.utils import tree_flatten, tree_map, tree_unflatten

if TYPE_CHECKING:
    from mlx_lora.config import TrainingConfig


class AdamW:
    """The optimizer of one run."""

    def __init__(self, model: Any, config: TrainingConfig) -> None:
        self._model = model
        self._inner = mlx.optimizers.AdamW(
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            bias_correction=True,
        )
        self._inner.init(model.trainable_parameters())

    def update(self, gradient: Any, rate: float) -> bool:
        """One step with a learning rate; `gradient` is a tree like the trainable parameters.

        Returns False, and leaves weights and moments as they were, where the step would make a
        weight that is no finite number.
        """
        weights = self._model.trainable_parameters()
        state = tree_map(lambda tensor: tensor, self._inner.state)
        self._inner.learning_rate = rate
        self._inner.update(self._model, gradient)
        made = self._model.trainable_parameters()
        finite = mx.stack([mx.isfinite(tensor).all() for _, tensor in tree_flatten(made)]).all()
        mx.eval(made, self._inner.state, finite)
        if finite.item():
            return True
        self._model.update(weights)
        self._inner.state = state
        return False

    def tensors(self) -> dict[str, mx.array]:
        """Step count, rate and both moments of every tensor."""
        return dict(tree_flatten(self._inner.state))

    def load(self, tensors: dict[str, mx.array]) -> None:
        """Continue from `tensors()` of the same model.

        Raises:
            ValueError: when the set of tensors is another one.
        """
        if tensors.keys() != self.tensors().keys():
            raise ValueError("the saved optimizer state belongs to other trainable tensors")
        self._inner.state = tree_unflatten(list(tensors.items()))
        self._inner.init(self._model.trainable_parameters())
