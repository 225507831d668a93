"""The models on this machine: the Hugging Face cache and a folder of the person's choice.

Only config.json and tables of contents are read; a model that cannot be used stays in the list,
with the reason. No mlx here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.models.definitions import known_types
from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model, find_model, hub_cache
from mlx_lora.models.shape import Shape, shape_of
from mlx_lora.storage import expanded, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlx_lora.models.tensors import TensorInfo

_WIDTHS = {"F32": 32, "F16": 16, "BF16": 16}
_DEPTH = 2  # a models folder holds models, or makers' folders with models


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A model folder on this machine.

    Attributes:
        source: what `--model` takes: its hub id, or the folder.
        title: its name for people.
        size: bytes of its weights on disk.
        bits: bits a weight: 4, 6, 8, 16, 32 (of most of them).
        shape: its sizes; None where it cannot be used.
        problem: why it cannot be used; None where it can.
    """

    source: str
    title: str
    size: int = 0
    bits: int = 16
    parameters: int = 0
    shape: Shape | None = None
    problem: UserError | None = None


def look_up(source: str) -> Found:
    """What MODEL names, looked at; no weight is read.

    Raises:
        UserError: `no_such_model`, `no_weights`, `missing_shard`, `damaged_model`, `bad_model`,
            `unsupported_model`.
    """
    folder, description, tensors = check_model(source)
    core = core_description(description)
    _check_usable(folder, description)
    kinds = _numbers_by_kind(tensors, description)
    return Found(
        source=source,
        title=_title(source, folder),
        size=sum(info.end - info.start for info in tensors.values()),
        bits=max(kinds, key=lambda bits: kinds[bits]),
        parameters=sum(kinds.values()),
        shape=_settled(shape_of(core), tensors),
    )


def scan(folder: str = "") -> list[Found]:
    """Every model of the cache and below `folder` (empty: of the cache alone), usable ones first.

    Never fails: what cannot be read is left out, what is no language model too.
    """
    found = [try_look(source) for source in (*_cached(), *below(folder))]
    known = {one.source: one for one in found if one is not None}
    return sorted(known.values(), key=lambda one: (one.problem is not None, one.title.lower()))


def _settled(shape: Shape, tensors: dict[str, TensorInfo]) -> Shape:
    """Whether the output matrix is that of the embeddings: the files know."""
    own = any(name.endswith("lm_head.weight") for name in tensors)
    return msgspec.structs.replace(shape, tied=not own)


def try_look(source: str) -> Found | None:
    """What MODEL is, with its problem where it has one; None where it cannot be read at all."""
    try:
        return look_up(source)
    except UserError as error:
        return Found(source=source, title=_title(source, None), problem=error)
    except OSError:
        return None


def _cached() -> Iterator[str]:
    """Hub ids of the cache that hold a config.json."""
    for repository in _folders(hub_cache(), "models--*"):
        source = repository.name.removeprefix("models--").replace("--", "/", 1)
        try:
            folder = find_model(source)
        except (UserError, OSError):  # downloaded in part, or by a revision's name
            continue
        if _holds_model(folder):
            yield source


def below(folder: str) -> Iterator[str]:
    """Paths of model folders in a folder, and in the folders in it."""
    level = [expanded(folder)] if folder else []
    for _ in range(_DEPTH + 1):
        yield from (show(path) for path in level if _holds_model(path))
        level = [inner for path in level if not _holds_model(path) for inner in _folders(path)]


def _folders(folder: Path, pattern: str = "*") -> list[Path]:
    try:
        return sorted(p for p in folder.glob(pattern) if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def _holds_model(folder: Path) -> bool:
    """Whether it looks like a language model's folder; a damaged one does too."""
    try:
        if not (folder / "config.json").is_file():
            return False
        names = {path.suffix for path in folder.iterdir()}
    except OSError:
        return False
    return bool(names & {".safetensors", ".bin"}) or any(folder.glob("*.index.json"))


def _check_usable(folder: Path, description: dict[str, Any]) -> None:
    kind = description["model_type"]
    if kind not in known_types():
        fix = "choose a model of a family like Llama, Gemma, Qwen, Mistral, Phi or SmolLM"
        why = f"it is of a kind ({kind}) that is not known here"
        raise UserError("unsupported_model", show(folder), why, fix)
    if description.get("quantization_config") and not description.get("quantization"):
        why, fix = "it is quantized for another program", "use the original model or an MLX one"
        raise UserError("bad_model", show(folder), why, fix)
    if not (folder / "tokenizer.json").is_file():
        why, fix = "it has no tokenizer.json, so text cannot be turned into tokens", "get it again"
        raise UserError("bad_model", show(folder), why, fix)


def _numbers_by_kind(tensors: dict[str, TensorInfo], description: dict[str, Any]) -> dict[int, int]:
    """Bits a weight -> how many numbers are held so; scales and biases of packed ones are none."""
    settings = description.get("quantization") or {}
    bits = settings.get("bits", 4) if isinstance(settings, dict) else 4
    kinds: dict[int, int] = {}
    for name, info in tensors.items():
        if name.endswith((".scales", ".biases")):
            continue
        packed = info.dtype == "U32"
        kind = bits if packed else _WIDTHS.get(info.dtype, 16)
        count = math.prod(info.shape) * 32 // kind if packed else math.prod(info.shape)
        kinds[kind] = kinds.get(kind, 0) + count
    return kinds or {16: 0}


def _title(source: str, folder: Path | None) -> str:
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name or (folder.name if folder else source)
