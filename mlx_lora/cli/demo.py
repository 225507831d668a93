"""`demo`: the whole path on what is bundled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from mlx_lora import blas, events, jobs
from mlx_lora.cli.display import console, print_answers
from mlx_lora.cli.exporting import ExportDisplay
from mlx_lora.cli.learning import Json, create_run, run_training
from mlx_lora.cli.running import run_job
from mlx_lora.demo import PROMPTS, demo_config
from mlx_lora.export.formats import target
from mlx_lora.export.order import export_job
from mlx_lora.storage import show
from mlx_lora.trained import trained_run

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig
    from mlx_lora.runs import Run, RunStore


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(demo)


def demo(context: typer.Context, json: Json = False) -> None:
    """Train the bundled model on bundled Shakespeare, hear it, export it; offline, two minutes."""
    run = create_run(context.obj, _config(), None)
    run_training(context.obj, run, as_json=json)
    _compare(run, as_json=json)
    _export(context.obj, run, as_json=json)
    if not json:
        for line in (
            f"Run folder: {show(run.folder)}",
            f"Ask it more: understudy compare {run.name} --prompt 'ROMEO:'",
        ):
            console.print(line, markup=False, soft_wrap=True)


def _config() -> RunConfig:
    """The demo's settings, fewer steps where the machine is slow."""
    name = blas.prepare()
    if name == "reference":
        sys.stderr.write(
            "note: no OpenBLAS here, so the demo makes fewer steps (Debian: libopenblas0-pthread)\n"
        )
    return demo_config(name)


def _compare(run: Run, *, as_json: bool) -> None:
    job = jobs.CompareJob(
        model=run.record().config.model,
        voices=(jobs.Voice(), jobs.Voice(str(run.adapter), label="adapted")),
        prompts=PROMPTS,
        sampling={"max_tokens": 60, "temperature": 0.7, "seed": 7},
    )
    run_job(job, _show_answers, as_json=as_json)


def _export(store: RunStore, run: Run, *, as_json: bool) -> None:
    """A file llama.cpp, Ollama and LM Studio take, run in llama.cpp."""
    place = target(None, run.folder, "gguf", "f16")
    job = export_job(store.root, trained_run(run), run, form=("gguf", "f16"), out=place)
    run_job(job, ExportDisplay().show, as_json=as_json)


def _show_answers(event: events.Event) -> None:
    if isinstance(event, events.Report):
        print_answers(event.data["rows"])
