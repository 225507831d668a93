"""A model folder to a frozen model in memory; nothing in it is ever executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.definitions import model_classes
from mlx_lora.models.description import core_description
from mlx_lora.models.fingerprint import fingerprint
from mlx_lora.models.forms import choose_form, float_type, hold_plain, packed_words
from mlx_lora.models.library import check_model, model_name
from mlx_lora.models.packing import PACKED
from mlx_lora.models.quantize import quantize_model
from mlx_lora.models.tensors import weight_files
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer
from mlx_lora.storage import show

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlx_lora.models.forms import Wanted

_FLOATS = (mx.float32, mx.float16, mx.bfloat16)
# numbers looked at together
_LOOKED = 1 << 22
# what a definition raises on settings or tensors that are not its family's
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class LoadedModel(msgspec.Struct, frozen=True):
    """A base ready to run, frozen.

    Attributes:
        module: mlx-lm's model; ids (rows, length) to logits (rows, length, vocabulary).
        tokenizer: its tokenizer.
        name: hub id or folder name, never a path.
        fingerprint: of the weights and the recipe in `bits`.
        form: how the weights are held: `float32`, `bfloat16`, ..., `4-bit`, `4-bit values in
            float32`.
        left_plain: names of linears that `bits` could not be applied to.
        context: the longest row the model was made for, or None.
    """

    module: Any
    tokenizer: Tokenizer
    name: str
    fingerprint: str
    form: str
    left_plain: tuple[str, ...]
    context: int | None


def load_model(source: str, bits: str = "keep", form: Wanted = "auto") -> LoadedModel:
    """Load MODEL with its weights brought to `bits`, and quantized ones held in `form`.

    `packed` weights are unpacked at every product, `plain` ones once; `auto` is packed on Metal,
    and on the CPU plain where half of the memory is enough for that. On MLX's CPU backend
    half-precision kernels run at 1-5 GFLOP/s (engine.md), so there every float becomes float32.
    The form changes no value and no fingerprint.

    Raises:
        UserError: `no_such_model`, `no_weights`, `damaged_model`, `bad_model`, `unsupported_model`.
    """
    folder, description, tensors = check_model(source)
    core = core_description(description)
    tokenizer = read_tokenizer(folder, description["stop_token_ids"], core["vocab_size"])
    module = build_model(folder, description, weight_files(folder))
    left = _bring_to(module, bits)
    module.freeze()
    module.eval()
    words = _hold(module, form)
    _check_finite(folder, module)
    return LoadedModel(
        module=module,
        tokenizer=tokenizer,
        name=model_name(source),
        fingerprint=fingerprint(folder, tensors, bits),
        form=words,
        left_plain=tuple(left),
        context=core.get("max_position_embeddings"),
    )


def build_model(folder: Path, description: dict[str, Any], files: list[Path]) -> Any:
    """Instantiate mlx-lm's definition and put exactly the folder's tensors into it, unread as yet.

    Raises:
        UserError: `damaged_model`, `bad_model`, `unsupported_model`.
    """
    model_class, arguments = model_classes(description["model_type"])
    try:
        module = model_class(arguments.from_dict(description))
    except _FAULTS as error:
        fix = "use a complete model folder"
        raise UserError(
            "bad_model", show(folder), f"its config.json does not fit its family ({error})", fix
        ) from error
    weights = _read_weights(folder, module, files)
    quantization = description.get("quantization")
    if quantization is not None:
        _as_packed(folder, module, weights, quantization)
    elif description.get("quantization_config"):
        why, fix = "it is quantized for another program", "use the original model or an MLX one"
        raise UserError("bad_model", show(folder), why, fix)
    _check_tensors(folder, module, weights)
    module.load_weights(list(weights.items()), strict=True)
    return module


def _read_weights(folder: Path, module: Any, files: list[Path]) -> dict[str, mx.array]:
    """The folder's tensors under the names of mlx-lm's definition."""
    weights: dict[str, mx.array] = {}
    for file in files:
        try:
            weights.update(mx.load(str(file), format="safetensors"))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                "damaged_model", show(file), f"it cannot be read ({error})", "download it again"
            ) from error
    try:
        if hasattr(module, "sanitize"):
            weights = module.sanitize(weights)
    except _FAULTS as error:
        why = f"its tensors are not those of its family ({error})"
        raise UserError("bad_model", show(folder), why, "download the model again") from error
    return weights


def _check_finite(folder: Path, module: nn.Module) -> None:
    for name, array in nn.utils.tree_flatten(module.parameters()):
        if array.dtype in _FLOATS and not is_finite(array):
            why = f"{name} holds numbers that are not finite"
            raise UserError("bad_model", show(folder), why, "download the model again")


def is_finite(array: mx.array) -> bool:
    """Whether every number is one, looked at in pieces: each look makes several arrays as large."""
    flat = array.reshape(-1)
    return all(
        mx.isfinite(flat[at : at + _LOOKED]).all().item() for at in range(0, flat.size, _LOOKED)
    )


def _as_packed(
    folder: Path, module: nn.Module, weights: Mapping[str, mx.array], settings: Any
) -> None:
    """Make those modules quantized that the folder holds quantized."""
    if not isinstance(settings, dict):
        raise UserError(
            "bad_model", show(folder), "quantization is no group of settings", "download it again"
        )

    def choose(name: str, part: nn.Module) -> bool | dict[str, Any]:
        scales = weights.get(f"{name}.scales")
        if scales is None or not hasattr(part, "to_quantized"):
            return False
        width = part.weight.shape[-1]
        group = width // scales.shape[-1]
        packed = weights[f"{name}.weight"].shape[-1] * 32 // width
        own = settings.get(name)
        mode = (own if isinstance(own, dict) else settings).get("mode", "affine")
        return {"group_size": group, "bits": packed, "mode": mode}

    try:
        nn.quantize(module, class_predicate=choose)
    except _FAULTS as error:
        why = f"its quantized tensors do not fit together ({error})"
        raise UserError("bad_model", show(folder), why, "download it again") from error


def _check_tensors(folder: Path, module: nn.Module, weights: Mapping[str, mx.array]) -> None:
    """The folder's tensors are those of the model, no more, no fewer, each of the right shape."""
    wanted = dict(nn.utils.tree_flatten(module.parameters()))
    missing, extra = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or extra:
        parts = [
            f"{len(names)} {what} ({names[0]}, ...)"
            for names, what in ((missing, "missing"), (extra, "unknown"))
            if names
        ]
        why = f"its tensors are not those of config.json: {' and '.join(parts)}"
        raise UserError("bad_model", show(folder), why, "download the model again")
    for name, array in wanted.items():
        kind = weights[name].dtype
        if not (kind in _FLOATS if array.dtype in _FLOATS else kind == array.dtype):
            why = f"{name} is held as {kind}, which is no weight".replace("mlx.core.", "")
            raise UserError("bad_model", show(folder), why, "download the model again")
        if array.shape != weights[name].shape:
            why = f"{name} has shape {weights[name].shape}, config.json makes it {array.shape}"
            raise UserError("bad_model", show(folder), why, "download the model again")


