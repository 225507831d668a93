"""From what a run allows to the engine it takes: the table's guess, or what was measured here.

A measurement is remembered in the data root by everything it depends on, so that the same settings
on the same machine make the same run again.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora.data.batching import lay_out
from mlx_lora.data.order import Order
from mlx_lora.data.packing import make_layout
from mlx_lora.errors import UserError
from mlx_lora.events import Phase
from mlx_lora.lora.layers import DropoutKey
from mlx_lora.training.engine import Engine, read_engine, write_engine
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.objective import Objective
from mlx_lora.training.policy import CLEARLY, FEWEST_STEPS

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from mlx_lora.config import RunConfig
    from mlx_lora.data.render import Rendered
    from mlx_lora.training.policy import Backend, Possible

# batches timed of each candidate, after one that is not
_TIMED = 3


class Measured(msgspec.Struct, frozen=True):
    """Seconds a learnt token of one candidate, the median of a few batches."""

    engine: Engine
    seconds: float


def backend() -> Backend:
    """Where MLX computes in this process."""
    return "cpu" if mx.default_device() == mx.cpu else "metal"


def refuse_impossible(config: RunConfig, possible: Possible, first: int) -> None:
    """Say no to a form that was asked for by name and that this model or run does not allow.

    Raises:
        UserError: `bad_option`.
    """
    wanted, fix = config.engine, "leave it at auto"
    if wanted.batching == "pack" and not possible.packs:
        why = "documents in one row would see each other in this model"
        raise UserError("bad_option", "--batching pack", why, fix)
    if wanted.loss == "chunked" and not possible.chunked:
        why = "this model's output matrix could not be found, or has an adapter"
        raise UserError("bad_option", "--loss chunked", why, fix)
    if wanted.compile == "on" and backend() == "cpu" and shutil.which("g++") is None:
        why = "MLX compiles with g++ on the CPU, and there is none"
        raise UserError("bad_option", "--compile on", why, "install g++, or leave it at auto")
    if wanted.prefix_cache == "on" and not possible.replays:
        why = "every layer is adapted" if first == 0 else "this model's layers cannot be left out"
        raise UserError("bad_option", "--prefix-cache on", why, fix)


def choose(
    config: RunConfig,
    found: Sequence[Engine],
    documents: Sequence[Rendered],
    trial: Trial,
    memory: Path,
) -> Generator[Phase, None, tuple[Engine, list[Measured]]]:
    """The engine of a run among the candidates, and what was measured of each.

    `memory` is the file that remembers the choice; it is made where there was something to measure.
    """
    if len(found) == 1 or _too_short(config, found[0], documents):
        return found[0], []
    known = _remembered(memory)
    if known is not None and msgspec.structs.replace(known, source="table") in found:
        return msgspec.structs.replace(known, source="remembered"), []
    measured = []
    for number, engine in enumerate(found):
        yield Phase("measuring_forms", number, len(found))
        measured.append(Measured(engine, trial.seconds(engine, documents)))
    best = fastest(measured)
    write_engine(memory, best)
    return best, measured


def fastest(measured: Sequence[Measured]) -> Engine:
    """The first, unless another is clearly faster."""
    first, best = measured[0], min(measured, key=lambda one: one.seconds)
    chosen = best if first.seconds > CLEARLY * best.seconds else first
    return msgspec.structs.replace(chosen.engine, source="measured")


def memory_of(root: Path, config: RunConfig, *facts: Any) -> Path:
    """The folder that remembers the choice for settings and facts of machine, model and data."""
    settings = msgspec.structs.replace(
        config, training=msgspec.structs.replace(config.training, seed=0)
    )
    content = msgspec.json.encode([settings, *facts])
    return root / "engines" / hashlib.sha256(content).hexdigest()[:32]


class Trial(msgspec.Struct, frozen=True):
    """What it takes to try an engine; nothing is changed by it."""

    objective: Callable[[Engine], Objective]
    key: DropoutKey
    batch_size: int
    seed: int

    def seconds(self, engine: Engine, documents: Sequence[Rendered]) -> float:
        """Seconds a learnt token, forward and backward, over a few batches of the first epoch."""
        lengths = [len(document.tokens) - 1 for document in documents]
        layout = make_layout(engine.batching, lengths, self.batch_size)
        order = Order(layout, self.seed)
        compute = Differentiation(self.objective(engine), self.key, compiled=engine.compiled)
        rates = []
        for number in range(min(_TIMED, order.batches_per_epoch)):
            rows = order.batch(number)
            held = [[documents[at] for at in row] for row in rows]
            batch = lay_out(held, layout.width(rows)).on_device()
            for _ in range(2):  # the first of a shape warms up
                began = time.perf_counter()
                found = compute.step([batch], batch.target_count, self.seed, 0)
                mx.eval(found.loss, found.flat)
                taken = time.perf_counter() - began
            rates.append(taken / max(1, batch.target_count))
        return statistics.median(rates)


def _too_short(config: RunConfig, engine: Engine, documents: Sequence[Rendered]) -> bool:
    training = config.training
    if training.steps is not None:
        return training.steps < FEWEST_STEPS
    lengths = [len(document.tokens) - 1 for document in documents]
    count = make_layout(engine.batching, lengths, training.batch_size).count
    return training.epochs * count / training.grad_accumulation < FEWEST_STEPS


def _remembered(memory: Path) -> Engine | None:
    try:
        return read_engine(memory)
    except UserError:  # a damaged memory is measured again
        return None
