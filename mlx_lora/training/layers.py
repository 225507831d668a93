"""Other calls in the place of a model's layers, for one forward pass.

The list of layers is swapped and put back at once: no class and no module is changed for longer
than the pass (or its trace) takes. A stand-in answers like its layer to everything but the call.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def swapped(layers: list[Any], choose: Callable[[int, Any], Any]) -> Iterator[None]:
    """Put `choose(number, layer)` in the place of every layer for as long as the block lasts."""
    originals = list(layers)
    layers[:] = [choose(number, layer) for number, layer in enumerate(originals)]
    try:
        yield
    finally:
        layers[:] = originals


class _StandIn:
    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class Recomputed(_StandIn):
    """A layer whose inner values are computed again in the backward pass (Chen et al. 2016)."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """As the layer."""

        # inputs given by name too, or what comes through them gets no gradient
        def call(parameters: Any, inputs: Any, named: Any) -> Any:
            self._layer.update(parameters)
            return self._layer(*inputs, **named)

        return mx.checkpoint(call)(self._layer.trainable_parameters(), inputs, named)


class Passed(_StandIn):
    """No layer: what comes in goes out, or a value given."""

    def __init__(self, layer: Any, given: mx.array | None = None) -> None:
        super().__init__(layer)
        self._given = given

    def __call__(self, hidden: Any, *_: Any, **__: Any) -> Any:
        """The hidden states (rows, length, width) after this layer."""
        return hidden if self._given is None else self._given


class Watched(_StandIn):
    """A layer that keeps what went out of it last."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.out: Any = None

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """As the layer."""
        self.out = self._layer(*inputs, **named)
        return self.out
