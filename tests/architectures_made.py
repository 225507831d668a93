"""The catalogue's models, small: each one's shape scaled down, with what its family has beside it.

What is kept of a shape: how many heads share a key head, whether heads are as wide together as
the hidden states, whether the output matrix is that of the embeddings, which layers slide, how
positions are scaled, how many of its experts a token goes through. Widths are multiples of 32, so
that every matrix can be packed.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
from models_made import LLAMA3_ROPE, make_model

from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.models.catalog import Entry
    from mlx_lora.models.shape import Shape

HEAD, GROUP = 32, 32
# every sixth layer of Gemma 3 sees everything: one round of them, and one of the next
_GEMMA_LAYERS = 7


def make_architecture(folder: Path, entry: Entry) -> Path:
    """A random model of an entry's architecture, float32."""
    settings = scaled_down(entry.shape) | _positions(entry)
    return make_model(folder, entry.shape.family, tied=entry.shape.tied, **settings)


def scaled_down(shape: Shape) -> dict[str, Any]:
    """The sizes for config.json."""
    shared = math.gcd(shape.heads, shape.kv_heads)
    heads, key_heads = shape.heads // shared, shape.kv_heads // shared
    if heads == 1:
        heads, key_heads = 2, 2
    free = shape.query_width != shape.hidden
    hidden = 96 if free else heads * HEAD
    inner = GROUP * max(1, round(hidden * shape.intermediate / shape.hidden / GROUP))
    settings: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "num_hidden_layers": _GEMMA_LAYERS if shape.family == "gemma3_text" else 2,
    }
    if shape.family != "phi3":  # which has no place for it
        settings["head_dim"] = HEAD
    if shape.experts:
        settings["num_local_experts"] = shape.experts // 8
        settings["num_experts_per_tok"] = shape.active // 2
    return settings


def _positions(entry: Entry) -> dict[str, Any]:
    """Windows and scaled positions, as the family's own config.json has them."""
    if entry.title.startswith("Llama 3.2"):
        return {"rope_scaling": LLAMA3_ROPE, "rope_theta": 500000.0}
    match entry.shape.family:
        case "gemma3_text":
            kinds = ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(7)]
            more = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
            own = more if entry.title == "Gemma 3 4B" else {}
            return {
                "sliding_window_pattern": 6, "layer_types": kinds, "query_pre_attn_scalar": HEAD,
                **own,
            }  # fmt: skip
        case "phi3":
            factors = [1.0 + n / 4 for n in range(HEAD * 3 // 8)]
            return {
                "partial_rotary_factor": 0.75, "original_max_position_embeddings": 64,
                "rope_scaling": {
                    "type": "longrope", "long_factor": factors, "short_factor": [1.0] * len(factors)
                },
            }  # fmt: skip
        case "gpt_oss":
            yarn = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0}
            yarn |= {"original_max_position_embeddings": 64, "truncate": False}
            return {"rope_scaling": yarn, "rope_theta": 150000.0}
        case _:
            return {}


def pack(source: Path, folder: Path) -> Path:
    """A 4-bit copy as MLX's community has them: GPT-OSS's experts mxfp4, its router 8 bit."""
    module = load_model(str(source)).module
    settings: dict[str, Any] = {"group_size": GROUP, "bits": 4, "mode": "affine"}
    experts = {"group_size": GROUP, "bits": 4, "mode": "mxfp4"}
    own: dict[str, Any] = {}

    def choose(name: str, part: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(part, "to_quantized"):
            return False
        form = experts if ".experts." in name else settings
        form = settings | {"bits": 8} if name.endswith("router") else form
        if form is not settings:
            own[name] = form
        return form

    nn.quantize(module, class_predicate=choose)
    folder.mkdir()
    for file in source.glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    weights = dict(nn.utils.tree_flatten(module.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = settings | own
    (folder / "config.json").write_text(json.dumps(config))
    return folder
