"""Which forms a backend tries, best guess first: the whole policy is this table.

What is tried is measured on the machine (probe.py) and taken only where it is clearly faster than
the guess. Figures are of docs and tests of this project; nothing here was measured on Metal yet.
No mlx here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.training.engine import Engine

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig

Backend = Literal["cpu", "metal"]


class Forms(msgspec.Struct, frozen=True):
    """What one backend tries."""

    base: tuple[Literal["packed", "plain"], ...]
    batching: tuple[Literal["pack", "buckets", "rows"], ...]
    compiled: tuple[bool, ...]


TABLE: dict[Backend, Forms] = {
    # Quantized kernels and softmax are slow there: weights as floats are many times faster through
    # BLAS, and short rows of one document cost less attention than packed ones. mx.compile would
    # start a C++ compiler for every shape.
    "cpu": Forms(base=("plain", "packed"), batching=("buckets", "pack"), compiled=(False,)),
    # Quantized products run at about the rate of dense ones; packed rows are few shapes, which is
    # what the compiler wants.
    "metal": Forms(base=("packed",), batching=("pack", "buckets"), compiled=(True, False)),
}

# a form must be so many times faster than the table's first to be taken in its place
CLEARLY = 1.1
# runs of fewer steps are not measured: it would cost more than it brings
FEWEST_STEPS = 100
# of the memory that training may use, the share hidden states of frozen layers may take
PREFIX_SHARE = 0.25
# bytes of float32 logits a chunk, and the fewest positions of one: the head's matrix is read once
# a chunk, and BLAS is slow for a few rows (48 rows of 65 k words: 1.1 to 1.5 times the plain way)
_CHUNK_BYTES, _FEWEST = 12 << 20, 32


def chunk_size(vocabulary: int) -> int:
    """Positions whose logits are alive at a time."""
    return max(_FEWEST, _CHUNK_BYTES // (4 * vocabulary))


class Possible(msgspec.Struct, frozen=True, kw_only=True):
    """What this model and this run allow.

    Attributes:
        chunked: the head could be found, and has no adapter.
        packs: documents in one row do not see each other.
        replays: some first layers are frozen, can be left out, and every row is seen again.
    """

    chunked: bool
    packs: bool
    replays: bool


def candidates(
    config: RunConfig, backend: Backend, base: Literal["packed", "plain"], possible: Possible
) -> list[Engine]:
    """The engines worth measuring, the table's guess first; what a person chose is not varied."""
    forms, chosen, training = TABLE[backend], config.engine, config.training
    batchings = forms.batching if chosen.batching == "auto" else (chosen.batching,)
    compiled = forms.compiled if chosen.compile == "auto" else (chosen.compile == "on",)
    full = chosen.loss == "full" or not possible.chunked
    return [
        Engine(
            base=base,
            batching=batching,
            loss="full" if full else "chunked",
            recompute=training.checkpoint_every if training.grad_checkpoint else 0,
            prefix=possible.replays and chosen.prefix_cache != "off",
            compiled=through_compiler,
        )
        for through_compiler in compiled
        for batching in batchings
        if batching != "pack" or possible.packs
    ]
