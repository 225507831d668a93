"""The merged model as a folder: Hugging Face layout in 16 or 32 bit, or MLX's packed layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from mlx_lora.errors import UserError
from mlx_lora.export import tensor_file
from mlx_lora.export.folder import copy_tokenizer, settings, write_json, write_stops, write_template
from mlx_lora.export.requantize import quantize_weight
from mlx_lora.export.tensor_file import Group, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from mlx_lora.export.source import Source

DTYPES = {"F16": mx.float16, "BF16": mx.bfloat16, "F32": mx.float32}
_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
WEIGHTS = "model.safetensors"
_F16_LARGEST = 65504.0
Grams = dict[str, np.ndarray]


def half_type(source: Source) -> str:
    """The 16-bit type the base itself has, else F16."""
    return source.half_type()


def plan_plain(source: Source, dtype: str) -> list[Group]:
    """Every tensor merged and rounded once to `dtype` (F32, F16, BF16)."""
    return [
        Group([Part(name, dtype, source.extent(name))], _plain(source, name, dtype))
        for name in source.names()
    ]


# widths at which packing looks at what a layer's inputs are
WEIGHED = {4, 6}


def plan_packed(source: Source, bits: int, dtype: str, grams: Grams) -> list[Group]:
    """Every matrix merged and packed to `bits`, groups as its width allows; the rest as `dtype`.

    What the base holds packed so and nothing was added to stays as it is. `grams` (module ->
    X^T X of its inputs) tells where an error hurts; in 8 bit too little does for the model to be
    held in memory for it (measured: 98.2 % of the next tokens kept without, 98.7 % with).
    """
    groups: list[Group] = []
    weights = grams if bits in WEIGHED else {}
    for name in source.names():
        shape = source.extent(name)
        form = source.packed_as(name, bits)
        if form is None:
            groups.append(Group([Part(name, dtype, shape)], _plain(source, name, dtype)))
            continue
        (wanted, group), kept = form, source.packing(name) == form
        module = name.removesuffix(".weight")
        parts = [
            Part(name, "U32", (shape[0], shape[1] * wanted // 32)),
            Part(f"{module}.scales", dtype, (shape[0], shape[1] // group)),
            Part(f"{module}.biases", dtype, (shape[0], shape[1] // group)),
        ]
        make = (
            _kept(source, name, dtype)
            if kept
            else _packed(source, name, (wanted, group, dtype), weights.get(module))
        )
        groups.append(Group(parts, make, wanted, group))
    return groups


def write_folder(
    folder: Path, source: Source, groups: list[Group], dtype: str, bits: int | None
) -> Generator[tuple[int, int], None, dict[str, tuple[str, str]]]:
    """Weights, config.json, tokenizer; yields progress, returns what `tensor_file.write` does."""
    content = settings(source, _NAMES[dtype])
    if bits is not None:
        content["quantization"] = content["quantization_config"] = _quantization(groups, bits)
    write_json(folder / "config.json", content)
    copy_tokenizer(source.folder, folder)
    if source.template:
        write_template(folder, source.template)
        write_stops(folder, source.tokenizer.stop_ids)
    return (yield from tensor_file.write(folder / WEIGHTS, groups))


def _plain(source: Source, name: str, dtype: str) -> Callable[[], list[mx.array]]:
    def make() -> list[mx.array]:
        values = source.merged(name)
        if dtype == "F16" and values.size and np.abs(values).max() > _F16_LARGEST:
            why, fix = f"{name} has numbers too large for 16-bit floats", "use --quant bf16"
            raise UserError("cannot_export", "--quant f16", why, fix)
        return [mx.array(values).astype(DTYPES[dtype])]

    return make


def _packed(
    source: Source, name: str, form: tuple[int, int, str], gram: np.ndarray | None
) -> Callable[[], list[mx.array]]:
    bits, group, dtype = form

    def make() -> list[mx.array]:
        return list(
            quantize_weight(
                source.merged(name), bits=bits, group_size=group, gram=gram, dtype=DTYPES[dtype]
            )
        )

    return make


def _kept(source: Source, name: str, dtype: str) -> Callable[[], list[mx.array]]:
    def make() -> list[mx.array]:
        weight, scales, biases = source.packed(name)
        return [weight, scales.astype(DTYPES[dtype]), biases.astype(DTYPES[dtype])]

    return make


def _quantization(groups: list[Group], bits: int) -> dict[str, object]:
    """MLX's own settings; a module of another group size or width is named."""
    forms = {
        group.parts[0].name.removesuffix(".weight"): (group.group_size, group.bits)
        for group in groups
        if group.bits
    }
    sizes = [size for size, _ in forms.values()]
    common = max(set(sizes), key=sizes.count, default=64)
    odd = {
        name: {"group_size": size, "bits": width}
        for name, (size, width) in forms.items()
        if (size, width) != (common, bits)
    }
    return {"group_size": common, "bits": bits, "mode": "affine", **odd}
