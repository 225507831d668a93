"""The adapter in PEFT's format: `adapter_model.safetensors` and `adapter_config.json`.

PEFT's A is our a transposed, (rank, in), its B our b transposed, (out, rank); lora_alpha = scale *
rank, an integer where it is one (Ollama's reader refuses 160.0). rsLoRA is never said: our scale is
the whole factor.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec
import numpy as np

from mlx_lora.export.folder import write_json
from mlx_lora.export.limits import check_peft
from mlx_lora.export.source import Delta
from mlx_lora.export.tensor_file import Group, Part

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.export.source import Source

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def plan_peft(source: Source) -> list[Group]:
    """The adapter's tensors by PEFT's names, float32.

    Raises:
        UserError: `cannot_export` for an adapter on experts.
    """
    check_peft(source.family, {name: delta.a.shape for name, delta in source.deltas.items()})
    groups = []
    for name, delta in source.deltas.items():
        arrays = {"lora_A.weight": delta.a.T, "lora_B.weight": delta.b.T}
        if delta.magnitude is not None:
            arrays["lora_magnitude_vector"] = delta.magnitude
        groups += [_group(f"{_PREFIX}{name}.{part}", values) for part, values in arrays.items()]
    return groups


def write_config(folder: Path, source: Source) -> None:
    """adapter_config.json beside the tensors."""
    shape = source.shape
    assert shape is not None
    alpha = shape.scale * shape.rank
    total = source.settings["num_hidden_layers"]
    inside = any(".layers." in name for name in source.deltas)
    some = shape.layers < total and inside
    content: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source.name if _HUB_ID.fullmatch(source.name) else None,
        "r": shape.rank,
        "lora_alpha": round(alpha) if abs(alpha - round(alpha)) < 1e-9 else alpha,  # noqa: PLR2004
        "lora_dropout": shape.dropout,
        "target_modules": sorted({name.rpartition(".")[2] for name in source.deltas}),
        "layers_to_transform": list(range(total - shape.layers, total)) if some else None,
        "layers_pattern": "layers" if some else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": any(delta.magnitude is not None for delta in source.deltas.values()),
        "use_rslora": False,
    }
    write_json(folder / CONFIG, content)


def read_peft(folder: Path) -> dict[str, Delta]:
    """An adapter as PEFT would understand it: module -> what it adds.

    Only what `plan_peft` writes: one rank, alpha / rank, all modules alike.
    """
    config = msgspec.json.decode((folder / CONFIG).read_bytes())
    arrays = {
        name.removeprefix(_PREFIX): np.array(tensor)
        for name, tensor in mx.load(str(folder / WEIGHTS), format="safetensors").items()
    }
    names = [n.removesuffix(".lora_A.weight") for n in arrays if n.endswith(".lora_A.weight")]
    return {
        name: Delta(
            arrays[f"{name}.lora_A.weight"].T,
            arrays[f"{name}.lora_B.weight"].T,
            config["lora_alpha"] / config["r"],
            arrays.get(f"{name}.lora_magnitude_vector"),
        )
        for name in names
    }


def _group(name: str, values: np.ndarray) -> Group:
    return Group(
        [Part(name, "F32", values.shape)], lambda: [mx.array(np.ascontiguousarray(values))]
    )
