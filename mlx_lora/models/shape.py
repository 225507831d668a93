"""The sizes of a decoder, enough to count its numbers without reading one. No mlx here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.config import too_many_layers
from mlx_lora.lora.targets import by_name, in_group

if TYPE_CHECKING:
    from mlx_lora.config import AdapterConfig

# families this file knows the linears of; a few name others' layers
FAMILIES = {
    "gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3",
}  # fmt: skip
_GEMMA = {"gemma2": 4, "gemma3_text": 4}


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a decoder as config.json has them.

    Attributes:
        family: its model_type.
        intermediate: width of the feed-forward part.
        tied: the output matrix is that of the embeddings.
        context: the longest row it was made for, in tokens.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tied: bool

    @property
    def query_width(self) -> int:
        """Numbers a token in the queries."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Numbers a token in the keys; the values have as many."""
        return self.kv_heads * self.head_dim


def shape_of(core: dict[str, Any]) -> Shape:
    """The shape a checked description (`core_description`) tells, with the usual defaults."""
    heads = core.get("num_attention_heads") or 1
    hidden = core["hidden_size"]
    return Shape(
        family=core["model_type"],
        layers=core["num_hidden_layers"],
        hidden=hidden,
        intermediate=core.get("intermediate_size") or 4 * hidden,
        heads=heads,
        kv_heads=core.get("num_key_value_heads") or heads,
        head_dim=core.get("head_dim") or hidden // heads or 1,
        vocabulary=core.get("vocab_size") or 1,
        context=core.get("max_position_embeddings") or 0,
        tied=bool(core.get("tie_word_embeddings", core["model_type"].startswith("gemma"))),
    )


def layer_linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear of one layer by its name there, as mlx-lm's definitions have it."""
    hidden, inner, query, key = (
        shape.hidden, shape.intermediate, shape.query_width, shape.key_width
    )  # fmt: skip
    if shape.family == "phi3":
        return {
            "self_attn.qkv_proj": (query + 2 * key, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_up_proj": (2 * inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
    return {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def matrix_numbers(shape: Shape) -> int:
    """Numbers in embeddings, output matrix and linears: what `bits` packs."""
    linears = sum(out * width for out, width in layer_linears(shape).values())
    tables = 1 if shape.tied else 2
    return shape.vocabulary * shape.hidden * tables + shape.layers * linears


def parameters(shape: Shape) -> int:
    """All numbers of the model: matrices, norms, and the biases Qwen 2 has."""
    norms = _GEMMA.get(shape.family, 2) * shape.hidden
    if shape.family in {"qwen3", "gemma3_text"}:
        norms += 2 * shape.head_dim
    if shape.family == "qwen2":
        norms += shape.query_width + 2 * shape.key_width
    return matrix_numbers(shape) + shape.layers * norms + shape.hidden


def adapter_parameters(shape: Shape, config: AdapterConfig) -> int:
    """Trainable numbers of an adapter: rank x (in + out) for every linear it is put beside.

    Exact for the families in `FAMILIES`.

    Raises:
        UserError: `bad_option` for more layers than there are.
    """
    linears = layer_linears(shape)
    names = linears.keys() | {"lm_head"} if not shape.tied else set(linears)
    inside, once = set[str](), 0
    for target in config.targets:
        found = in_group(set(linears), target) or by_name(names, target)
        inside |= found - {"lm_head"}
        once = shape.hidden + shape.vocabulary if "lm_head" in found else once
    layers = shape.layers if config.layers == "all" else config.layers
    if layers > shape.layers:
        raise too_many_layers(layers, shape.layers)
    return config.rank * (layers * sum(sum(linears[name]) for name in inside) + once)
