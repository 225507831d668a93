"""What training keeps of one layer between the forward and the backward pass, counted in bytes.

Counted from the graph MLX's CPU backend builds, where norms, positions and attention are made of
plain operations, and held against MLX's own counter in the tests. Metal's fused kernels keep less,
so there this is too much rather than too little. No mlx here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlx_lora.models.shape import adapted_linears, layer_linears

if TYPE_CHECKING:
    from mlx_lora.config import AdapterConfig
    from mlx_lora.models.shape import Shape

_FLOAT = 4
_NORMED_HEADS = frozenset({"qwen3", "gemma3_text"})
_OUTER_NORMS = frozenset({"gemma2", "gemma3_text"})
# of a feed-forward part of width i, the values of width i its gates keep: gate, sigmoid, SiLU and
# up; GELU by tanh keeps two more; GPT-OSS bounds gate and up and keeps both sides of that
_GATES = {"gemma2": 6, "gemma3_text": 6, "gpt_oss": 7}
_SWIGLU = 4


class Kept(msgspec.Struct, frozen=True):
    """Bytes one layer keeps.

    Attributes:
        attention: of a token, for the gradient to pass its attention.
        feed: of a token, for the gradient to pass its feed-forward part.
        fixed: of a layer, however many rows a batch has.
        norm: of a token, what a norm of the hidden states keeps.
        entry: of a token, what of `attention` the first layer with adapters has no use for, because
            no gradient goes below it, beside its norm.
    """

    attention: float
    feed: float
    fixed: float
    norm: float
    entry: float

    @property
    def token(self) -> float:
        """Of a token."""
        return self.attention + self.feed


def count_layer(shape: Shape, adapter: AdapterConfig, length: int, width: int) -> Kept:
    """What a layer keeps of rows of `length` positions, activations `width` bytes each.

    A norm keeps its input in float32 and two numbers a row. What goes into a linear is kept only
    for its adapter: a frozen linear needs it for nothing.
    """
    inside = adapted_linears(shape, adapter)
    hidden = 0
    if adapter.dropout:
        first = {name for name in inside if name.startswith("self_attn.")}
        hidden = sum(not name.endswith("o_proj") for name in first) * shape.hidden
    return Kept(
        norm=_norm(shape.hidden),
        entry=width * hidden,
        attention=_attention(shape, adapter, inside, length, width),
        feed=_feed(shape, adapter, inside, width),
        fixed=_fixed(shape, length, width),
    )


def layer_bytes(shape: Shape, adapter: AdapterConfig, length: int, width: int) -> float:
    """Bytes a layer keeps of one token of a batch of one row."""
    kept = count_layer(shape, adapter, length, width)
    return kept.token + kept.fixed / length


def _attention(
    shape: Shape, adapter: AdapterConfig, inside: set[str], length: int, width: int
) -> float:
    query, key = shape.query_width, shape.key_width
    # queries and keys behind their positions, and the values; Phi-3 makes them as one and keeps it
    held = query + 2 * key + (query + key if shape.family == "phi3" else 0)
    # attention weights; Gemma 2 keeps those it bounds, too; GPT-OSS has one more, the sink
    scores = shape.heads * (length + (shape.family == "gpt_oss"))
    held += scores * (2 if shape.family == "gemma2" else 1)
    norms = _norm(shape.hidden) * (2 if shape.family in _OUTER_NORMS else 1)
    if shape.family in _NORMED_HEADS:
        norms += _FLOAT * (query + key) + 2 * _FLOAT * (shape.heads + shape.kv_heads)
    inputs = _inputs(shape, adapter, inside, "self_attn.")
    return width * (held + inputs) + norms


def _feed(shape: Shape, adapter: AdapterConfig, inside: set[str], width: int) -> float:
    active = shape.active if shape.experts else 1
    held = active * shape.intermediate * _GATES.get(shape.family, _SWIGLU)
    norms = _norm(shape.hidden) * (2 if shape.family in _OUTER_NORMS else 1)
    if shape.experts:
        # what each expert gives, before it is weighed; which experts, in which order
        held += active * shape.hidden
        norms += _FLOAT * (shape.experts + 7 * active)
    return width * (held + _inputs(shape, adapter, inside, "mlp.")) + norms


def _inputs(shape: Shape, adapter: AdapterConfig, inside: set[str], part: str) -> int:
    """Numbers a token that adapters of a part keep: what goes in, once for all that share it.

    And the narrow product of each. With dropout each has an input of its own and what hides it.
    """
    total, shared = 0, set[int]()
    for name, (_, wide) in layer_linears(shape).items():
        if name not in inside or not name.startswith(part):
            continue
        times = shape.active if ".experts." in name else 1
        total += times * adapter.rank
        # down_proj and o_proj have inputs of their own; the others of a part share one
        alone = name.endswith(("down_proj", "o_proj"))
        if adapter.dropout:
            total += 2 * times * wide
        elif alone or not shared:
            total += times * wide
            shared |= set() if alone else {wide}
    return total


def _fixed(shape: Shape, length: int, width: int) -> float:
    """Sines and cosines of the positions for queries and keys; the mask; Gemma's 1 + weight."""
    positions = 2 * length * shape.head_dim * width
    # GPT-OSS shares its windows' mask, Gemma 2 all of it
    masks = {"gemma2": 0.0, "gpt_oss": 0.5}.get(shape.family, 1.0)
    weights = 0
    if shape.family in _OUTER_NORMS:
        weights = 4 * shape.hidden + (2 * shape.head_dim if shape.family in _NORMED_HEADS else 0)
    return positions + masks * length * length + weights * width


def _norm(numbers: int) -> int:
    """Its input in float32, the mean of squares and its root."""
    return _FLOAT * numbers + 2 * _FLOAT
