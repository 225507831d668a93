"""A base with its adapter merged in as the plan of a GGUF model.

Fields and tensors are those llama.cpp's loaders of each architecture ask for (src/models/*.cpp);
tensor names come from the `gguf` package's own maps.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf import MODEL_ARCH
from gguf import GGMLQuantizationType as Kind

from mlx_lora.export.gguf_file import Field, Plan, Planned, constant, real, text, whole
from mlx_lora.export.gguf_kinds import file_type, kind_of
from mlx_lora.export.gguf_tokenizer import tokenizer_fields
from mlx_lora.export.limits import LONGROPE, check_gguf, refused, rope_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlx_lora.export.source import Source

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA, "mistral": MODEL_ARCH.LLAMA, "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3_text": MODEL_ARCH.GEMMA3, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3,
    "phi3": MODEL_ARCH.PHI3,
}  # fmt: skip
GEMMA = {"gemma2", "gemma3_text"}
_GEMMA2_WINDOW, _GEMMA3_PATTERN = 4096, 6
_PHI3 = re.compile(r"phi-?3", re.IGNORECASE)


def plan_model(source: Source, quant: str) -> Plan:
    """The merged model in `quant`.

    Raises:
        UserError: `cannot_export` where llama.cpp cannot hold what the base is.
    """
    arch = architecture(source)
    tensors = [*_weights(source, arch, quant), *_rope_tensors(source)]
    definition, size = source.tokenizer.definition(), source.settings["vocab_size"]
    tokenizer, remark = tokenizer_fields(source.tokenizer, definition, size, source.folder)
    fields = [
        text("general.type", "model"),
        text("general.name", _label(source.name, definition)),
        whole("general.file_type", file_type(quant)),
        whole("general.quantization_version", gguf.GGML_QUANT_VERSION),
        *_settings(source, gguf.MODEL_ARCH_NAMES[arch]),
        *tokenizer,
    ]
    return Plan(gguf.MODEL_ARCH_NAMES[arch], fields, tensors, remark)


def _label(name: str, definition: dict[str, Any]) -> str:
    """Its name; llama.cpp strips spaces behind special tokens where it says Phi-3, only there."""
    if not any(token["rstrip"] for token in definition["added_tokens"]):
        return _PHI3.sub("Phi 3", name)
    return name if _PHI3.search(name) else f"{name} (Phi-3)"


def architecture(source: Source) -> MODEL_ARCH:
    """What llama.cpp calls this family.

    Raises:
        UserError: `cannot_export`.
    """
    check_gguf(source.family, source.settings)
    return ARCHITECTURES[source.family]


def tensor_name(arch: MODEL_ARCH, layers: int, name: str) -> str:
    """The GGUF name of a tensor.

    Raises:
        UserError: `cannot_export` for one llama.cpp does not know.
    """
    found = gguf.get_tensor_name_map(arch, layers).get_name(name, (".weight", ".bias"))
    if found is None:
        raise refused(f"llama.cpp knows no tensor like {name}")
    return found


def rows_in_order(name: str, settings: dict[str, Any], arch: MODEL_ARCH) -> np.ndarray | None:
    """Where llama.cpp keeps the rows of q and k interleaved (family llama): the order, else None.

    Hugging Face rotates the two halves of a head against each other, llama.cpp neighbours; so row
    i of a head's first half comes before row i of its second.
    """
    leaf = name.rpartition(".")[0].rpartition(".")[2]
    if arch != MODEL_ARCH.LLAMA or leaf not in {"q_proj", "k_proj"}:
        return None
    heads = settings["num_attention_heads"]
    count = heads if leaf == "q_proj" else settings.get("num_key_value_heads") or heads
    width = head_width(settings)
    order = np.arange(count * width).reshape(count, 2, width // 2)
    return order.swapaxes(1, 2).reshape(-1)


def head_width(settings: dict[str, Any]) -> int:
    """Numbers in one attention head."""
    heads = settings["num_attention_heads"]
    return int(settings.get("head_dim") or settings["hidden_size"] // heads)


def rope_context(source: Source) -> int:
    """Positions llama.cpp must be opened with to use the rope factors the app uses (long ones)."""
    if rope_type(source.settings) not in LONGROPE:
        return 0
    return int(source.settings["original_max_position_embeddings"]) + 1


def _weights(source: Source, arch: MODEL_ARCH, quant: str) -> list[Planned]:
    layers = source.settings["num_hidden_layers"]
    planned = []
    for name in source.names():
        there, shape = tensor_name(arch, layers, name), source.extent(name)
        kind = kind_of(there, shape, quant, blocks=layers, tied=source.tied)
        planned.append(Planned(there, shape, kind, _values(source, name, arch)))
    return planned


def _values(source: Source, name: str, arch: MODEL_ARCH) -> Callable[[], np.ndarray]:
    """Makes a tensor as llama.cpp wants it."""

    def make() -> np.ndarray:
        values = source.merged(name)
        order = rows_in_order(name, source.settings, arch)
        if order is not None:
            return values[order]
        # Gemma's definition adds 1 to its norms, llama.cpp's does not
        shifted = source.family in GEMMA and name.endswith("norm.weight")
        return values + np.float32(1.0) if shifted else values

    return make


def _settings(source: Source, arch: str) -> list[Field]:
    settings, heads = source.settings, source.settings["num_attention_heads"]
    width, scaling = head_width(settings), settings.get("rope_scaling") or {}
    fields = [
        whole(f"{arch}.block_count", settings["num_hidden_layers"]),
        whole(f"{arch}.context_length", settings.get("max_position_embeddings") or 8192),
        whole(f"{arch}.embedding_length", settings["hidden_size"]),
        whole(f"{arch}.feed_forward_length", settings["intermediate_size"]),
        whole(f"{arch}.attention.head_count", heads),
        whole(f"{arch}.attention.head_count_kv", settings.get("num_key_value_heads") or heads),
        real(f"{arch}.attention.layer_norm_rms_epsilon", settings["rms_norm_eps"]),
        real(f"{arch}.rope.freq_base", settings["rope_theta"]),
        whole(f"{arch}.vocab_size", settings["vocab_size"]),
    ]
    if source.family != "phi3":
        fields.append(whole(f"{arch}.attention.key_length", width))
        fields.append(whole(f"{arch}.attention.value_length", width))
    if source.family in {"llama", "mistral", "phi3"}:
        rotated = int(width * settings.get("partial_rotary_factor", 1.0))
        fields.append(whole(f"{arch}.rope.dimension_count", rotated))
    if rope_type(settings) in {"linear", "yarn"}:
        fields.append(text(f"{arch}.rope.scaling.type", rope_type(settings)))
        fields.append(real(f"{arch}.rope.scaling.factor", scaling["factor"]))
    if rope_type(settings) == "yarn":
        original = scaling["original_max_position_embeddings"]
        fields.append(whole(f"{arch}.rope.scaling.original_context_length", original))
    own = {"gemma2": _gemma2, "gemma3_text": _gemma3, "phi3": _phi3}.get(source.family)
    return fields + (own(settings, arch) if own else [])


def _gemma2(settings: dict[str, Any], arch: str) -> list[Field]:
    return [
        real(f"{arch}.attn_logit_softcapping", settings["attn_logit_softcapping"]),
        real(f"{arch}.final_logit_softcapping", settings["final_logit_softcapping"]),
        whole(f"{arch}.attention.sliding_window", settings.get("sliding_window") or _GEMMA2_WINDOW),
    ]


def _gemma3(settings: dict[str, Any], arch: str) -> list[Field]:
    if settings.get("query_pre_attn_scalar", head_width(settings)) != head_width(settings):
        raise refused("llama.cpp scales this family's attention by the head's width only")
    fields = [whole(f"{arch}.attention.sliding_window", settings["sliding_window"])]
    local = settings["rope_local_base_freq"]
    fields.append(real(f"{arch}.rope.freq_base_swa", local))
    if settings["sliding_window_pattern"] != _GEMMA3_PATTERN:
        pattern = settings["sliding_window_pattern"]
        fields.append(whole(f"{arch}.attention.sliding_window_pattern", pattern))
    if settings.get("final_logit_softcapping"):
        cap = settings["final_logit_softcapping"]
        fields.append(real(f"{arch}.final_logit_softcapping", cap))
    return fields


def _phi3(settings: dict[str, Any], arch: str) -> list[Field]:
    original = settings["original_max_position_embeddings"]
    fields = [
        whole(f"{arch}.rope.scaling.original_context_length", original),
        whole(f"{arch}.attention.sliding_window", settings.get("sliding_window") or 0),
    ]
    if rope_type(settings) in LONGROPE:
        longer = settings["max_position_embeddings"] / original
        factor = math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
        fields.append(text(f"{arch}.rope.scaling.type", "longrope"))
        fields.append(real(f"{arch}.rope.scaling.attn_factor", factor))
    return fields


def _rope_tensors(source: Source) -> list[Planned]:
    """What scaled positions need beside the weights, F32."""
    scaling, kind = source.settings.get("rope_scaling") or {}, rope_type(source.settings)
    made: dict[str, np.ndarray] = {}
    if kind == "llama3":
        made["rope_freqs.weight"] = llama3_factors(source.settings, scaling)
    if kind in LONGROPE:
        for length in ("long", "short"):
            factors = np.array(scaling[f"{length}_factor"], np.float32)
            made[f"rope_factors_{length}.weight"] = factors
    return [
        Planned(name, factors.shape, Kind.F32, constant(factors)) for name, factors in made.items()
    ]


def llama3_factors(settings: dict[str, Any], scaling: dict[str, Any]) -> np.ndarray:
    """By how much Llama 3.1's scaling slows each frequency, float32 (head width / 2,)."""
    width, factor = head_width(settings), scaling["factor"]
    low, high = scaling.get("low_freq_factor", 1.0), scaling.get("high_freq_factor", 4.0)
    original = scaling.get("original_max_position_embeddings", 8192)
    waves = 2 * np.pi * settings["rope_theta"] ** (np.arange(0, width, 2) / width)
    smooth = (original / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(waves > original / low, factor, between)
    return np.where(waves < original / high, 1.0, factors).astype(np.float32)
