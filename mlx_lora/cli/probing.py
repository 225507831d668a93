"""`train --probe`: three steps in a process of its own, beside the forecast; nothing is trained."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mlx_lora import events, fit, jobs
from mlx_lora.batches import rows_of
from mlx_lora.cli.display import clock, console, size
from mlx_lora.cli.rows import fetch
from mlx_lora.cli.running import run_job
from mlx_lora.errors import UserError
from mlx_lora.forecast import base_of, forecast_memory
from mlx_lora.machine import this_machine
from mlx_lora.models.shelf import look_up
from mlx_lora.pace import assumed_speed, forecast_pace, learning_operations, measured_speed
from mlx_lora.preflight import make_record
from mlx_lora.runs import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.config import RunConfig
    from mlx_lora.runs import RunRecord

_SAID = (events.Report, events.Phase, events.Notice)


def probe_run(store: RunStore, config: RunConfig, out: Path | None, *, as_json: bool) -> None:
    """Measure a run, find the largest batch that fits, print both beside what was predicted.

    A probe that died for want of memory is an answer; the exit code is that of any answer.

    Raises:
        UserError: whatever else is wrong; `bad_option` for a folder, because nothing is written.
        InterruptedJobError: Ctrl-C.
    """
    if out is not None:
        why, fix = "a probe writes nothing", "leave --out away"
        raise UserError("bad_option", "--out and --probe", why, fix)
    fetch(config.data, store.root)
    record, _ = make_record(config, store.root)
    tries = list[fit.Try]()
    batch: int | None = config.training.batch_size
    while batch is not None:
        if not as_json:
            console.print(f"Three steps at batch size {batch} ...", style="dim")
        found = _try(store, fit.with_batch(record, batch), as_json=as_json)
        assert found is not None  # a probe that is stopped ends the command
        tries.append(found)
        batch = fit.next_batch(tries)
    told = {**fit.summary(tries), "predicted": _predicted(store, config, tries[0].report)}
    if as_json:
        _write(events.Report(kind="fit", data=told))
        _write(events.Finished(reason="done"))
    else:
        _show(told)


def _try(store: RunStore, record: RunRecord, *, as_json: bool) -> fit.Try | None:
    """One probe in a child process."""
    said = list[events.Event]()

    def show(event: events.Event) -> None:
        said.append(event)
        if as_json and isinstance(event, _SAID):
            _write(event)

    outcome: events.Finished | events.Failed
    try:
        outcome = run_job(jobs.ProbeJob(record=record, root=str(store.root)), show)
    except UserError as error:
        outcome = events.Failed(code=error.code, where=error.where, why=error.why, fix=error.fix)
    return fit.read_try(record.config.training.batch_size, said, outcome)


def _predicted(store: RunStore, config: RunConfig, report: dict[str, Any]) -> dict[str, Any]:
    """What the forecast says of the batch that was asked for; rows are known where one ran."""
    base, machine = base_of(look_up(config.model.source)), this_machine()
    if base is None:
        return {}
    metal, rows = machine.metal, rows_of(report.get("data", {}))
    memory = forecast_memory(config, base, metal=metal, rows=rows, memory=machine.memory)
    told: dict[str, Any] = {
        "held": memory.weights + memory.adapter * 3 // 4,
        "peak": memory.engine,
        "runtime": memory.runtime + memory.cache,
        "need": memory.total,
    }
    if rows is not None:
        speed = measured_speed(store.list(), config, base.shape) or assumed_speed(machine)
        work = learning_operations(config, base.shape, report["width"]) * report["tokens"]
        pace = forecast_pace(config, base.shape, rows, speed, metal=metal)
        told |= {"seconds": work / speed.operations, "steps": pace.plan.steps}
    return told


def _show(told: dict[str, Any]) -> None:
    """Both columns, then the batches that were tried, then what follows."""
    first, predicted = told["tries"][0], told["predicted"]
    table = Table(title=f"Batch size {first['batch_size']}", title_justify="left")
    table.add_column("")
    for heading in ("predicted", "probed"):
        table.add_column(heading, justify="right")
    for name, words, say in (
        ("held", "before the first step, by MLX", size),
        ("peak", "at the peak of a step, by MLX", size),
        ("runtime", "Python and the engine beside", size),
        ("need", "in all", size),
        ("seconds", "a step of the heaviest batch", _seconds),
        ("steps", "steps", "{:,}".format),
    ):
        cells = [say(side[name]) if side.get(name) else "-" for side in (predicted, first)]
        table.add_row(words, *cells)
    console.print(table)
    for one in told["tries"]:
        console.print(_line(one), markup=False, soft_wrap=True)
    console.print(_verdict(told), markup=False, soft_wrap=True)


def _line(one: dict[str, Any]) -> str:
    batch = f"Batch {one['batch_size']:>3}"
    if not one["need"]:
        return f"{batch}  does not fit: {one['why']}"
    word = "fits" if one["fits"] else "does not fit"
    return f"{batch}  {size(one['need'])} of {size(one['limit'])}, {word}"


def _verdict(told: dict[str, Any]) -> str:
    best, asked = told["largest"], told["tries"][0]
    if not best:
        return "Not even one row fits. Try --bits 4, --grad-checkpoint or a lower --max-length."
    words = f"The largest batch that fits: --batch-size {best}."
    if asked["fits"] and asked.get("seconds"):
        most = clock(asked["seconds"] * asked["steps"])
        words += f" {asked['steps']:,} steps take at most {most} (samples not counted)."
    return words


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s"


def _write(event: events.Event) -> None:
    sys.stdout.write(events.encode(event).decode())
    sys.stdout.flush()
