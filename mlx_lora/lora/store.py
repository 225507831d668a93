"""Adapter folders in mlx-lm's own format: `adapters.safetensors` and `adapter_config.json`.

What mlx-lm has no place for (fingerprint of the base, prompt style, hash of the chat template,
configuration) travels as metadata inside the safetensors file, so weights and facts cannot part. No
path and no name is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import mlx.core as mx
import msgspec
import numpy as np

from mlx_lora.errors import UserError
from mlx_lora.lora.attach import Adapter, AdapterShape, attach, target_linears
from mlx_lora.lora.folder import CONFIG, FACTS_KEY, WEIGHTS, bad_adapter, weights_file
from mlx_lora.lora.layers import factor_shapes, widths
from mlx_lora.models.experts import is_switch
from mlx_lora.models.tensor_pieces import tensor_pieces
from mlx_lora.models.tensors import read_header, read_metadata
from mlx_lora.storage import new_folder, write_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.models.loading import LoadedModel
    from mlx_lora.models.tokenizer import Tokenizer
    from mlx_lora.storage import Piece


class AdapterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What our adapters know about themselves beyond mlx-lm's format.

    Attributes:
        template_name, template_source: of the built-in chat template it was trained with
            (`data/templates.py`); both empty where the model's own was used, or none.
    """

    base_name: str
    base_fingerprint: str
    bits: str
    prompt_style: Literal["raw", "chat"]
    template_sha256: str
    settings: dict[str, Any]
    step: int
    version: str
    template_name: str = ""
    template_source: str = ""


def save_adapter(
    folder: Path, tensors: dict[str, mx.array], shape: AdapterShape, facts: AdapterFacts
) -> None:
    """Make an adapter folder appear, complete.

    Raises:
        UserError: `exists`, `disk_full`, `no_permission` or `storage`.
    """
    with new_folder(folder) as temporary:
        write_adapter(temporary, tensors, shape, facts, WEIGHTS)


def write_adapter(
    folder: Path, tensors: dict[str, mx.array], shape: AdapterShape, facts: AdapterFacts, name: str
) -> None:
    """Put the tensors (as file `name`) and mlx-lm's configuration into an existing folder."""
    for file, pieces in adapter_files(tensors, shape, facts, name).items():
        write_pieces(folder / file, pieces)


def adapter_files(
    tensors: dict[str, mx.array], shape: AdapterShape, facts: AdapterFacts, name: str
) -> dict[str, list[Piece]]:
    """What `write_adapter` puts into a folder, in memory: file -> its content in pieces."""
    metadata = {"format": "mlx", FACTS_KEY: msgspec.json.encode(facts).decode()}
    return {name: tensor_pieces(tensors, metadata), CONFIG: [_config(shape)]}


def copy_adapter(
    source: Path, folder: Path, shape: AdapterShape, facts: AdapterFacts | None
) -> None:
    """The adapter of one folder (or checkpoint) into an existing other one, nothing private in it.

    Another program's adapter_config.json may hold paths, so it is written anew.
    """
    tensors = mx.load(str(weights_file(source)), format="safetensors")
    metadata = {"format": "mlx"}
    if facts is not None:
        metadata[FACTS_KEY] = msgspec.json.encode(facts).decode()
    write_pieces(folder / WEIGHTS, tensor_pieces(tensors, metadata))
    write_pieces(folder / CONFIG, [_config(shape)])


def _config(shape: AdapterShape) -> bytes:
    content = {
        "fine_tune_type": shape.kind,
        "num_layers": shape.layers,
        "lora_parameters": {
            "rank": shape.rank,
            "scale": shape.scale,
            "dropout": shape.dropout,
            "keys": list(shape.keys),
        },
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def read_facts(folder: Path) -> AdapterFacts | None:
    """Our facts about an adapter, or None for one that another program made.

    Raises:
        UserError: `bad_adapter`.
    """
    path = weights_file(folder)
    try:
        content = read_metadata(path).get(FACTS_KEY)
    except UserError as error:
        raise bad_adapter(path, error.why, "use an intact adapter") from error
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=AdapterFacts)
    except msgspec.DecodeError as error:
        raise bad_adapter(path, "its facts cannot be read", "use an intact adapter") from error


def as_trained(tokenizer: Tokenizer, facts: AdapterFacts | None) -> Tokenizer:
    """The tokenizer of a base with the chat template an adapter on it brings along."""
    if facts is None or not facts.template_source:
        return tokenizer
    return tokenizer.with_template(facts.template_name, facts.template_source)


