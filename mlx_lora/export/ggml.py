"""llama.cpp's own library, out of the `xllamacpp` wheel: its C functions through ctypes.

Struct layouts are those of llama.cpp b11549 (`include/llama.h`), which is why the wheel is pinned;
the defaults it returns are checked before anything is trusted. ggml ends the process on a failed
assertion, so a model is only ever opened in a process of its own (`llama_cpp.py`).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

CONTEXT_DEFAULT, BATCH_DEFAULT, TYPE_F16, TYPE_F32 = 512, 2048, 1, 0
FLASH_ATTENTION_OFF = 0


class ModelParams(Structure):
    """`struct llama_model_params`."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ContextParams(Structure):
    """`struct llama_context_params`."""

    _fields_ = (
        *((name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")),
        *((name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")),
        *((name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type")),
        *((name, c_int32) for name in ("rope_scaling_type", "pooling_type", "attention_type")),
        ("flash_attn_type", c_int32),
        *((name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor")),
        *((name, c_float) for name in ("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        *((name, c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload")),
        *((name, c_bool) for name in ("swa_full", "kv_unified")),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(Structure):
    """`struct llama_batch`."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    )


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [c_void_p, c_void_p]),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_adapter_lora_init": (c_void_p, [c_void_p, c_char_p]),
    "llama_set_adapters_lora": (
        c_int32,
        [c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float)],
    ),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_tokenize": (
        c_int32,
        [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool],
    ),
    "llama_token_to_piece": (
        c_int32,
        [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool],
    ),
    "ggml_quantize_init": (None, [c_int32]),
    "ggml_quantize_chunk": (
        c_size_t,
        [c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p],
    ),
}


@functools.cache
def library() -> Any:
    """The library with its signatures set.

    Raises:
        UserError: `no_llama_cpp` where the wheel is missing or is another version than the layouts.
    """
    found = importlib.util.find_spec("xllamacpp")
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    files = [file for place in places for file in place.glob("xllamacpp*.so")]
    if not files:
        raise _absent("xllamacpp is not installed here")
    try:
        loaded = ctypes.CDLL(str(files[0]))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise _absent(f"llama.cpp cannot be loaded ({error})") from error
    defaults = loaded.llama_context_default_params()
    known = (defaults.n_ctx, defaults.n_batch, defaults.type_k, defaults.type_v)
    if known != (CONTEXT_DEFAULT, BATCH_DEFAULT, TYPE_F16, TYPE_F16):
        raise _absent("this xllamacpp is another version than Understudy was made for")
    return loaded


def quantize(data: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """Rows of float32 (rows, width) as ggml's blocks, uint8 (rows, bytes a row).

    ggml works on one core; rows are independent, so each core gets some.
    """
    from gguf.quants import quant_shape_to_byte_shape

    rows = np.ascontiguousarray(data, np.float32).reshape(-1, data.shape[-1])
    out = np.empty(quant_shape_to_byte_shape(rows.shape, kind), np.uint8)
    step = -(-len(rows) // (os.cpu_count() or 1))

    def part(begin: int) -> int:
        size = min(step, len(rows) - begin)
        written: int = library().ggml_quantize_chunk(
            int(kind), rows.ctypes.data, out.ctypes.data, begin * rows.shape[1], size,
            rows.shape[1], None,
        )  # fmt: skip
        return written

    library().ggml_quantize_init(int(kind))
    with ThreadPoolExecutor() as pool:
        written = sum(pool.map(part, range(0, len(rows), step)))
    if written != out.nbytes:
        raise RuntimeError(f"ggml wrote {written} of {out.nbytes} bytes")
    return out


def _absent(why: str) -> UserError:
    fix = "install Understudy again, with its own version of xllamacpp"
    return UserError("no_llama_cpp", "llama.cpp", why, fix)
