"""`generate`, `compare` and `evaluate`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mlx_lora import events, jobs
from mlx_lora.cli.display import print_answers, print_figures, print_notice
from mlx_lora.cli.learning import Json
from mlx_lora.cli.options import option, sampling
from mlx_lora.cli.rows import fetch
from mlx_lora.cli.running import run_job
from mlx_lora.config import DataConfig, ModelConfig, build_config, check_limits, rules
from mlx_lora.errors import UserError
from mlx_lora.models.library import check_model
from mlx_lora.preflight import check_data
from mlx_lora.runs import RunStore
from mlx_lora.storage import expanded
from mlx_lora.trained import Trained, trained_run

Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", "-p", help="what to say to it; may be repeated")
]
Raw = Annotated[
    bool, typer.Option("--raw", help="continue the prompt as plain text, without the chat template")
]
MaxTokens = Annotated[int | None, option("sampling.max_tokens", "--max-tokens")]
Temperature = Annotated[float | None, option("sampling.temperature", "--temperature")]
TopP = Annotated[float | None, option("sampling.top_p", "--top-p")]
Penalty = Annotated[float | None, option("sampling.repetition_penalty", "--repetition-penalty")]
Seed = Annotated[int | None, option("sampling.seed", "--seed")]
Model = Annotated[str | None, option("model.source", "--model", "-m")]
Bits = Annotated[str | None, option("model.bits", "--bits")]
RunName = Annotated[str | None, typer.Argument(metavar="RUN_DIR", help="folder or name of a run")]
AdapterDir = Annotated[
    str | None, typer.Option("--adapter", help="an adapter folder, with --model, in place of a run")
]

# an adapter turned up further than this drowns its base
_STRONGEST = 100


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(generate)
    app.command()(compare)
    app.command()(evaluate)


def generate(
    model: Annotated[str, option("model.source", "--model", "-m")],
    prompt: Annotated[
        list[str], typer.Option("--prompt", "-p", help="what to say to it; may be repeated")
    ],
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter", help="adapter folder, with @STRENGTH if wanted; each is one more answer"
        ),
    ] = None,
    bits: Bits = None,
    raw: Raw = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    repetition_penalty: Penalty = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Let a model answer, plain or with adapters."""
    check_model(model)
    voices = tuple(_voice(text) for text in adapter or []) or (jobs.Voice(),)
    job = jobs.GenerateJob(
        model=_model_config(model, bits),
        voices=voices,
        prompts=tuple(prompt),
        sampling=sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        ),
        style="raw" if raw else None,
    )
    several = len(voices) * len(prompt) > 1
    run_job(job, _answer_table if several else _stream, as_json=json)


