"""What the files of every format weigh, from tables of contents alone. No mlx here."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.export.folder import copied_bytes
from mlx_lora.export.kinds import kind_name, weight_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlx_lora.export.layout import Layout

Shape = tuple[int, ...]
_HALVES = {"f16": 2, "bf16": 2, "f32": 4}
# what reference.py compares: positions at most, and bytes of logits kept a model
_POSITIONS, _ROOM, _LOGITS = 1024, 200_000_000, 3
# above this, the base an adapter is checked on is written in F16 (verify.py)
_LARGEST_F32_BASE = 2_000_000_000
_ALIGNMENT = 32
# of a GGUF file: a tensor's entry without its name, a key with its value, keys of a whole model
_ENTRY, _KEY, _KEYS = 44, 40, 32
# a tokenizer.json up to this is read whole; beyond, its entries are estimated by their count
_READ = 4_000_000
_TOKEN, _MERGE = 7, 9
_CONFIG = 700
# Hugging Face's names of what the mixes treat apart -> GGUF's
_LEAVES = {"v_proj": "attn_v", "down_proj": "ffn_down", "qkv_proj": "attn_qkv"}
_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
}  # fmt: skip
_BLOCK = re.compile(r"model\.layers\.(\d+)\.(?:.*\.)?(\w+)\.weight")


def gguf(base: Layout, quant: str, vocabulary: int) -> int:
    """The merged model as one GGUF file; `vocabulary` bytes are its tokenizer's."""
    blocks, total = base.settings["num_hidden_layers"], 0
    for name in base.names():
        there, shape = _gguf_name(name), base.extent(name)
        kind = kind_name(there, shape, quant, blocks=blocks, tied=base.tied)
        total += _aligned(weight_of(shape, kind)) + _ENTRY + len(there)
    return total + _KEYS * _KEY + vocabulary


def gguf_vocabulary(base: Layout) -> int:
    """Texts, kinds, scores or merges of a tokenizer in a GGUF file."""
    path, size = base.folder / "tokenizer.json", int(base.settings["vocab_size"])
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        begin = file.read(_READ)
    pieces = b'"byte_fallback": true' in begin or b'"byte_fallback":true' in begin
    if len(begin) < _READ:
        return _counted(begin, size, pieces=pieces)
    texts = size * (8 + 4 + _TOKEN)
    return texts + (4 * size if pieces else size * (8 + _MERGE))


def gguf_adapter(tensors: Mapping[str, Shape], quant: str) -> int:
    """The adapter as a GGUF file."""
    kind = {"f16": "F16"}.get(quant, "F32")
    total = sum(_aligned(weight_of(shape, kind)) for shape in tensors.values())
    return total + len(tensors) * (_ENTRY + len("blk.00.attn_output.weight.lora_a")) + 6 * _KEY


def check_base_kind(base: Layout) -> str:
    """In what an adapter's base is written for its check."""
    return "f32" if base.count() * 4 < _LARGEST_F32_BASE else "f16"


def peft(tensors: Mapping[str, Shape]) -> int:
    """The adapter in PEFT's format, float32."""
    ends = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "m": "lora_magnitude_vector"}
    parts = []
    for name, shape in tensors.items():
        module, _, leaf = name.rpartition(".")
        parts.append((f"base_model.model.{module}.{ends.get(leaf, leaf)}", "F32", shape, 4))
    return _safetensors(parts) + _CONFIG


def folder(base: Layout, quant: str) -> int:
    """The merged model in Hugging Face layout; `16` is the half the base has."""
    width = _HALVES.get(quant, 2)
    kind = "F32" if width == 4 else base.half_type()  # noqa: PLR2004
    parts = [(name, kind, base.extent(name), width) for name in base.names()]
    return _safetensors(parts) + _beside(base)


def fused(base: Layout, quant: str) -> int:
    """The merged model as an MLX folder of 4, 6, 8 or 16 bit."""
    if quant == "16":
        return folder(base, quant)
    half, parts, odd = base.half_type(), list[tuple[str, str, Shape, int]](), 0
    for name in base.names():
        shape, form = base.extent(name), base.packed_as(name, int(quant))
        if form is None:
            parts.append((name, half, shape, 2))
            continue
        (bits, group), module = form, name.removesuffix(".weight")
        odd += bits != int(quant)
        groups = (shape[0], shape[1] // group)
        parts.append((name, "U32", (shape[0], shape[1] * bits // 32), 4))
        parts += [(f"{module}.{part}", half, groups, 2) for part in ("scales", "biases")]
    return _safetensors(parts) + _beside(base) + (2 + 2 * odd) * 70


def grams(base: Layout) -> int:
    """What packing is weighed by, needed until an MLX folder is written."""
    shapes = (base.extent(name) for name in base.names())
    return sum(4 * shape[-1] ** 2 for shape in shapes if len(shape) > 1)


def logits(base: Layout) -> int:
    """What answers are compared by, needed for every check."""
    vocabulary = int(base.settings["vocab_size"])
    positions = min(_POSITIONS, max(64, _ROOM // (4 * vocabulary)))
    return _LOGITS * 4 * vocabulary * positions


def _gguf_name(name: str) -> str:
    """The GGUF name of a tensor, as far as its kind depends on it."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        return _OUTSIDE.get(name, name)
    return f"blk.{found[1]}.{_LEAVES.get(found[2], found[2])}.weight"


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _safetensors(parts: Iterable[tuple[str, str, Shape, int]]) -> int:
    """A file of tensors: name, type, shape, bytes a number."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, kind, shape, width in parts:
        span = [at, at + math.prod(shape) * width]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": span}
        at = span[1]
    table = len(msgspec.json.encode(header))
    return 8 + table + -table % 8 + at


def _beside(base: Layout) -> int:
    """config.json and the tokenizer's files."""
    return (base.folder / "config.json").stat().st_size + copied_bytes(base.folder)


def _counted(definition: bytes, size: int, *, pieces: bool) -> int:
    """The same, from a tokenizer that was read whole."""
    try:
        model = msgspec.json.decode(definition)["model"]
        texts = sum(len(text.encode()) for text in model["vocab"])
        merges = [_merge_length(merge) for merge in model.get("merges") or ()]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return 0
    absent = max(0, size - len(model["vocab"]))
    texts += 12 * size + absent * len("[PAD12345]")
    return texts + (4 * size if pieces else sum(merges) + 8 * len(merges))


def _merge_length(merge: str | list[str]) -> int:
    parts = merge if isinstance(merge, list) else [merge]
    return sum(len(part.encode()) for part in parts) + len(parts) - 1
