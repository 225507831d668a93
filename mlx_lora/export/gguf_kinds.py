"""Which kind of numbers each tensor of a GGUF model gets.

Plain kinds hold every matrix alike. The mixes Q4_K_M, Q5_K_M and Q6_K are llama.cpp's own
(`llama_tensor_get_type` in src/llama-quant.cpp): more bits for attn_v and ffn_down in the first and
last eighth and in every third layer between, and for the output matrix. A row that no block of a
kind divides falls back.
"""

from __future__ import annotations

import re

import gguf
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType

_PLAIN = {
    "f32": Kind.F32, "f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0, "q5_0": Kind.Q5_0,
    "q4_0": Kind.Q4_0,
}  # fmt: skip
_MIXES = {"q6_k": Kind.Q6_K, "q5_k_m": Kind.Q5_K, "q4_k_m": Kind.Q4_K}
_NARROWER = {Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0}
_FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16, "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q6_k": LlamaFileType.MOSTLY_Q6_K, "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q5_0": LlamaFileType.MOSTLY_Q5_0, "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}  # fmt: skip
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.weight")


def file_type(quant: str) -> int:
    """`general.file_type`, a label for people's tools."""
    return int(_FILE_TYPES[quant])


def kind_of(name: str, shape: tuple[int, ...], quant: str, *, blocks: int, tied: bool) -> Kind:
    """The kind of one tensor of a model of `blocks` layers."""
    if len(shape) < 2 or "norm" in name:  # noqa: PLR2004
        return Kind.F32
    wanted = _PLAIN[quant] if quant in _PLAIN else _mixed(name, quant, blocks, tied)
    if quant in {"q4_0", "q5_0"} and _is_output(name, tied):
        wanted = Kind.Q6_K
    return _fitting(wanted, shape[-1])


def _mixed(name: str, quant: str, blocks: int, tied: bool) -> Kind:
    if _is_output(name, tied):
        return Kind.Q6_K
    plain, found = _MIXES[quant], _BLOCK.fullmatch(name)
    if found is None:
        return plain
    number, part = int(found[1]), found[2]
    if part in {"attn_v", "ffn_down"} and _more_bits(number, blocks):
        return Kind.Q6_K
    if part == "attn_qkv":
        return {Kind.Q4_K: Kind.Q5_K, Kind.Q5_K: Kind.Q6_K}.get(plain, plain)
    return plain


def _is_output(name: str, tied: bool) -> bool:
    return name == "output.weight" or (tied and name == "token_embd.weight")


def _more_bits(number: int, blocks: int) -> bool:
    eighth = blocks // 8
    return number < eighth or number >= 7 * blocks // 8 or (number - eighth) % 3 == 2  # noqa: PLR2004


def _fitting(kind: Kind, width: int) -> Kind:
    if width % gguf.GGML_QUANT_SIZES[kind][0] == 0:
        return kind
    narrower = _NARROWER.get(kind, Kind.F16)
    return narrower if width % gguf.GGML_QUANT_SIZES[narrower][0] == 0 else Kind.F16
