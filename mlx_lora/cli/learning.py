"""`train` and `resume`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_lora import events, jobs
from mlx_lora.cli.display import TrainDisplay, console, print_result
from mlx_lora.cli.options import gather, number_or_all, option, read_file
from mlx_lora.cli.rows import (
    LongRows,
    Map,
    Overlap,
    Split,
    Subset,
    Template,
    fetch,
    rows_settings,
)
from mlx_lora.cli.running import run_job
from mlx_lora.cli.suiting import suited
from mlx_lora.config import RunConfig
from mlx_lora.errors import UserError
from mlx_lora.preflight import make_record
from mlx_lora.runs import Run, RunStore
from mlx_lora.storage import expanded, show
from mlx_lora.training.links import launched

Json = Annotated[bool, typer.Option("--json", help="print the events as JSON lines")]
# input that a worker found wrong before its first step leaves no run behind
_REFUSALS = {
    "bad_data", "bad_model", "bad_option", "bad_template", "damaged_model", "no_template",
    "unsupported_model",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(train)
    app.command()(resume)


def train(
    context: typer.Context,
    model: Annotated[str | None, option("model.source", "--model", "-m")] = None,
    data: Annotated[str | None, option("data.source", "--data", "-d")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the new run [in the data folder]")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="settings from a TOML file")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="quick, balanced or thorough")
    ] = "balanced",
    suit: Annotated[
        bool, typer.Option("--suit", help="fit the preset to this model and data, saying why")
    ] = False,
    bits: Annotated[str | None, option("model.bits", "--bits")] = None,
    rank: Annotated[int | None, option("adapter.rank", "--rank")] = None,
    alpha: Annotated[float | None, option("adapter.alpha", "--alpha")] = None,
    dropout: Annotated[float | None, option("adapter.dropout", "--dropout")] = None,
    targets: Annotated[str | None, option("adapter.targets", "--targets", default="all")] = None,
    layers: Annotated[str | None, option("adapter.layers", "--layers")] = None,
    epochs: Annotated[float | None, option("training.epochs", "--epochs")] = None,
    steps: Annotated[int | None, option("training.steps", "--steps")] = None,
    batch_size: Annotated[int | None, option("training.batch_size", "--batch-size")] = None,
    max_length: Annotated[int | None, option("data.max_length", "--max-length")] = None,
    learning_rate: Annotated[
        float | None, option("training.learning_rate", "--learning-rate")
    ] = None,
    warmup: Annotated[float | None, option("training.warmup", "--warmup")] = None,
    weight_decay: Annotated[float | None, option("training.weight_decay", "--weight-decay")] = None,
    clip: Annotated[float | None, option("training.clip", "--clip")] = None,
    grad_accumulation: Annotated[
        int | None, option("training.grad_accumulation", "--grad-accumulation")
    ] = None,
    grad_checkpoint: Annotated[
        bool | None, option("training.grad_checkpoint", "--grad-checkpoint/--no-grad-checkpoint")
    ] = None,
    checkpoint_every: Annotated[
        int | None, option("training.checkpoint_every", "--checkpoint-every")
    ] = None,
    batching: Annotated[str | None, option("engine.batching", "--batching")] = None,
    loss: Annotated[str | None, option("engine.loss", "--loss")] = None,
    prefix_cache: Annotated[str | None, option("engine.prefix_cache", "--prefix-cache")] = None,
    compiled: Annotated[str | None, option("engine.compile", "--compile")] = None,
    base_form: Annotated[str | None, option("engine.base", "--base-form")] = None,
    val_fraction: Annotated[float | None, option("data.val_fraction", "--val-fraction")] = None,
    train_on: Annotated[str | None, option("data.train_on", "--train-on")] = None,
    long_rows: LongRows = None,
    overlap: Overlap = None,
    template: Template = None,
    mapping: Map = None,
    subset: Subset = None,
    split: Split = None,
    eval_every: Annotated[
        int | None, option("training.eval_every", "--eval-every", default="a tenth of the run")
    ] = None,
    eval_rows: Annotated[int | None, option("training.eval_rows", "--eval-rows")] = None,
    save_every: Annotated[
        int | None, option("training.save_every", "--save-every", default="as eval")
    ] = None,
    sample_every: Annotated[
        int | None, option("training.sample_every", "--sample-every", default="as eval")
    ] = None,
    prompt: Annotated[
        list[str] | None, option("samples.prompts", "--prompt", default="the data's own")
    ] = None,
    patience: Annotated[int | None, option("training.patience", "--patience")] = None,
    seed: Annotated[int | None, option("training.seed", "--seed")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="fetch MODEL from the hub where it is not here")
    ] = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="measure memory, time and the largest batch that fits; train nothing"
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Train an adapter and keep it."""
    if epochs is not None and steps is not None:
        raise UserError(
            "bad_option",
            "--epochs and --steps",
            "they say the same thing twice",
            "give one of them",
        )
    given: dict[str, dict[str, Any]] = {
        "model": {"source": model, "bits": bits},
        "data": {
            "source": data,
            "max_length": max_length,
            "val_fraction": val_fraction,
            "train_on": train_on,
            **rows_settings(mapping, long_rows, overlap, template, subset, split),
        },
        "adapter": {
            "rank": rank,
            "alpha": alpha,
            "dropout": dropout,
            "targets": [part.strip() for part in targets.split(",")]
            if targets is not None
            else None,
            "layers": number_or_all(layers),
        },
        "training": {
            "epochs": epochs,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "warmup": warmup,
            "weight_decay": weight_decay,
            "clip": clip,
            "grad_accumulation": grad_accumulation,
            "grad_checkpoint": grad_checkpoint,
            "checkpoint_every": checkpoint_every,
            "eval_every": eval_every,
            "eval_rows": eval_rows,
            "save_every": save_every,
            "sample_every": sample_every,
            "patience": patience,
            "seed": seed,
        },
        "engine": {
            "batching": batching,
            "loss": loss,
            "prefix_cache": prefix_cache,
            "compile": compiled,
            "base": base_form,
        },
        "samples": {"prompts": prompt},
    }
    file = read_file(config)
    if model is None and not _names_source(file, "model"):
        raise UserError(
            "bad_option", "--model", "no model is named", "name a model folder, or demo"
        )
    if data is None and not _names_source(file, "data"):
        raise UserError(
            "bad_option", "--data", "no data is named", "name a file, tiny-shakespeare, or demo"
        )
    settings = gather(preset, file, given)
    if _follows():
        fetch(settings.data, context.obj.root)
        follow(context.obj)
        return
    if download:
        from mlx_lora.cli.models import bring_missing

        bring_missing(context.obj.root, settings.model.source, as_json=json)
    if suit:
        settings = suited(settings, preset, file, given, context.obj.root, as_json=json)
    if probe:
        from mlx_lora.cli.probing import probe_run

        probe_run(context.obj, settings, out, as_json=json)
        return
    run = create_run(context.obj, settings, out)
    try:
        run_training(context.obj, run, as_json=json)
    except UserError as error:
        if error.code in _REFUSALS and not run.state().validations and not run.state().losses:
            context.obj.delete(run)
        raise


