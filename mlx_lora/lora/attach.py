"""Which linears get an adapter, putting it there, and taking it away again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import mlx.core as mx
import mlx.nn as nn
import msgspec
from mlx.utils import tree_flatten

from mlx_lora.config import no_such_target, too_many_layers
from mlx_lora.errors import UserError
from mlx_lora.events import Notice
from mlx_lora.lora.layers import DoRALinear, DropoutKey, LoRALinear, lora_layer, widths
from mlx_lora.lora.targets import by_name, in_group
from mlx_lora.models.anatomy import layer_path
from mlx_lora.models.experts import is_switch
from mlx_lora.models.quantize import is_packed, replace_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_lora.config import AdapterConfig


class AdapterShape(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the numbers: what mlx-lm's adapter_config.json says.

    Attributes:
        keys: module names inside a layer (`self_attn.q_proj`), or whole names outside the layers.
        layers: how many of the last layers are adapted.
        kind: `lora`, or `dora` for an adapter of another program.
    """

    rank: int
    scale: float
    dropout: float
    layers: int
    keys: tuple[str, ...]
    kind: Literal["lora", "dora"] = "lora"


class Adapter:
    """The adapter layers of a model, by module name.

    Attributes:
        modules: name in the model -> layer.
    """

    def __init__(self, model: Any, shape: AdapterShape, modules: dict[str, LoRALinear]) -> None:
        self._model, self.shape, self.modules = model, shape, modules
        self.dropout_key = DropoutKey()
        for module in modules.values():
            module.use_dropout(shape.dropout, self.dropout_key)

    def tensors(self) -> dict[str, mx.array]:
        """`<module>.lora_a`, `.lora_b` (DoRA: `.m`), as the adapter file has them."""
        return {
            f"{name}.{part}": module[part]
            for name, module in self.modules.items()
            for part in module.parts
        }

    def load(self, tensors: dict[str, mx.array]) -> None:
        """Put tensors of exactly `tensors()`'s names and shapes in place."""
        for name, module in self.modules.items():
            for part in module.parts:
                module[part] = tensors[f"{name}.{part}"].astype(mx.float32)

    def scale_by(self, strength: float) -> None:
        """Turn the whole adapter up or down."""
        for module in self.modules.values():
            module.scale = self.shape.scale * strength

    def train(self, active: bool) -> None:
        """Dropout on while training, off while measuring; the base has none."""
        for module in self.modules.values():
            module.train(active)

    def parameter_count(self) -> int:
        """Trainable numbers."""
        return sum(tensor.size for tensor in self.tensors().values())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base alone, for as long as the block lasts."""
        for module in self.modules.values():
            module.enabled = False
        try:
            yield
        finally:
            for module in self.modules.values():
                module.enabled = True

    def detach(self) -> None:
        """Give the model its own linears back."""
        for name, module in self.modules.items():
            replace_module(self._model, name, module.linear)


def choose_shape(model: Any, config: AdapterConfig) -> tuple[AdapterShape, list[Notice]]:
    """The shape a configuration asks for on this model, and what a person should know about it.

    Raises:
        UserError: `bad_option`, listing the names that exist.
    """
    total = len(model.layers)
    layers = total if config.layers == "all" else config.layers
    if layers > total:
        raise too_many_layers(layers, total)
    keys = _choose_keys(model, config.targets)
    shape = AdapterShape(
        rank=config.rank,
        scale=config.scale,
        dropout=config.dropout,
        layers=layers,
        keys=tuple(sorted(keys)),
    )
    reached = target_linears(model, shape)
    if not reached:
        why, fix = "these layers have none of the targets", "choose more layers, or all"
        raise UserError("bad_option", f"--layers {layers}", why, fix)
    narrowest = min(min(widths(linear)) for linear in reached.values())
    notices = []
    if config.rank > narrowest:
        text = (
            f"Rank {config.rank} is above the narrowest layer's width ({narrowest}); "
            f"more than {narrowest} adds nothing."
        )
        notices.append(Notice(level="warning", code="rank_above_width", text=text))
    return shape, notices


def target_linears(model: Any, shape: AdapterShape) -> dict[str, nn.Module]:
    """The linears a shape reaches, by their name in the model."""
    first = len(model.layers) - shape.layers
    prefix = f"{layer_path(model)}."
    found = {}
    for name, module in linears(model).items():
        index, inner = _inside(name, prefix)
        if (inner in shape.keys and index >= first) if inner else name in shape.keys:
            found[name] = module
    return found


def attach(model: Any, shape: AdapterShape) -> Adapter:
    """Put adapter layers (zero, so nothing changes yet) beside the linears of `shape`."""
    modules: dict[str, LoRALinear] = {}
    kind = DoRALinear if shape.kind == "dora" else lora_layer
    for name, linear in target_linears(model, shape).items():
        modules[name] = kind(linear, rank=shape.rank, scale=shape.scale, name=name)
        replace_module(model, name, modules[name])
    model.freeze()
    for module in modules.values():
        module.unfreeze(recurse=False, keys=list(module.parts))
    return Adapter(model, shape, modules)


def linears(model: Any) -> dict[str, nn.Module]:
    """Every linear of a model by name, a switch layer of experts being one."""
    kinds = (nn.Linear, nn.QuantizedLinear)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds) or is_switch(module)
    }


def total_parameters(model: Any) -> int:
    """Weights of the model, each counted once however it is packed; adapter layers not counted."""
    count = 0
    for name, module in model.named_modules():
        own = {key: value for key, value in module.items() if isinstance(value, mx.array)}
        if is_packed(module):
            count += own["weight"].size * 32 // module.bits + (
                own["bias"].size if "bias" in own else 0
            )
        elif not isinstance(module, LoRALinear):
            count += sum(
                value.size
                for key, value in own.items()
                if not key.startswith("_") and name is not None
            )
    return count


def trainable_names(model: Any) -> set[str]:
    """The names of what the optimizer may change."""
    return {name for name, _ in tree_flatten(model.trainable_parameters())}


def _choose_keys(model: Any, targets: tuple[str, ...]) -> set[str]:
    prefix = f"{layer_path(model)}."
    inside = {_inside(name, prefix)[1] for name in linears(model)} - {""}
    outside = {name for name in linears(model) if not name.startswith(prefix)}
    keys: set[str] = set()
    for target in targets:
        found = in_group(inside, target) or by_name(inside | outside, target)
        if not found:
            raise no_such_target(target, inside | outside)
        keys |= found
    return keys


def _inside(name: str, prefix: str) -> tuple[int, str]:
    """(layer number, name inside the layer), or (-1, "") for a module outside the layers."""
    if not name.startswith(prefix):
        return -1, ""
    index, _, inner = name.removeprefix(prefix).partition(".")
    return int(index), inner
