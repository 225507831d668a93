"""Will it fit: memory of a run by parts, in bytes, and what its checkpoints take on disk.

Arithmetic over a model's sizes, held against MLX's own counters in the tests: weights, adapter,
optimizer, and what is kept between the passes are counted (to 2 %); the room for what is at work
in a pass is not, so the whole is an estimate until a probe has measured it (`mlx_lora.fit`). T is
the tokens of one batch (rows x length), w the bytes of one activation: 2 on Metal for bases of 16
bit and packed ones, 4 for float32 bases and on the CPU, where activations are float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.batches import heaviest_batch
from mlx_lora.layer_memory import count_layer
from mlx_lora.models.packing import group_for, plain_fits
from mlx_lora.models.shape import (
    Shape,
    adapted_layers,
    adapted_linears,
    adapter_parameters,
    copies,
    layer_linears,
    matrix_numbers,
)
from mlx_lora.training.policy import PREFIX_SHARE, chunk_size

if TYPE_CHECKING:
    from mlx_lora.batches import Batch, Rows
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
# bytes a number that is kept of frozen layers
_KEPT = 2
# bits the router of a mixture of experts is packed to, whatever the rest is (models/quantize.py)
_ROUTER = 8
# layers' worth of inner values that live while one is recomputed: at the logits of all positions,
# later, and where logits are chunked
_AT_LOGITS, _AT_WORK, _AGAIN = 1.4, 3.2, 2.75


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
    """Peak memory of a run by parts, in bytes.

    Attributes:
        cache: what the frozen layers make of every row, kept over the epochs.
        runtime: Python, MLX itself, the tokenizer.
    """

    weights: int
    adapter: int
    activations: int
    logits: int
    runtime: int
    cache: int = 0

    @property
    def engine(self) -> int:
        """What MLX's own counter sees."""
        return self.weights + self.adapter + self.activations + self.logits

    @property
    def total(self) -> int:
        """All of it."""
        return self.engine + self.cache + self.runtime


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
    rows: Rows | None = None,
    memory: int = 0,
) -> Memory:
    """Peak memory while training.

    Args:
        config: of the run.
        base: the model.
        metal: the engine runs on Metal; else on the CPU, in float32.
        rows: what is known of the data; without it every row counts as long as one may be.
        memory: bytes of physical memory, where they are known: on the CPU weights that are to be
            packed stay so where they would take more than half of it as floats, and what frozen
            layers make of the rows is kept where there is room for it.

    Raises:
        UserError: `bad_option` for more layers than the model has.
    """
    batch = heaviest_batch(config, rows, row_length(config, base), metal=metal)
    width = _activation_width(config, base, metal=metal)
    logits = logits_bytes(config, base.shape, batch.tokens, width)
    return Memory(
        weights=weight_bytes(config, base, metal=metal, memory=memory),
        adapter=adapter_bytes(config, base.shape, width),
        activations=activation_bytes(config, base.shape, batch, width, logits),
        logits=logits,
        runtime=_RUNTIME,
        cache=cache_bytes(config, base.shape, rows, memory),
    )


def row_length(config: RunConfig, base: Base) -> int:
    """Positions of the longest row there may be: tokens less the one that is only a target."""
    limits = (config.data.max_length, base.shape.context)
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
    """Matrices packed where a group divides them; the rest and scales in `width` bytes."""
    shape = base.shape
    tables = 1 if shape.tied else 2
    total = tables * _matrix_bytes(shape.vocabulary, shape.hidden, bits, width)
    for name, (out, wide) in layer_linears(shape).items():
        own = max(bits, _ROUTER) if name.endswith("router") else bits
        total += shape.layers * copies(shape, name) * _matrix_bytes(out, wide, own, width)
    return round(total) + max(0, base.parameters - matrix_numbers(shape)) * width


def _matrix_bytes(out: int, wide: int, bits: int, width: int) -> float:
    group = group_for(wide)
    if group is None:
        return out * wide * width
    return out * wide * (bits + 2 * 8 * width / group) / 8


