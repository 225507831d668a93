"""mlx-lm's model definitions, loaded without mlx-lm's package `__init__`.

That `__init__` imports transformers, which costs 3 to 5 seconds and is not needed for a model
definition. So an empty package object with mlx-lm's search path stands in for it while
`mlx_lm.models.*` is imported. Should a later mlx-lm not allow that, the ordinary import serves.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from mlx_lora.errors import UserError

# model types that share another type's definition, as mlx_lm.utils has them
_SHARED = {"mistral": "llama", "iquestcoder": "llama", "xverse": "llama"}
# files in mlx_lm/models that define no model
_PARTS = {
    "base",
    "cache",
    "activations",
    "rope_utils",
    "switch_layers",
    "pipeline",
    "ssm",
    "mla",
    "gated_delta",
    "bitlinear_layers",
}


def import_part(name: str) -> types.ModuleType:
    """`mlx_lm.<name>`, e.g. `models.cache`."""
    if "mlx_lm" not in sys.modules:
        found = importlib.util.find_spec("mlx_lm")
        stand_in = types.ModuleType("mlx_lm")
        stand_in.__path__ = list(found.submodule_search_locations or ()) if found else []
        stand_in.__spec__ = found
        sys.modules["mlx_lm"] = stand_in
        try:
            return importlib.import_module(f"mlx_lm.{name}")
        except ImportError:
            del sys.modules["mlx_lm"]
    return importlib.import_module(f"mlx_lm.{name}")


def model_classes(model_type: str) -> tuple[Any, Any]:
    """(Model, ModelArgs) for a `model_type` of config.json.

    Raises:
        UserError: `unsupported_model`.
    """
    name = _SHARED.get(model_type, model_type)
    if name not in known_types():
        fix = "choose a model of a family like Llama, Mistral, Gemma, Qwen, Phi or SmolLM"
        raise UserError(
            "unsupported_model", f"model type {model_type}", "this family is not known here", fix
        )
    module = import_part(f"models.{name}")
    return module.Model, module.ModelArgs


def known_types() -> set[str]:
    """Every model type that has a definition."""
    found = importlib.util.find_spec("mlx_lm")
    places = list(found.submodule_search_locations or ()) if found else []
    names = {file.stem for place in places for file in Path(place, "models").glob("[a-z]*.py")}
    return (names - _PARTS) | set(_SHARED)