def resume(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN_DIR", help="folder or name of a run")],
    json: Json = False,
) -> None:
    """Go on with a run that was stopped or killed; the result is the same as without the break."""
    if _follows():
        follow(context.obj)
        return
    found = context.obj.find(run)
    found.record()
    if found.state().status == "finished":
        fix = f"compare it with: understudy compare {found.name}"
        raise UserError("finished", found.name, "this run is already finished", fix)
    run_training(context.obj, found, as_json=json)


def follow(store: RunStore) -> None:
    """Compute a share of the run that rank 0 of MLX's launcher leads and shows.

    Raises:
        UserError: what keeps this process from it.
    """
    run_job(jobs.FollowJob(root=str(store.root)), lambda _event: None)


def _follows() -> bool:
    """Whether MLX's launcher started this process, and another of them leads."""
    place = launched()
    return place is not None and place.rank > 0


def create_run(store: RunStore, config: RunConfig, out: Path | None) -> Run:
    """Check everything that can be checked without the engine, then make the run's folder."""
    fetch(config.data, store.root)
    record, name = make_record(config, store.root)
    return store.create(record, name, expanded(out).absolute() if out else None)


def run_training(store: RunStore, run: Run, *, as_json: bool) -> None:
    """Train in a worker and show it.

    Raises:
        UserError: what it failed with, naming what of the run is saved.
    """
    job = jobs.TrainJob(run=str(run.folder), root=str(store.root))
    if not as_json:
        console.print(f"Run      {show(run.folder)}", markup=False, soft_wrap=True)
    try:
        with TrainDisplay(silent=as_json) as display:
            log = run.folder / "worker.log"
            finished = run_job(job, display.show, as_json=as_json, log=log)
    except UserError as error:
        saved = error.saved or run.saved()
        raise UserError(error.code, error.where, error.why, error.fix, saved) from error
    if as_json:
        return
    if "adapter" in finished.result:
        print_result(finished.result, show(run.folder))
        _say_gain(finished)
    else:
        console.print(
            f"Stopped and saved. Go on with: understudy resume {run.name}",
            markup=False,
            soft_wrap=True,
        )


def _names_source(file: dict[str, Any], group: str) -> bool:
    """Whether a settings file names MODEL or DATA, or is wrong there in a way still to be said."""
    return group in file and (not isinstance(file[group], dict) or "source" in file[group])


def _say_gain(finished: events.Finished) -> None:
    base, adapted = finished.result.get("base"), finished.result.get("adapted")
    if base and adapted and math.isfinite(base["loss"]) and base["loss"] > 0:
        gain = 1 - adapted["loss"] / base["loss"]
        console.print(
            f"Held-out loss {base['loss']:.3f} before, {adapted['loss']:.3f} after "
            f"({abs(gain):.0%} {'lower' if gain >= 0 else 'higher'})."
        )
