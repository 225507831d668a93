"""Which kind of numbers each tensor of a GGUF model gets, and what a kind weighs. No mlx here.

Plain kinds hold every matrix alike. The mixes Q4_K_M, Q5_K_M and Q6_K are llama.cpp's own
(`llama_tensor_get_type` in src/llama-quant.cpp): more bits for attn_v and ffn_down in the first and
last eighth and in every third layer between, and for the output matrix. A row that no block of a
kind divides falls back.
"""

from __future__ import annotations

import math
import re

# ggml's blocks: kind -> (numbers, bytes)
BLOCKS = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "Q6_K": (256, 210),
    "Q5_K": (256, 176), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q4_K": (256, 144), "Q4_0": (32, 18),
}  # fmt: skip
_PLAIN = {
    "f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q5_0": "Q5_0", "q4_0": "Q4_0",
}  # fmt: skip
_MIXES = {"q6_k": "Q6_K", "q5_k_m": "Q5_K", "q4_k_m": "Q4_K"}
_NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.weight")


def kind_name(name: str, shape: tuple[int, ...], quant: str, *, blocks: int, tied: bool) -> str:
    """The kind of one tensor, by its GGUF name, of a model of `blocks` layers."""
    if len(shape) < 2 or "norm" in name:  # noqa: PLR2004
        return "F32"
    wanted = _PLAIN[quant] if quant in _PLAIN else _mixed(name, quant, blocks, tied)
    if quant in {"q4_0", "q5_0"} and _is_output(name, tied):
        wanted = "Q6_K"
    return _fitting(wanted, shape[-1])


def weight_of(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of a tensor."""
    numbers, size = BLOCKS[kind]
    return math.prod(shape) // numbers * size


def _mixed(name: str, quant: str, blocks: int, tied: bool) -> str:
    if _is_output(name, tied):
        return "Q6_K"
    plain, found = _MIXES[quant], _BLOCK.fullmatch(name)
    if found is None:
        return plain
    number, part = int(found[1]), found[2]
    if part in {"attn_v", "ffn_down"} and _more_bits(number, blocks):
        return "Q6_K"
    if part == "attn_qkv":
        return {"Q4_K": "Q5_K", "Q5_K": "Q6_K"}.get(plain, plain)
    return plain


def _is_output(name: str, tied: bool) -> bool:
    return name == "output.weight" or (tied and name == "token_embd.weight")


def _more_bits(number: int, blocks: int) -> bool:
    eighth = blocks // 8
    return number < eighth or number >= 7 * blocks // 8 or (number - eighth) % 3 == 2  # noqa: PLR2004


def _fitting(kind: str, width: int) -> str:
    if width % BLOCKS[kind][0] == 0:
        return kind
    narrower = _NARROWER.get(kind, "F16")
    return narrower if width % BLOCKS[narrower][0] == 0 else "F16"
