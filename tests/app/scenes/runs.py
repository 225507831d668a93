"""The library of runs and the queue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from app.jobs import Job
from mlx_lora import events, jobs
from mlx_lora.config import build_config, merge
from mlx_lora.runs import Run, RunRecord, RunStore

from .train import ENGINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application

_FACTS = {"name": "rows", "training_rows": 4331, "validation_rows": 481, "cut_rows": 12}


def record_of(base: str = "demo", rows: str = "demo", **settings: Any) -> RunRecord:
    """The record of an invented run."""
    sources = {"model": {"source": base}, "data": {"source": rows}}
    return RunRecord(
        config=build_config(merge(settings, sources)), versions={"mlx": "0.32.4"}, data_sha256="0",
        base_fingerprint="0", model_name=base, created="2026-11-07",
    )  # fmt: skip


def make_run(
    store: RunStore,
    folder: str,
    record: RunRecord | None = None,
    *,
    steps: int = 120,
    done: int | None = None,
    start: float = 3.1,
    end: float = 1.7,
    last: events.Event | None = None,
    before: tuple[events.Event, ...] = (),
    opening: tuple[events.Event, ...] = (),
    weight: int = 3_400_000,
) -> Run:
    """A run folder with invented events; the file that makes its size holds nothing."""
    run = store.create(record or record_of(), "", store.runs / folder)
    at = steps if done is None else done
    said: list[events.Event] = [events.Hello(pid=1)]
    said.append(events.Report(kind="setup", data={"data": _FACTS, "steps": steps}))
    said += opening
    said.append(events.Validation(step=0, loss=start, accuracy=0.3, rows=64))
    said += [_step(number, steps, start, end) for number in range(1, at + 1)]
    if at > steps // 2:
        loss = end + 0.06
        said.append(events.Validation(step=at, loss=loss, accuracy=0.5, rows=64))
        said.append(events.CheckpointSaved(step=at, path="checkpoints", best=True))
    said += before
    if last is not None:
        said.append(last)
    with (run.folder / "events.jsonl").open("wb") as file:
        file.writelines(events.encode(event) for event in said)
    with (run.folder / "weights").open("wb") as file:
        file.truncate(weight)
    return run


def _step(step: int, steps: int, start: float, end: float) -> events.TrainStep:
    """A loss that falls, with the luck of each batch."""
    luck = 0.09 * math.sin(step * 12.9898) * math.cos(step * 4.1414)
    loss = end + (start - end) * math.exp(-4 * step / steps) + luck
    return events.TrainStep(
        step=step, steps=steps, epoch=step / steps, loss=loss, learning_rate=1e-4, grad_norm=1.0,
        tokens=step * 900, tokens_per_second=900.0, peak_memory=2 * 10**9, eta=60.0,
    )  # fmt: skip


_DONE = events.Finished(reason="done", result={})
_GGUF = events.Report(kind="export", data={"format": "gguf", "quant": "q4_k_m"})
_FULL = events.Failed(
    code="disk_full", where="checkpoints", why="the disk is full (12 MB free)",
    fix="free some space", saved="the state after step 300",
)  # fmt: skip
_QWEN, _LLAMA = "Qwen/Qwen3-4B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"
_GEMMA, _TICKETS = "google/gemma-3-270m-it", "~/Data/support_tickets.jsonl"


def fill(application: Application) -> None:
    """Six runs, each in another state."""
    store = application.runs
    tickets = record_of(_QWEN, _TICKETS, model={"bits": "4"}, adapter={"rank": 16})
    make_run(
        store, "20261107-091412-qwen3-4b-support-tickets", tickets, steps=1300, start=2.31,
        end=1.24, last=_DONE, before=(_GGUF,), weight=212_000_000,
    )  # fmt: skip
    make_run(
        store, "20261106-184030-llama-1b-recipes", record_of(_LLAMA, "~/Data/recipes.jsonl"),
        steps=640, done=410, start=2.7, end=1.9,
        last=events.Finished(reason="stopped", result={}), weight=88_000_000,
    )  # fmt: skip
    make_run(
        store, "20261105-221903-gemma-270m-letters", record_of(_GEMMA, "~/Data/letters"),
        steps=900, done=380, start=3.4, end=2.2, weight=41_000_000,
    )  # fmt: skip
    make_run(
        store, "20261104-120000-qwen3-4b-support-tickets", tickets, steps=1300, done=320,
        start=2.31, end=1.6, last=_FULL, weight=152_000_000,
    )  # fmt: skip
    make_run(store, "20261101-101500-demo-shakespeare", start=4.46, end=3.05, last=_DONE)
    broken = store.create(record_of(), "", store.runs / "20261030-080102-llama-1b-faq")
    (broken.folder / "config.toml").write_text("config = [", encoding="utf-8")


def line_up(application: Application) -> None:
    """One at work, two that wait."""
    store, root = application.runs, str(application.runs.root)
    names = (
        "20261107-113000-gemma-270m-recipes", "20261107-113105-llama-1b-letters",
        "20261107-113240-qwen3-4b-faq",
    )  # fmt: skip
    records = (
        record_of(_GEMMA, "~/Data/recipes.jsonl"), record_of(_LLAMA, "~/Data/letters"),
        record_of(_QWEN, "~/Data/faq.jsonl"),
    )  # fmt: skip
    for at, (name, record) in enumerate(zip(names, records, strict=True)):
        run = make_run(store, name, record, steps=900, done=0 if at else 260, weight=20_000_000)
        job = Job(jobs.TrainJob(run=str(run.folder), root=root), title=run.name)
        job.state = "waiting" if at else "running"
        application.queue.jobs.append(job)
    application.queue.changed.emit()


def _library(application: Application) -> None:
    fill(application)
    application.window.go("runs")


def _damaged(application: Application) -> None:
    _choose(application, 5)


def _failed(application: Application) -> None:
    _choose(application, 3)


def _computing(application: Application) -> None:
    """A run with how it computes folded out."""
    fill(application)
    said = events.Report(kind="engine", data=ENGINE)
    make_run(
        application.runs, "20261108-101500-gemma-1b-recipes", record_of(_GEMMA, "~/Data/recipes"),
        steps=640, before=(_GGUF,), last=_DONE, opening=(said,),
    )  # fmt: skip
    application.window.go("runs")
    application.window.page.details.fold()


def _choose(application: Application, at: int) -> None:
    fill(application)
    application.window.go("runs")
    page = application.window.page
    page.table.loaded.connect(lambda: page.list.setCurrentIndex(page.shown.index(at, 0)))


def _busy(application: Application) -> None:
    fill(application)
    line_up(application)
    application.window.go("runs")
    running = application.queue.running
    page = application.window.page
    assert running is not None
    running.said.emit(_step(260, 900, 3.1, 1.7))
    page.line.changed.emit()


def _nothing_found(application: Application) -> None:
    fill(application)
    application.window.go("runs")
    page = application.window.page
    page.table.loaded.connect(lambda: page.library.search.setText("haiku"))


def _delete(application: Application) -> None:
    _choose(application, 0)
    page = application.window.page

    def ask() -> None:
        page.table.loaded.disconnect(ask)
        page.ask_to_delete()

    page.table.loaded.connect(ask)


def _no_trash(application: Application) -> None:
    from mlx_lora.errors import UserError

    _choose(application, 0)
    page = application.window.page
    error = UserError(
        "no_permission", "~/Runs", "this folder may not be written to",
        "choose a folder you may write to",
    )  # fmt: skip

    def refuse() -> None:
        page.table.loaded.disconnect(refuse)
        page.refuse(page.row, error)

    page.table.loaded.connect(refuse)


def _empty(application: Application) -> None:
    application.window.go("runs")


SCENES: dict[str, Callable[[Application], None]] = {
    "runs-library": _library,
    "runs-failed": _failed,
    "runs-computing": _computing,
    "runs-damaged": _damaged,
    "runs-queue": _busy,
    "runs-nothing-found": _nothing_found,
    "runs-delete": _delete,
    "runs-error": _no_trash,
    "runs-empty": _empty,
}
