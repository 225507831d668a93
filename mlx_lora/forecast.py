"""Will it fit: memory of a run by parts, in bytes, and what its checkpoints take on disk.

Arithmetic over a model's sizes, held against MLX's own peak counter in the tests. T is the tokens
of one batch (rows x length), w the bytes of one activation: 2 on Metal for bases of 16 bit and
packed ones, 4 for float32 bases and on the CPU, where activations are float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.models.packing import group_for
from mlx_lora.models.shape import Shape, adapter_parameters, matrix_numbers
from mlx_lora.training.policy import chunk_size

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig
    from mlx_lora.models.catalog import Entry
    from mlx_lora.models.shelf import Found

Verdict = Literal["fits", "tight", "large"]
# of the limit: above it, other programs have little left
_EASY = 0.8
# Python, MLX and the tokenizer: 71 MB measured on Linux with a small tokenizer (resident size less
# MLX's active memory), and room for a large one and for Metal
_RUNTIME = 300_000_000
_FLOAT = 4
# parameter, gradient and AdamW's two moments, each in float32
_COPIES = 4
# of `batch_size x mean` tokens, what a batch may hold (data/packing.py)
_ROOM = 1.28
# layers' worth of inner values that live while one is recomputed: at the logits of all positions,
# later, and where logits are chunked
_AT_LOGITS, _AT_WORK, _AGAIN = 1.4, 3.2, 2.5
# bytes a number that a norm keeps in 16 bit beside its input
_COPY_OF_NORM = 2.5


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model before it is loaded.

    Attributes:
        stored: bytes of its weights on disk.
        bits: bits a weight on disk; below 16 it is packed.
    """

    shape: Shape
    parameters: int
    stored: int
    bits: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Peak memory of a run by parts, in bytes."""

    weights: int
    adapter: int
    activations: int
    logits: int
    runtime: int

    @property
    def engine(self) -> int:
        """What MLX's own counter sees."""
        return self.weights + self.adapter + self.activations + self.logits

    @property
    def total(self) -> int:
        """All of it."""
        return self.engine + self.runtime


def base_of(model: Found | Entry) -> Base | None:
    """What a model on this machine or of the catalogue tells; None where it cannot be used."""
    if model.shape is None:
        return None
    return Base(shape=model.shape, parameters=model.parameters, stored=model.size, bits=model.bits)


def forecast_memory(
    config: RunConfig,
    base: Base,
    *,
    metal: bool,
    longest: int = 0,
    mean: float = 0.0,
    memory: int = 0,
) -> Memory:
    """Peak memory while training.

    Args:
        config: of the run.
        base: the model.
        metal: the engine runs on Metal; else on the CPU, in float32.
        longest: tokens of the longest row, where it is known; rows are cut at `max_length` and at
            the model's context.
        mean: tokens of a row on average, where it is known: a batch holds `batch_size` times that,
            or the longest row.
        memory: bytes of physical memory, where they are known: on the CPU weights that are to be
            packed stay so where they would take more than half of it as floats.

    Raises:
        UserError: `bad_option` for more layers than the model has.
    """
    length = row_length(config, base, longest)
    tokens = config.training.batch_size * length
    if mean and config.engine.batching != "rows":
        tokens = max(length, round(min(tokens, _ROOM * config.training.batch_size * mean)))
    width = _activation_width(config, base, metal=metal)
    logits = logits_bytes(config, base.shape, tokens, width)
    return Memory(
        weights=weight_bytes(config, base, metal=metal, memory=memory),
        adapter=adapter_bytes(config, base.shape, width),
        activations=activation_bytes(config, base.shape, tokens, length, width, logits),
        logits=logits,
        runtime=_RUNTIME,
    )


def plain_fits(plain: int, memory: int) -> bool:
    """Whether packed weights may be held as floats: they leave half of the memory to training."""
    return plain <= memory // 2


def row_length(config: RunConfig, base: Base, longest: int = 0) -> int:
    """Tokens of the longest row of a batch, less the one that is only a target."""
    limits = (config.data.max_length, base.shape.context, longest)
    return max(1, min(limit for limit in limits if limit > 0) - 1)


