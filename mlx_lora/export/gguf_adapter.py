"""An adapter as a GGUF file for llama.cpp's `--lora`.

y = W x + (alpha / r) B (A x), alpha one FLOAT32 for the file, r the rank of each tensor
(src/llama-adapter.cpp). So alpha = scale * rank, and nothing else but pairs may be in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
from gguf import GGMLQuantizationType as Kind

from mlx_lora.export.gguf_file import Plan, Planned, constant, real, text, whole
from mlx_lora.export.gguf_kinds import file_type
from mlx_lora.export.gguf_model import architecture, rows_in_order, tensor_name
from mlx_lora.export.limits import check_gguf_adapter

if TYPE_CHECKING:
    from mlx_lora.export.source import Source

_KINDS = {"f32": Kind.F32, "f16": Kind.F16}


def plan_adapter(source: Source, quant: str) -> Plan:
    """The adapter in F32 or F16.

    Raises:
        UserError: `cannot_export` where llama.cpp has no place for it.
    """
    arch = architecture(source)
    shape = source.shape
    assert shape is not None
    layers, tensors = source.settings["num_hidden_layers"], []
    for name, delta in source.deltas.items():
        check_gguf_adapter(
            dora=delta.magnitude is not None, shared_output=name == "lm_head" and source.tied
        )
        there = tensor_name(arch, layers, f"{name}.weight")
        order = rows_in_order(f"{name}.weight", source.settings, arch)
        up = delta.b.T if order is None else delta.b.T[order]
        for part, values in (("lora_a", delta.a.T), ("lora_b", up)):
            kind = _KINDS[quant]
            tensors.append(Planned(f"{there}.{part}", values.shape, kind, constant(values)))
    fields = [
        text("general.type", "adapter"),
        text("general.name", f"{source.name} adapter"),
        whole("general.file_type", file_type(quant)),
        whole("general.quantization_version", gguf.GGML_QUANT_VERSION),
        text("adapter.type", "lora"),
        real("adapter.lora.alpha", shape.scale * shape.rank),
    ]
    if source.template:  # llama.cpp reads it off the base alone; here it is for whoever looks
        fields.append(text("tokenizer.chat_template", source.template))
    return Plan(gguf.MODEL_ARCH_NAMES[arch], fields, tensors)
