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
_NEEDED = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")


def read_description(folder: Path) -> dict[str, Any]:
    """The model's `config.json` with `generation_config.json`'s stop tokens, checked and brought to
    one form.

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
    if not isinstance(core["model_type"], str) or not re.fullmatch(
        r"[A-Za-z0-9_-]{1,40}", core["model_type"]
    ):
        raise _bad(path, "model_type is no name")
    for name, limit in _SIZES.items():
        value = core.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            raise _bad(path, f"{name} is {value!r}; a whole number from 1 to {limit:,} is needed")
    heads, shared = core.get("num_attention_heads"), core.get("num_key_value_heads")
    if heads and shared and heads % shared:
        raise _bad(
            path, f"num_attention_heads {heads} is no multiple of num_key_value_heads {shared}"
        )
    if heads and not core.get("head_dim") and core["hidden_size"] % heads:
        raise _bad(
            path, f"hidden_size {core['hidden_size']} is no multiple of num_attention_heads {heads}"
        )
    for name in ("rms_norm_eps", "rope_theta"):
        value = core.get(name, 1.0)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < math.inf
        ):
            raise _bad(path, f"{name} is {value!r}; a positive number is needed")


def _settle_rope(path: Path, core: dict[str, Any]) -> None:
    """Understand `rope_parameters` (transformers 5) for definitions that only read rope_theta and
    rope_scaling.

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
        if not isinstance(theta, int | float) or not theta > 0:
            raise _bad(path, "rope_parameters has no rope_theta, so positions cannot be computed")
        core["rope_theta"] = theta
    if kind != "default" and not core.get("rope_scaling"):
        core["rope_scaling"] = {k: v for k, v in parameters.items() if k != "rope_theta"}


def _settle_layered_rope(path: Path, core: dict[str, Any], parameters: dict[str, Any]) -> None:
    """One theta for full and one for sliding layers, as Gemma 3 has them."""
    names = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
    for kind, name in names.items():
        entry = parameters.get(kind) or {}
        theta = entry.get("rope_theta")
        if name not in core and not isinstance(theta, int | float):
            raise _bad(path, f"rope_parameters.{kind} has no rope_theta")
        core.setdefault(name, theta)
        if kind == "full_attention" and entry.get("rope_type", "default") != "default":
            core.setdefault("rope_scaling", {k: v for k, v in entry.items() if k != "rope_theta"})


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
