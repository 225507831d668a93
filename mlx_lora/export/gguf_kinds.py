"""The kinds of `kinds.py` as the `gguf` package knows them."""

from __future__ import annotations

from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType

from mlx_lora.export.kinds import kind_name

_FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16, "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q6_k": LlamaFileType.MOSTLY_Q6_K, "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q5_0": LlamaFileType.MOSTLY_Q5_0, "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}  # fmt: skip


def file_type(quant: str) -> int:
    """`general.file_type`, a label for people's tools."""
    return int(_FILE_TYPES[quant])


def kind_of(name: str, shape: tuple[int, ...], quant: str, *, blocks: int, tied: bool) -> Kind:
    """The kind of one tensor of a model of `blocks` layers."""
    return Kind[kind_name(name, shape, quant, blocks=blocks, tied=tied)]
