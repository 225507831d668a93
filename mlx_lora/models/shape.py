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
    "gemma", "gemma2", "gemma3_text", "gpt_oss", "llama", "mistral", "phi3", "qwen2", "qwen3",
    "smollm3",
}  # fmt: skip
# what config.json calls the number of experts, and of those a token goes through
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_ACTIVE = ("num_experts_per_tok", "experts_per_token")
_GEMMA = {"gemma2": 4, "gemma3_text": 4}


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a decoder as config.json has them.

    Attributes:
        family: its model_type.
        intermediate: width of the feed-forward part.
        tied: the output matrix is that of the embeddings.
        context: the longest row it was made for, in tokens.
        experts: matrices each linear of the feed-forward part has; 0 where it is one.
        active: experts a token goes through.
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
    experts: int = 0
    active: int = 0

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
        experts=_first(core, _EXPERTS),
        active=_first(core, _ACTIVE),
    )


def layer_linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear of one layer by its name there, as mlx-lm's definitions have it.

    A linear of experts is there once; `copies` says how many matrices it has.
    """
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
    place = "mlp.experts" if shape.experts else "mlp"
    router = {"mlp.router": (shape.experts, hidden)} if shape.experts else {}
    return {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        **router,
        f"{place}.gate_proj": (inner, hidden),
        f"{place}.up_proj": (inner, hidden),
        f"{place}.down_proj": (hidden, inner),
    }


def copies(shape: Shape, name: str) -> int:
    """Matrices of a linear of `layer_linears`: one an expert, else one."""
    return shape.experts if ".experts." in name else 1


def matrix_numbers(shape: Shape) -> int:
    """Numbers in embeddings, output matrix and linears: what `bits` packs."""
    linears = sum(
        out * width * copies(shape, name) for name, (out, width) in layer_linears(shape).items()
    )
    tables = 1 if shape.tied else 2
    return shape.vocabulary * shape.hidden * tables + shape.layers * linears


def expert_numbers(shape: Shape) -> int:
    """Numbers in the experts' matrices, those of `matrix_numbers` that most tokens pass by."""
    return sum(
        out * width * copies(shape, name) * shape.layers
        for name, (out, width) in layer_linears(shape).items()
        if ".experts." in name
    )


def token_numbers(shape: Shape) -> int:
    """Numbers of one layer's linears that a token is multiplied with."""
    return sum(
        out * width * (shape.active if ".experts." in name else 1)
        for name, (out, width) in layer_linears(shape).items()
    )


def parameters(shape: Shape) -> int:
    """All numbers of the model: matrices, norms, and the biases Qwen 2 and GPT-OSS have."""
    norms = _GEMMA.get(shape.family, 2) * shape.hidden
    if shape.family in {"qwen3", "gemma3_text"}:
        norms += 2 * shape.head_dim
    if shape.family == "qwen2":
        norms += shape.query_width + 2 * shape.key_width
    if shape.family == "gpt_oss":  # every linear has a bias, every head an attention sink
        linears = layer_linears(shape).items()
        norms += sum(out * copies(shape, name) for name, (out, _) in linears) + shape.heads
    return matrix_numbers(shape) + shape.layers * norms + shape.hidden


def adapted_linears(shape: Shape, config: AdapterConfig) -> set[str]:
    """Names of the linears of a layer that get an adapter."""
    linears = set(layer_linears(shape))
    inside = set[str]()
    for target in config.targets:
        inside |= in_group(linears, target) or by_name(linears, target)
    return inside


def adapted_layers(shape: Shape, config: AdapterConfig) -> int:
    """How many layers, the last ones, get adapters.

    Raises:
        UserError: `bad_option` for more layers than there are.
    """
    layers = shape.layers if config.layers == "all" else config.layers
    if layers > shape.layers:
        raise too_many_layers(layers, shape.layers)
    return layers


def adapter_parameters(shape: Shape, config: AdapterConfig) -> int:
    """Trainable numbers of an adapter: rank x (in + out) for every linear it is put beside.

    Exact for the families in `FAMILIES`.

    Raises:
        UserError: `bad_option` for more layers than there are.
    """
    linears = layer_linears(shape)
    head = set() if shape.tied else {"lm_head"}
    named = any(by_name(head, target) for target in config.targets)
    once = shape.hidden + shape.vocabulary if named else 0
    inside = adapted_linears(shape, config)
    sums = sum(sum(linears[name]) * copies(shape, name) for name in inside)
    return config.rank * (adapted_layers(shape, config) * sums + once)


def _first(core: dict[str, Any], names: tuple[str, ...]) -> int:
    """The first of these settings that is there."""
    return next((int(core[name]) for name in names if core.get(name)), 0)