def weight_bytes(config: RunConfig, base: Base, *, metal: bool, memory: int = 0) -> int:
    """The frozen weights as they are held.

    On Metal as stored, unless `bits` says otherwise: then 2 or 4 bytes a number, or packed,
    `matrices x (bits + 2 x 8 w / group) / 8 + the rest x w`, where scales and biases are of the
    base's own width. On the CPU 4 bytes a number; packed, with w = 4, where half of the memory is
    not enough for that. `engine.base` decides otherwise where it is not `auto`.
    """
    wanted = base.bits if config.model.bits == "keep" else int(config.model.bits)
    plain, form = base.parameters * _FLOAT, config.engine.base
    if not metal:
        stays = form == "packed" or (form == "auto" and memory and not plain_fits(plain, memory))
        return _packed_bytes(base, wanted, _FLOAT) if stays and wanted < 16 else plain  # noqa: PLR2004
    if wanted < 16 and form == "plain":  # noqa: PLR2004
        return base.parameters * _activation_width(config, base, metal=True)
    if base.bits < 16 or wanted == base.bits:  # noqa: PLR2004
        return base.stored
    if wanted >= 16:  # noqa: PLR2004
        return base.parameters * wanted // 8
    return _packed_bytes(base, wanted, base.bits // 8)


def _packed_bytes(base: Base, bits: int, width: int) -> int:
    """Packed matrices, the rest and scales in `width` bytes."""
    matrices = matrix_numbers(base.shape)
    group = group_for(base.shape.hidden) or 64
    packed = matrices * (bits + 2 * 8 * width / group) / 8
    return round(packed) + max(0, base.parameters - matrices) * width


def adapter_bytes(config: RunConfig, shape: Shape, width: int = _FLOAT) -> int:
    """The adapter, its gradient and AdamW's two moments: 4 x 4 bytes a trainable number.

    With activations of 16 bit a copy in their type besides.
    """
    copies = _FLOAT * _COPIES + (0 if width == _FLOAT else width)
    return adapter_parameters(shape, config.adapter) * copies


def layer_bytes(shape: Shape, rank: int, length: int, width: int) -> int:
    """What one layer keeps of one token for the backward pass, in bytes.

    `w x (4 h + 2 q + 2 k + heads x length + 5 i + 7 r)`: the residual twice, both norms, queries,
    keys and values, attention weights, what goes into o_proj, and of the feed-forward part gate,
    sigmoid, SiLU, up and their product. Gemma's GELU keeps two more of width i, its norms behind
    attention and feed-forward 2 h, norms of queries and keys q + k. In 16 bit every norm keeps a
    float32 copy besides, 2.5 bytes a number as measured on the CPU; Metal's kernels should need
    none, so there this is too much rather than too little.
    """
    hidden, inner, query, key = (
        shape.hidden, shape.intermediate, shape.query_width, shape.key_width
    )  # fmt: skip
    gemma = shape.family in {"gemma2", "gemma3_text"}
    normed = query + key if shape.family in {"qwen3", "gemma3_text"} else 0
    outer = 2 * hidden if gemma else 0
    gates = 7 if gemma else 5
    kept = 4 * hidden + 2 * query + 2 * key + shape.heads * length + gates * inner + 7 * rank
    copies = 0 if width == _FLOAT else _COPY_OF_NORM * (2 * hidden + outer + normed)
    return round(width * (kept + outer + normed) + copies)


def activation_bytes(  # noqa: PLR0917
    config: RunConfig, shape: Shape, tokens: int, length: int, width: int, logits: int
) -> int:
    """Values kept for the backward pass, and room for the layer at work beside the logits.

    Kept: `T x layers x layer`; with `grad_checkpoint` of every n-th layer only what goes into it,
    `h w`. At work: `T x (layer + 3 h w)`, or 2.5 layers where one is made again. Chunked logits are
    gone when the backward pass begins, so of logits and work only the larger counts; logits of all
    positions stand beside `T x (layer + 3 h w)`, and beside 1.4 layers, or 3.2 without them, where
    layers are made again.
    """
    layer = layer_bytes(shape, config.adapter.rank, length, width)
    full = config.engine.loss == "full"
    if not config.training.grad_checkpoint:
        work = tokens * (layer + 3 * shape.hidden * width)
        return tokens * shape.layers * layer + (work if full else max(0, work - logits))
    again = -(-shape.layers // config.training.checkpoint_every)
    kept = again * shape.hidden * width + (shape.layers - again) * layer
    if full:
        room = max(_AT_LOGITS * layer * tokens, _AT_WORK * layer * tokens - logits)
    else:
        room = max(0.0, _AGAIN * layer * tokens - logits)
    return round(tokens * kept + room)


def logits_bytes(config: RunConfig, shape: Shape, tokens: int, width: int) -> int:
    """The scores of every word: of a chunk of tokens, or of all of them.

    Chunked, `3 x chunk x vocabulary x 4` (the logits, their softmax, and those of the next chunk)
    and the gradient of the hidden states made on the way, `3 x T x h x 4`. In full, `T x vocabulary
    x 12` (the logits, their softmax, their gradient in float32), and for 16-bit bases those the
    model made and their gradient.
    """
    if config.engine.loss == "full":
        both = 0 if width == _FLOAT else 2 * width
        return tokens * shape.vocabulary * (3 * _FLOAT + both)
    chunk = min(tokens, chunk_size(shape.vocabulary))
    return _FLOAT * 3 * (chunk * shape.vocabulary + tokens * shape.hidden)


def checkpoint_bytes(config: RunConfig, shape: Shape) -> int:
    """What a run takes on disk while it trains.

    `keep` checkpoints and the best, each adapter and two moments: 3 x 4 bytes a trainable number;
    and the adapter itself.
    """
    trainable = adapter_parameters(shape, config.adapter) * _FLOAT
    return trainable * 3 * (config.training.keep + 1) + trainable


def judge_memory(need: int, limit: int) -> Verdict:
    """Fits up to four fifths of the limit, tight up to the limit, else too large."""
    if need > limit:
        return "large"
    return "tight" if need > _EASY * limit else "fits"


def _activation_width(config: RunConfig, base: Base, *, metal: bool) -> int:
    """Bytes of one activation."""
    if not metal or config.model.bits == "32":
        return _FLOAT
    full = base.bits == 32 and config.model.bits != "16"  # noqa: PLR2004
    return _FLOAT if full else 2
