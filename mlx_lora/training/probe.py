"""Three steps of a run on its heaviest batch, measured: memory and time, and nothing is kept.

Everything is built as training builds it (the same engine, the same frozen layers kept), so the
peak is that of the run. It ends with a report `probe`. A process that dies of it has answered, too;
`mlx_lora.fit` reads both.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from mlx_lora.events import Event, Finished, Phase, Report
from mlx_lora.footprint import footprint, peak_footprint
from mlx_lora.layer_memory import layer_bytes
from mlx_lora.machine import this_machine
from mlx_lora.memory_limits import engine_limits, working_set
from mlx_lora.models.shelf import look_up
from mlx_lora.pace import learning_operations
from mlx_lora.training.engine import in_short
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.session import Session, prepare
from mlx_lora.training.step import Pending, Stepper
from mlx_lora.training.trainer import heeding

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.control import Control
    from mlx_lora.jobs import ProbeJob
    from mlx_lora.memory_limits import Tidier
    from mlx_lora.models.shape import Shape

    Rows = list[list[int]]

_STEPS = 3
# micro-batches of a step that are made: what more of them take is time only
_MOST = 2


def probe(job: ProbeJob, control: Control) -> Generator[Event, None, None]:
    """Prepare a run, make three steps of it on the heaviest batch of its first epoch, report.

    Raises:
        UserError: whatever is wrong with model, data or options.
    """
    session = yield from heeding(prepare(job.record, Path(job.root)), control)
    if session is None:
        yield Finished(reason="stopped")
        return
    shape = look_up(job.record.config.model.source).shape
    with engine_limits() as tidier:
        found = yield from heeding(_measure(session, shape, tidier), control)
    if found is None:
        yield Finished(reason="stopped")
        return
    yield Report(kind="probe", data=found)
    yield Finished(reason="done")


def heaviest(session: Session, shape: Shape | None) -> Rows:
    """The batch of the first epoch that takes most memory: its documents by row."""
    adapter = session.config.adapter

    def weigh(rows: Rows) -> float:
        width = session.order.width(rows)
        each = layer_bytes(shape, adapter, width, 4) if shape else 1.0
        return len(rows) * width * each

    batches = map(session.order.batch, range(session.order.batches_per_epoch))
    return max(batches, key=weigh)


def _measure(
    session: Session, shape: Shape | None, tidier: Tidier
) -> Generator[Event, None, dict[str, Any]]:
    yield Phase("probing", 0, _STEPS)
    rows = heaviest(session, shape)
    mx.synchronize()
    held, prepared = mx.get_active_memory(), mx.get_peak_memory()
    seconds = yield from _steps(session, rows, tidier)
    training, width = session.config.training, session.order.width(rows)
    tokens = len(rows) * width * training.grad_accumulation
    peak = mx.get_peak_memory()
    runtime = max(0, footprint() - mx.get_active_memory() - mx.get_cache_memory())
    work = tokens * learning_operations(session.config, shape, width) if shape else 0.0
    return {
        "batch_size": training.batch_size,
        "rows": len(rows),
        "width": width,
        "tokens": tokens,
        "documents": len(session.dataset.training),
        "held": held,
        "prepared": prepared,
        "peak": peak,
        "runtime": runtime,
        "kept": session.prefix.size if session.prefix is not None else 0,
        "need": peak + runtime,
        "footprint": peak_footprint(),
        "limit": working_set() or this_machine().usable,
        "seconds": seconds,
        "operations": work / seconds,
        "batches": session.order.batches_per_epoch,
        "steps": session.plan.steps,
        "engine": in_short(session.engine),
        "data": _facts(session),
    }


def _facts(session: Session) -> dict[str, Any]:
    """The lengths of the rows in tokens, as `mlx_lora.batches.rows_of` takes them."""
    lengths = [len(document.tokens) for document in session.dataset.training]
    return {
        "training_rows": len(lengths),
        "validation_rows": len(session.dataset.validation),
        "mean_tokens": sum(lengths) / len(lengths),
        "longest_tokens": max(lengths),
        "limit": session.dataset.renderer.max_length,
        "lengths": sorted(Counter(lengths).items()),
    }


def _steps(session: Session, rows: Rows, tidier: Tidier) -> Generator[Event, None, float]:
    """Seconds a step takes; each is handed over before the last is read, as training does."""
    training = session.config.training
    made = min(training.grad_accumulation, _MOST)
    batches = [session.batch_of(rows)] * made
    differentiation = Differentiation(
        session.objective, session.adapter.dropout_key, compiled=session.engine.compiled
    )
    stepper = Stepper(differentiation, session.optimizer, clip=training.clip, seed=training.seed)
    times, before = list[float](), None
    for step in range(1, _STEPS + 1):
        session.adapter.train(True)
        launched = stepper.launch(step, session.on_device(batches), training.learning_rate)
        session.adapter.train(False)
        if before is not None:
            times.append(_taken(before, launched.began))
        before = launched
        tidier.tidy()
        yield Phase("probing", step, _STEPS)
    assert before is not None
    times.append(_taken(before, None))
    # the first is never like those after it
    return statistics.median(times[1:]) * training.grad_accumulation / made


def _taken(pending: Pending, end: float | None) -> float:
    """Seconds from when a step was handed over to when the next was, or to when it is done."""
    mx.eval(pending.loss)
    return (time.perf_counter() if end is None else end) - pending.began
