"""Quantizing a float base: group 64, 32 or 128 as the width allows, finer where its family asks.

A family of mlx-lm may have a `quant_predicate`: the routers of most mixtures of experts stay at 8
bit or as they are, because a token that is sent to the wrong expert is lost.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_lora.models.experts import is_packed_switch, make_switch
from mlx_lora.models.packing import group_for


def quantize_model(model: nn.Module, bits: int) -> list[str]:
    """Quantize linears, embeddings and experts in place, as `packed_forms` says.

    Returns:
        The names of those that stay as they are because no supported group divides their width.
    """
    forms, left = packed_forms(model, bits)
    nn.quantize(model, class_predicate=lambda name, _: forms.get(name, False))
    return left


def packed_forms(model: Any, bits: int) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """(how each module of a float model is packed, names of those no supported group fits).

    What the family's own predicate of mlx-lm leaves as it is is in neither.
    """
    own = getattr(model, "quant_predicate", None)
    forms: dict[str, dict[str, Any]] = {}
    left: list[str] = []
    for name, module in nn.utils.tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module):
        if not hasattr(module, "to_quantized") or is_packed(module):
            continue
        wanted = own(name, module) if own is not None else True
        group = group_for(module.weight.shape[-1])
        if not wanted:
            continue
        if group is None:
            left.append(name)
            continue
        form: dict[str, Any] = {"group_size": group, "bits": bits, "mode": "affine"}
        form |= wanted if isinstance(wanted, dict) else {}
        form["group_size"] = min(form["group_size"], group)
        forms[name] = form
    return forms, left


def dequantize_model(model: nn.Module, dtype: mx.Dtype) -> None:
    """Hold every quantized weight as exactly the float it stands for (rounded to `dtype`).

    One after the other, so that never more than one is held in both forms.
    """
    names = [name for name, module in model.named_modules() if is_packed(module)]
    found = dict(model.named_modules())
    packed = [found.pop(name) for name in reversed(names)]
    del found
    for name in names:
        made = _plain(packed.pop(), dtype)
        replace_module(model, name, made)
        mx.eval(made.parameters())


def is_packed(module: Any) -> bool:
    """Whether its weight is quantized: a linear, an embedding or a switch layer of experts."""
    known = isinstance(module, (nn.QuantizedLinear, nn.QuantizedEmbedding))
    return known or is_packed_switch(module)


def _plain(module: Any, dtype: mx.Dtype) -> nn.Module:
    weight = dequantized(module).astype(dtype)
    bias = module.bias.astype(dtype) if "bias" in module else None
    made: Any
    if is_packed_switch(module):
        made = make_switch(weight, bias)
    elif isinstance(module, nn.QuantizedEmbedding):
        made = nn.Embedding(1, 1)
    else:
        made = nn.Linear(1, 1, bias=bias is not None)
        if bias is not None:
            made.bias = bias
    made.weight = weight
    made.freeze()
    return made


def dequantized(module: Any) -> mx.array:
    """The float weight (out, in) of a quantized linear or embedding, float32.

    Of a switch layer (experts, out, in).
    """
    return dequantize_parts(
        module.weight,
        module.scales,
        module.biases if module.mode == "affine" else None,
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
    )


def dequantize_parts(
    weight: mx.array,
    scales: mx.array,
    biases: mx.array | None,
    *,
    group_size: int,
    bits: int,
    mode: str,
) -> mx.array:
    """The float32 weight (out, in) that packed numbers stand for; only affine ones have biases."""
    affine = mode == "affine"
    return mx.dequantize(
        weight,
        scales.astype(mx.float32) if affine else scales,
        biases.astype(mx.float32) if affine and biases is not None else None,
        group_size=group_size,
        bits=bits,
        mode=mode,
    )


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where `name` (as `named_modules` gives it) is."""
    *path, last = name.split(".")
    parent: Any = model
    for step in path:
        parent = parent[int(step)] if step.isdigit() else getattr(parent, step)
    if last.isdigit():
        parent[int(last)] = module
    else:
        setattr(parent, last, module)