def adapter_bytes(config: RunConfig, shape: Shape, width: int = _FLOAT) -> int:
    """The adapter, its gradient and AdamW's two moments: 4 x 4 bytes a trainable number.

    With activations of 16 bit a copy in their type besides.
    """
    copies = _FLOAT * _COPIES + (0 if width == _FLOAT else width)
    return adapter_parameters(shape, config.adapter) * copies


def kept_bytes(config: RunConfig, shape: Shape, batch: Batch, width: int) -> int:
    """What is kept between the forward and the backward pass, the head's part not counted.

    Only layers with adapters keep anything, and the first of them nothing of its attention where no
    adapter is in it. With `grad_checkpoint` every n-th layer keeps only what goes into it, `h w`.
    The norm behind the last layer keeps as much as that before the first need not.
    """
    adapter, training = config.adapter, config.training
    layers = adapted_layers(shape, adapter)
    each = count_layer(shape, adapter, batch.width, width)
    whole = batch.tokens * each.token + each.fixed
    first, again = shape.layers - layers, range(0)
    if training.grad_checkpoint:
        every = training.checkpoint_every
        again = range(-(-first // every) * every, shape.layers, every)
    kept = (layers - len(again)) * whole + len(again) * batch.tokens * shape.hidden * width
    if first in again:
        kept += batch.tokens * each.norm
    elif any(name.startswith("self_attn.") for name in adapted_linears(shape, adapter)):
        kept -= batch.tokens * each.entry
    else:
        kept -= batch.tokens * each.attention + each.fixed
    return max(0, round(kept))


def activation_bytes(config: RunConfig, shape: Shape, batch: Batch, width: int, logits: int) -> int:
    """Values kept for the backward pass, and room for the layer at work beside the logits.

    Kept is `kept_bytes`. At work: `T x (layer + 3 h w)`, or 2.75 layers where one is made again.
    Chunked logits are gone when the backward pass begins, so of logits and work only the larger
    counts; logits of all positions stand beside `T x (layer + 3 h w)`, and beside 1.4 layers, or
    3.2 without them, where layers are made again.
    """
    each = count_layer(shape, config.adapter, batch.width, width)
    layer = batch.tokens * each.token + each.fixed
    full = config.engine.loss == "full"
    if not config.training.grad_checkpoint:
        work = layer + 3 * batch.tokens * shape.hidden * width
        room = work if full else max(0.0, work - logits)
    elif full:
        room = max(_AT_LOGITS * layer, _AT_WORK * layer - logits)
    else:
        room = max(0.0, _AGAIN * layer - logits)
    return kept_bytes(config, shape, batch, width) + round(room)


def cache_bytes(config: RunConfig, shape: Shape, rows: Rows | None, memory: int = 0) -> int:
    """What frozen layers make of every row, `positions x h` in 16 bit, where a run keeps it.

    Kept where rows are seen more than once, in at most a quarter of what training may use.
    """
    asked, training = config.engine.prefix_cache, config.training
    frozen = shape.layers - adapted_layers(shape, config.adapter)
    if rows is None or not frozen or asked == "off":
        return 0
    seen = training.epochs * rows.training
    if training.steps is not None:
        seen = training.steps * training.grad_accumulation * training.batch_size
    size = round(rows.positions * shape.hidden * _KEPT)
    room = PREFIX_SHARE * _EASY * memory
    again = asked == "on" or seen > rows.training
    return size if again and (not memory or size <= room) else 0


def logits_bytes(config: RunConfig, shape: Shape, tokens: int, width: int) -> int:
    """The scores of every word: of a chunk of tokens, or of all of them.

    Chunked, `chunk x vocabulary x 4` three times (the logits, their softmax, and those of the next
    chunk) or, where one chunk is all, twice; and hidden states with their gradient, which is made
    on the way, `2 x T x h x 4`. In full, `T x vocabulary x 12` (the logits, their softmax, their
    gradient in float32), and for 16-bit bases those the model made and their gradient.
    """
    if config.engine.loss == "full":
        both = 0 if width == _FLOAT else 2 * width
        return tokens * shape.vocabulary * (3 * _FLOAT + both)
    chunk = chunk_size(shape.vocabulary)
    scores = 3 * chunk if tokens > chunk else 2 * tokens
    return _FLOAT * (scores * shape.vocabulary + 2 * tokens * shape.hidden)


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