def read_shape(folder: Path, layer_count: int) -> AdapterShape:
    """The shape in mlx-lm's adapter_config.json.

    Raises:
        UserError: `bad_adapter`.
    """
    path = folder / CONFIG
    try:
        content = msgspec.json.decode(path.read_bytes())
        if "peft_type" in content:
            raise bad_adapter(path, "this is a PEFT adapter", "use one in mlx-lm's format")
        kind = content.get("fine_tune_type", "lora")
        if kind not in ("lora", "dora"):
            raise bad_adapter(path, f"its kind is {kind!r}", "use a LoRA or DoRA adapter")
        parameters = content["lora_parameters"]
        layers = content["num_layers"]
        tree = {**parameters, "layers": layer_count if layers == -1 else layers, "kind": kind}
        tree["keys"] = tree.get("keys") or sorted(_keys_in(folder))
        shape = msgspec.convert(tree, AdapterShape, strict=True)
    except (
        OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError,
        RecursionError,
    ) as error:  # fmt: skip
        raise bad_adapter(
            path, f"it cannot be understood ({error})", "use an intact adapter"
        ) from error
    if not (shape.rank >= 1 and 1 <= shape.layers <= layer_count and abs(shape.scale) < 1e6):  # noqa: PLR2004
        why = f"rank {shape.rank}, {shape.layers} layers, scale {shape.scale} is not possible here"
        raise bad_adapter(path, why, "use an adapter of this model")
    return shape


def load_adapter(folder: Path, base: LoadedModel, strength: float = 1.0) -> Adapter:
    """Attach the adapter of a folder to its base.

    Raises:
        UserError: `bad_adapter` where it belongs to another base, or its tensors are not exactly
        those it needs.
    """
    if not folder.is_dir():
        raise bad_adapter(
            folder, "there is no such folder", "name an adapter folder or a finished run"
        )
    check_base(folder, read_facts(folder), base.fingerprint)
    shape = read_shape(folder, len(base.module.layers))
    path = weights_file(folder)
    _check_tensors(path, base, shape)
    tensors = mx.load(str(path), format="safetensors")
    if not all(bool(mx.isfinite(tensor).all()) for tensor in tensors.values()):
        raise bad_adapter(
            path, "it holds numbers that are not finite", "use an earlier checkpoint of that run"
        )
    adapter = attach(base.module, shape)
    adapter.load(tensors)
    adapter.scale_by(strength)
    return adapter


def check_base(folder: Path, facts: AdapterFacts | None, fingerprint: str) -> None:
    """An adapter that knows its base is on that base.

    Raises:
        UserError: `bad_adapter`.
    """
    if facts is not None and facts.base_fingerprint != fingerprint:
        why = f"it was trained on {facts.base_name} (--bits {facts.bits}), and this is not it"
        raise bad_adapter(folder, why, "use the model it was trained on")


def read_adapter(
    folder: Path, layer_count: int
) -> tuple[AdapterShape, AdapterFacts | None, dict[str, np.ndarray]]:
    """An adapter folder without a model: shape, our facts, tensors as float32.

    Raises:
        UserError: `bad_adapter`.
    """
    if not folder.is_dir():
        raise bad_adapter(
            folder, "there is no such folder", "name an adapter folder or a finished run"
        )
    facts, shape, path = read_facts(folder), read_shape(folder, layer_count), weights_file(folder)
    tensors = {
        name: np.array(tensor.astype(mx.float32))
        for name, tensor in mx.load(str(path), format="safetensors").items()
    }
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise bad_adapter(path, "it holds numbers that are not finite", "use an earlier checkpoint")
    return shape, facts, tensors


def _check_tensors(path: Path, base: LoadedModel, shape: AdapterShape) -> None:
    wanted: dict[str, tuple[int, ...]] = {}
    for name, linear in target_linears(base.module, shape).items():
        factors = factor_shapes(linear, shape.rank)
        wanted[f"{name}.lora_a"], wanted[f"{name}.lora_b"] = factors
        if shape.kind == "dora":
            if is_switch(linear):
                why = f"it is a DoRA adapter on experts ({name}), which no program makes"
                raise bad_adapter(path, why, "use a LoRA adapter")
            wanted[f"{name}.m"] = (widths(linear)[0],)
    try:
        found = {name: info.shape for name, info in read_header(path).items()}
    except UserError as error:
        raise bad_adapter(path, error.why, "use an intact adapter") from error
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            have, need = found.get(name) or "missing", wanted.get(name) or "no such tensor"
            why = f"{name} is {have}, this base needs {need}"
            raise bad_adapter(path, why, "use the model it was trained on")
    if not wanted:
        raise bad_adapter(
            path, "it names no layer of this model", "use the model it was trained on"
        )


def _keys_in(folder: Path) -> set[str]:
    """Module names inside the layers, read off the tensors where the config names none."""
    names = {name.rpartition(".")[0] for name in read_header(weights_file(folder))}
    return {name.partition(".layers.")[2].partition(".")[2] or name for name in names}