def compare(
    context: typer.Context,
    run: RunName = None,
    prompt: Prompts = None,
    model: Model = None,
    adapter: AdapterDir = None,
    bits: Bits = None,
    raw: Raw = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    repetition_penalty: Penalty = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Base and adapted side by side: same prompts, same seed, same settings."""
    trained = find_trained(context.obj, run, model, adapter, bits)
    prompts = tuple(prompt or ()) or _own_prompts(context.obj, run)
    job = jobs.CompareJob(
        model=trained.model,
        voices=(jobs.Voice(), jobs.Voice(trained.adapter, label="adapted")),
        prompts=prompts,
        sampling=sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        ),
        style="raw" if raw else None,
    )
    run_job(job, _answer_table, as_json=json)


def evaluate(
    context: typer.Context,
    run: RunName = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="rows to measure on [those the run held out]")
    ] = None,
    model: Model = None,
    adapter: AdapterDir = None,
    bits: Bits = None,
    max_length: Annotated[
        int | None, option("data.max_length", "--max-length", default="as the run")
    ] = None,
    json: Json = False,
) -> None:
    """Loss, perplexity and next-token accuracy of base and adapted, on rows neither learnt from."""
    trained = find_trained(context.obj, run, model, adapter, bits)
    config = trained.record.config if trained.record else None
    if max_length is not None:
        check_limits("--max-length", max_length, rules(DataConfig)["max_length"])
    if config is None and data is None:
        raise UserError(
            "bad_option",
            "--data",
            "an adapter folder has no held-out rows",
            "name rows to measure on",
        )
    rows = config.data if config else DataConfig(source=data or "")
    changes = {"source": data, "max_length": max_length}
    changed = {name: value for name, value in changes.items() if value is not None}
    rows = msgspec.structs.replace(rows, **changed)
    if data is not None:  # other rows, read as the run's own were
        rows = msgspec.structs.replace(rows, subset="", split="")
        fetch(rows, context.obj.root)
        check_data(rows, context.obj.root)
    job = jobs.EvaluateJob(
        model=trained.model,
        data=rows,
        seed=config.training.seed if config else 0,
        root=str(context.obj.root),
        adapter=trained.adapter,
        whole=data is not None,
        today=trained.record.created if trained.record else "",
    )
    run_job(job, _figure_table, as_json=json)


def find_trained(
    store: RunStore, run: str | None, model: str | None, adapter: str | None, bits: str | None
) -> Trained:
    """A run, or the adapter folder named beside a model."""
    if adapter is not None or (run is not None and model is not None):
        if model is None:
            raise UserError(
                "bad_option", "--adapter", "an adapter alone does not say its model", "add --model"
            )
        check_model(model)
        return Trained(_model_config(model, bits), _adapter(adapter or run or ""), None)
    if run is None:
        raise UserError(
            "bad_option", "RUN_DIR", "no run is named", "name a run, or --model and --adapter"
        )
    return trained_run(store.find(run))


def _own_prompts(store: RunStore, run: str | None) -> tuple[str, ...]:
    """The prompts a run was sampled with."""
    prompts = (
        dict.fromkeys(sample.prompt for sample in store.find(run).state().samples) if run else {}
    )
    if not prompts:
        raise UserError("bad_option", "--prompt", "no prompt is given", "add --prompt TEXT")
    return tuple(prompts)


def _voice(text: str) -> jobs.Voice:
    """`DIR`, or `DIR@STRENGTH` where the whole is no existing path and the end is a number."""
    found = re.fullmatch(r"(.+)@([-+]?\d*\.?\d+)", text)
    if not found or expanded(text).exists():
        return jobs.Voice(_adapter(text), 1.0, Path(text).name)
    folder, strength = found[1], float(found[2])
    if abs(strength) > _STRONGEST:
        why = f"a strength of {found[2]} leaves no sense in the answers"
        raise UserError("bad_option", f"--adapter {text}", why, f"choose at most {_STRONGEST}")
    return jobs.Voice(_adapter(folder), strength, f"{Path(folder).name}@{found[2]}")


def _adapter(text: str) -> str:
    """An adapter folder that is there."""
    folder = expanded(text).absolute()
    if not folder.is_dir():
        fix = "name an adapter folder, with @STRENGTH if wanted"
        raise UserError("bad_adapter", text, "there is no such folder", fix)
    return str(folder)


def _model_config(model: str, bits: str | None) -> ModelConfig:
    tree = {"source": model} if bits is None else {"source": model, "bits": bits}
    return build_config({"model": tree, "data": {"source": "demo"}}).model


def _stream(event: events.Event) -> None:
    match event:
        case events.Token():
            sys.stdout.write(event.text)
            sys.stdout.flush()
        case events.Finished():
            sys.stdout.write("\n")
        case events.Notice():
            print_notice(event)
        case _:
            pass


def _answer_table(event: events.Event) -> None:
    match event:
        case events.Report():
            print_answers(event.data["rows"])
        case events.Notice():
            print_notice(event)
        case _:
            pass


def _figure_table(event: events.Event) -> None:
    if isinstance(event, events.Report):
        print_figures(event.data)
