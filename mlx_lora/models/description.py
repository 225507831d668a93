"""`config.json` of a model, checked before anything is built from it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.models.tensors import TensorInfo

_SIZES = {
    "hidden_size": 1 << 17,
    "num_hidden_layers": 1000,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "intermediate_size": 1 << 20,
    "vocab_size": 1 << 22,
    "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 28,
}
_NEEDED = ("model_type", "hidden_size", "num_hidden_layers")


def read_description(folder: Path) -> dict[str, Any]:
    """The model's `config.json`, checked and brought to one form, with all its stop tokens.

    A text model inside a multimodal file (`text_config`) keeps its own layout: mlx-lm's definitions
    read it.

    Raises:
        UserError: `bad_model`.
    """
    path = folder / "config.json"
    description = _read_object(path)
    if description is None:
        raise UserError("bad_model", show(folder), "it holds no config.json", "name a model folder")
    if "model_file" in description or "auto_map" in description:
        why = "it wants to run its own Python code, which Understudy never does"
        raise UserError("bad_model", show(path), why, "use a model whose type is built in")
    core = description.get("text_config", description)
    if not isinstance(core, dict):
        raise _bad(path, "text_config is no group of settings")
    core.setdefault("model_type", description.get("model_type"))
    if core is not description:  # Gemma 3's files leave it out: then the weights tell
        core.setdefault("vocab_size", description.get("vocab_size"))
    elif core.get("vocab_size") is None:
        raise _bad(path, "vocab_size is missing")
    _check_type(path, description.get("model_type"))
    _check_numbers(path, core)
    _settle_rope(path, core)
    generation = _read_object(folder / "generation_config.json") or {}
    stops = [
        description.get("eos_token_id"),
        core.get("eos_token_id"),
        generation.get("eos_token_id"),
    ]
    description["stop_token_ids"] = sorted({n for stop in stops for n in _numbers(stop)})
    return description


def core_description(description: dict[str, Any]) -> dict[str, Any]:
    """The language model's own settings."""
    core: dict[str, Any] = description.get("text_config", description)
    return core


def check_against_weights(
    folder: Path, description: dict[str, Any], tensors: dict[str, TensorInfo]
) -> None:
    """The sizes config.json claims are those of the weights.

    Raises:
        UserError: `bad_model` with both numbers.
    """
    core, path = core_description(description), folder / "config.json"
    embedding = next((i for n, i in tensors.items() if n.endswith("embed_tokens.weight")), None)
    if core.get("vocab_size") is None:
        if embedding is None or not embedding.shape:
            raise _bad(path, "vocab_size is missing")
        core["vocab_size"] = embedding.shape[0]
    if embedding is not None and embedding.shape and embedding.shape[0] != core["vocab_size"]:
        claimed, found = core["vocab_size"], embedding.shape[0]
        raise _bad(path, f"vocab_size is {claimed:,}, but the weights hold {found:,} entries")
    numbers = [int(m[1]) for m in (re.search(r"\blayers\.(\d+)\.", name) for name in tensors) if m]
    if numbers and max(numbers) + 1 < core["num_hidden_layers"]:
        claimed, found = core["num_hidden_layers"], max(numbers) + 1
        raise _bad(path, f"num_hidden_layers is {claimed}, but the weights hold {found}")


def _check_numbers(path: Path, core: dict[str, Any]) -> None:
    for name in _NEEDED:
        if core.get(name) is None:
            raise _bad(path, f"{name} is missing")
    _check_type(path, core["model_type"])
    for name, limit in _SIZES.items():
        value = 1 if core.get(name) is None else core[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            raise _bad(path, f"{name} is {value!r}; a whole number from 1 to {limit:,} is needed")
    _check_heads(path, core)
    for name in ("rms_norm_eps", "rope_theta"):
        value = core.get(name, 1.0)
        if not _is_positive(value):
            raise _bad(path, f"{name} is {value!r}; a positive number is needed")


def _check_type(path: Path, name: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise _bad(path, "model_type is missing" if name is None else "model_type is no name")


def _check_heads(path: Path, core: dict[str, Any]) -> None:
    heads, shared = core.get("num_attention_heads"), core.get("num_key_value_heads")
    if heads and shared and heads % shared:
        raise _bad(
            path, f"num_attention_heads {heads} is no multiple of num_key_value_heads {shared}"
        )
    if heads and not core.get("head_dim") and core["hidden_size"] % heads:
        raise _bad(
            path, f"hidden_size {core['hidden_size']} is no multiple of num_attention_heads {heads}"
        )


def _settle_rope(path: Path, core: dict[str, Any]) -> None:
    """Turn `rope_parameters` (transformers 5) into rope_theta and rope_scaling.

    mlx-lm's llama ignores it silently and takes theta 10000 without scaling: wrong logits, no word.
    """
    parameters = core.get("rope_parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise _bad(path, "rope_parameters is no group of settings")
    if "full_attention" in parameters or "sliding_attention" in parameters:
        _settle_layered_rope(path, core, parameters)
        return
    theta, kind = parameters.get("rope_theta"), parameters.get("rope_type", "default")
    if "rope_theta" not in core:
        if not _is_positive(theta):
            raise _bad(path, "rope_parameters has no rope_theta, so positions cannot be computed")
        core["rope_theta"] = theta
    if kind != "default" and not core.get("rope_scaling"):
        core["rope_scaling"] = _scaling(parameters)
    if "partial_rotary_factor" in parameters:
        core.setdefault("partial_rotary_factor", parameters["partial_rotary_factor"])


def _settle_layered_rope(path: Path, core: dict[str, Any], parameters: dict[str, Any]) -> None:
    """One theta for full and one for sliding layers, as Gemma 3 has them."""
    names = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
    for kind, name in names.items():
        entry = parameters.get(kind) or {}
        if not isinstance(entry, dict):
            raise _bad(path, f"rope_parameters.{kind} is no group of settings")
        theta = entry.get("rope_theta")
        if name not in core and not _is_positive(theta):
            raise _bad(path, f"rope_parameters.{kind} has no rope_theta")
        core.setdefault(name, theta)
        if kind == "full_attention" and entry.get("rope_type", "default") != "default":
            core.setdefault("rope_scaling", _scaling(entry))


def _scaling(parameters: dict[str, Any]) -> dict[str, Any]:
    """As `rope_scaling` of before transformers 5; some definitions know its kind as `type` only."""
    kept = {k: v for k, v in parameters.items() if k != "rope_theta"}
    return {**kept, "type": parameters.get("rope_type")}


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, f"it is no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise _bad(path, "it is no JSON object")
    return content


def _numbers(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [n for n in values if isinstance(n, int) and not isinstance(n, bool) and n >= 0]


def _bad(path: Path, why: str) -> UserError:
    return UserError("bad_model", show(path), why, "download the model again or correct this file")
