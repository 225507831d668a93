"""The linears of a mixture of experts: mlx-lm's switch layers, one matrix an expert.

They are no `nn.Linear`, so whatever asks for linears asks here too.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mlx_lora.models.definitions import import_part

if TYPE_CHECKING:
    import mlx.core as mx


@functools.cache
def _kinds() -> tuple[type, type]:
    part = import_part("models.switch_layers")
    return part.SwitchLinear, part.QuantizedSwitchLinear


def is_switch(module: Any) -> bool:
    """Whether it holds a matrix (experts, out, in), packed or not."""
    return isinstance(module, _kinds())


def is_packed_switch(module: Any) -> bool:
    """Whether it holds a packed one."""
    return isinstance(module, _kinds()[1])


def make_switch(weight: mx.array, bias: mx.array | None) -> Any:
    """A switch layer of these tensors: (experts, out, in), (experts, out)."""
    made = _kinds()[0](1, 1, 1, bias=bias is not None)
    made.weight = weight
    if bias is not None:
        made.bias = bias
    return made