def _bring_to(module: nn.Module, bits: str) -> list[str]:
    """Apply `--bits` and the backend's float type; returns the names of what was left plain."""
    packed = {m.bits for m in module.modules() if hasattr(m, "bits")}
    if packed and bits not in {"keep", *map(str, packed)}:
        have, fix = (
            "/".join(map(str, sorted(packed))),
            "use --bits keep, or the full-precision model",
        )
        raise UserError("bad_option", f"--bits {bits}", f"this model is already {have}-bit", fix)
    if bits == "16":
        module.apply(
            lambda array: array.astype(mx.bfloat16) if array.dtype == mx.float32 else array
        )
    if bits == "32" or mx.default_device() == mx.cpu:
        module.apply(lambda array: array.astype(mx.float32) if array.dtype in _FLOATS else array)
    return quantize_model(module, int(bits)) if bits in PACKED and not packed else []


def _hold(module: nn.Module, form: Wanted) -> str:
    """Bring packed weights to their form, and everything into memory; returns it in words.

    One tensor after the other: evaluated together, the wider ones they are made of would all be
    alive at once, and a base that only fits packed would not load.
    """
    stored = packed_words(module)
    if stored and choose_form(module, form) == "plain":
        hold_plain(module)
        stored = f"{stored} values in {_name(float_type(module))}"
    arrays = [array for _, array in nn.utils.tree_flatten(module.parameters())]
    for array in arrays:
        mx.eval(array)
    kinds = {_name(array.dtype) for array in arrays if array.dtype in _FLOATS}
    return stored or "/".join(sorted(kinds))


def unpack(base: LoadedModel) -> LoadedModel:
    """A base held packed, brought to plain weights in place; one without any stays as it is."""
    return msgspec.structs.replace(base, form=_hold(base.module, "plain"))


def _name(kind: mx.Dtype) -> str:
    return str(kind).removeprefix("mlx.core.")
