"""The base of a run, held in the form it is computed with: as chosen, as before, or as measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.models.forms import measure_forms
from mlx_lora.models.loading import LoadedModel, load_model, unpack
from mlx_lora.training.choice import backend
from mlx_lora.training.policy import TABLE

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig
    from mlx_lora.training.engine import Engine

# tokens the forms are timed with at most
_TOKENS = 512


def open_base(config: RunConfig, kept: Engine | None) -> tuple[LoadedModel, str]:
    """The base, and a sentence on what was measured of its forms; empty where nothing was.

    `kept` is the engine the run was begun with: its form is taken again and not measured.

    Raises:
        UserError: as `load_model`; `bad_option` where packed is wanted and nothing is quantized.
    """
    source, bits, wanted = config.model.source, config.model.bits, config.engine.base
    forms = TABLE[backend()].base
    if kept is not None and kept.source != "begun before":
        return load_model(source, bits, kept.base), ""
    if wanted != "auto" or len(forms) == 1:
        base = load_model(source, bits, wanted)
        if wanted == "packed" and not is_packed(base):
            why, fix = "this base is not quantized", "use --bits 4, or leave it at auto"
            raise UserError("bad_option", "--base-form packed", why, fix)
        return base, ""
    base = load_model(source, bits, "packed")
    if not is_packed(base):
        return base, ""
    tokens = min(_TOKENS, config.training.batch_size * config.data.max_length)
    measured = measure_forms(base.module, tokens)
    words = measured.words(base.form)
    return (unpack(base) if measured.choose(forms[0]) == "plain" else base), words


def is_packed(base: LoadedModel) -> bool:
    """Whether it computes with quantized weights."""
    return any(hasattr(module, "bits") for module in base.module.modules())
