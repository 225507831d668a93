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

from mlx_lora.errors import UserError
from mlx_lora.export.gguf_file import Field, Plan, Planned, constant, real, text, whole
from mlx_lora.export.gguf_kinds import file_type, kind_of
from mlx_lora.export.gguf_tokenizer import tokenizer_fields

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
_LONGROPE = {"longrope", "su"}
_PHI3 = re.compile(r"phi-?3", re.IGNORECASE)


def plan_model(source: Source, quant: str) -> Plan:
    """The merged model in `quant`.

    Raises:
        UserError: `cannot_export` where llama.cpp cannot hold what the base is.
    """
    arch = architecture(source)
    tensors = [*_weights(source, arch, quant), *_rope_tensors(source)]
    tokenizer, remark = tokenizer_fields(
        source.tokenizer, source.settings["vocab_size"], source.folder
    )
    fields = [
        text("general.type", "model"),
        text("general.name", _label(source)),
        whole("general.file_type", file_type(quant)),
        whole("general.quantization_version", gguf.GGML_QUANT_VERSION),
        *_settings(source, gguf.MODEL_ARCH_NAMES[arch]),
        *tokenizer,
    ]
    return Plan(gguf.MODEL_ARCH_NAMES[arch], fields, tensors, remark)


def _label(source: Source) -> str:
    """Its name; llama.cpp strips spaces behind special tokens where it says Phi-3, only there."""
    strips = any(token["rstrip"] for token in source.tokenizer.definition()["added_tokens"])
    if not strips:
        return _PHI3.sub("Phi 3", source.name)
    return source.name if _PHI3.search(source.name) else f"{source.name} (Phi-3)"


def architecture(source: Source) -> MODEL_ARCH:
    """What llama.cpp calls this family.

    Raises:
        UserError: `cannot_export`.
    """
    arch = ARCHITECTURES.get(source.family)
    if arch is None:
        raise refused(f"GGUF is not written for the family {source.family}")
    kinds = source.settings.get("layer_types") or []
    if arch == MODEL_ARCH.LLAMA and "sliding_attention" in kinds:
        raise refused("llama.cpp has no sliding attention in this family")
    scaling = _rope_type(source.settings)
    known = {"default", "linear", "llama3"} if arch == MODEL_ARCH.LLAMA else {"default", "linear"}
    known |= {"yarn"} if source.family.startswith("qwen") else set()
    if scaling not in (known | (_LONGROPE if arch == MODEL_ARCH.PHI3 else set())):
        raise refused(f"positions scaled by {scaling} have no place in this family's GGUF")
    return arch


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
    if _rope_type(source.settings) not in _LONGROPE:
        return 0
    return int(source.settings["original_max_position_embeddings"]) + 1


def refused(why: str) -> UserError:
    """GGUF cannot hold it."""
    return UserError("cannot_export", "--format gguf", why, "use --format mlx, peft or hf")


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
    if _rope_type(settings) in {"linear", "yarn"}:
        fields.append(text(f"{arch}.rope.scaling.type", _rope_type(settings)))
        fields.append(real(f"{arch}.rope.scaling.factor", scaling["factor"]))
    if _rope_type(settings) == "yarn":
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
    if _rope_type(settings) in _LONGROPE:
        longer = settings["max_position_embeddings"] / original
        factor = math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
        fields.append(text(f"{arch}.rope.scaling.type", "longrope"))
        fields.append(real(f"{arch}.rope.scaling.attn_factor", factor))
    return fields


def _rope_tensors(source: Source) -> list[Planned]:
    """What scaled positions need beside the weights, F32."""
    scaling, kind = source.settings.get("rope_scaling") or {}, _rope_type(source.settings)
    made: dict[str, np.ndarray] = {}
    if kind == "llama3":
        made["rope_freqs.weight"] = llama3_factors(source.settings, scaling)
    if kind in _LONGROPE:
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


def _rope_type(settings: dict[str, Any]) -> str:
    scaling = settings.get("rope_scaling") or {}
    return str(scaling.get("rope_type") or scaling.get("type") or "default").lower()
