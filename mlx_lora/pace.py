"""How long it takes: steps, tokens and seconds of a run.

Seconds are operations by speed. The speed is that of an earlier run of the same model where there
is one; else an assumption about the machine, and called one.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora import blas, events
from mlx_lora.batches import Rows, count_batches, rows_of
from mlx_lora.errors import UserError
from mlx_lora.models.shape import token_numbers
from mlx_lora.training.plan import Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlx_lora.config import RunConfig
    from mlx_lora.machine import Machine
    from mlx_lora.models.shape import Shape
    from mlx_lora.runs import Run

# operations a second: peak of Apple's GPUs by class (float16), what of it training reaches, and
# what a CPU core does with a good BLAS and with the reference one (measured on x86-64)
_APPLE = {"Ultra": 28e12, "Max": 14e12, "Pro": 7e12, "": 3.5e12}
_REACHED = 0.35
_CORE = {"reference": 3e9}
_GOOD_CORE = 20e9
_RUNS, _STEPS = 12, 50


class Speed(msgspec.Struct, frozen=True):
    """Operations a second, and where that is from: a probe of this run, an earlier run, a guess."""

    operations: float
    source: Literal["probed", "same", "model", "assumed"]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long a run is.

    Attributes:
        tokens: tokens that go through the model while learning, padding not counted.
        seconds: of learning and of measuring on held-out rows.
        batches: batches an epoch.
        exact: the steps are those the run will make; else about so many.
    """

    plan: Plan
    tokens: int
    seconds: float
    batches: int
    exact: bool = False


def forecast_pace(
    config: RunConfig, shape: Shape, rows: Rows, speed: Speed, *, metal: bool = False
) -> Pace:
    """Steps from epochs as the run makes them; seconds from operations.

    Batches are laid out as the run lays them out where the rows' lengths are known; else one holds
    `batch_size` rows on the average. Learning is `tokens x learning_operations`, measuring `tokens
    x 2 N`: all held-out rows before and after, `eval_rows` of them every `eval_every` steps.
    Samples are not counted.
    """
    training = config.training
    batches = count_batches(config, rows, metal=metal)
    plan = make_plan(config, batches.count)
    seen = plan.steps * training.grad_accumulation * rows.training / batches.count
    tokens = round(seen * rows.mean)
    times = plan.steps // plan.eval_every if rows.validation else 0
    measured = 2 * rows.validation + times * min(rows.validation, training.eval_rows)
    work = tokens * learning_operations(config, shape, rows.mean)
    work += measured * rows.mean * 2 * _numbers(shape, rows.mean)
    return Pace(
        plan=plan,
        tokens=tokens,
        seconds=work / speed.operations,
        batches=batches.count,
        exact=batches.exact or training.steps is not None,
    )


def learning_operations(config: RunConfig, shape: Shape, length: float) -> float:
    """Operations a token while learning.

    Forward 2 N, backward 2 N (no gradient for frozen weights), 2 N more where layers are made
    again, 1 N where every second one is; N counts the matrices a token goes through and `length x
    q` a layer for attention.
    """
    training = config.training
    again = 2 / training.checkpoint_every if training.grad_checkpoint else 0
    return (4 + again) * _numbers(shape, length)


def assumed_speed(machine: Machine) -> Speed:
    """What a machine of this kind may do, before anything was measured on it."""
    if machine.metal:
        kind = next((name for name in _APPLE if name and name in machine.name.split()), "")
        return Speed(_APPLE[kind] * _REACHED, "assumed")
    core = _CORE.get(blas.expected(), _GOOD_CORE)
    return Speed(core * (os.cpu_count() or 1), "assumed")


def measured_speed(runs: Iterable[Run], config: RunConfig, shape: Shape) -> Speed | None:
    """The speed of the newest run of this model: with the same batches if there is one.

    Reads the events of at most 12 runs; a run that cannot be read is passed over.
    """
    other: Speed | None = None
    for number, run in enumerate(runs):
        if number >= _RUNS:
            break
        try:
            then = run.record().config
        except UserError:
            continue
        if then.model.source != config.model.source:
            continue
        operations = _speed_of(run, then, shape)
        if operations is None:
            continue
        if _batches(then) == _batches(config):
            return Speed(operations, "same")
        other = other or Speed(operations, "model")
    return other


def _batches(config: RunConfig) -> tuple[object, ...]:
    training = config.training
    return (
        config.model.bits, config.data.max_length, training.batch_size, training.grad_checkpoint,
        training.checkpoint_every, config.engine,
    )  # fmt: skip


def _speed_of(run: Run, config: RunConfig, shape: Shape) -> float | None:
    """Operations a second of a run, from the median of its last steps."""
    rows: Rows | None = None
    seconds, before = list[float](), 0
    for event in run.events():
        match event:
            case events.Report(kind="setup", data=data):
                rows = rows_of(data.get("data") or {})
            case events.TrainStep():
                learnt, before = event.tokens - before, event.tokens
                if learnt > 0 and event.tokens_per_second > 0:
                    seconds.append(learnt / event.tokens_per_second)
            case _:
                pass
    if rows is None or not seconds:
        return None
    tokens = config.training.batch_size * config.training.grad_accumulation * rows.mean
    work = tokens * learning_operations(config, shape, rows.mean)
    return work / statistics.median(seconds[-_STEPS:])


def _numbers(shape: Shape, length: float) -> float:
    """Numbers a token is multiplied with: linears, output matrix, attention over the row."""
    attention = length * shape.query_width
    return shape.layers * (token_numbers(shape) + attention) + shape.vocabulary * shape.hidden
