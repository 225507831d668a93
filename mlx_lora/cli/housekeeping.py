"""`runs` and `doctor`."""

from __future__ import annotations

import json as json_module
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mlx_lora import __version__, blas
from mlx_lora.cli.display import console, size
from mlx_lora.cli.learning import Json
from mlx_lora.errors import UserError
from mlx_lora.models.library import find_model, hub_cache
from mlx_lora.runs import Run
from mlx_lora.storage import show

runs_app = typer.Typer(help="What was trained on this machine.", rich_markup_mode=None)
_Name = Annotated[str, typer.Argument(metavar="RUN_DIR", help="folder or name of a run")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    runs_app.command("list")(list_runs)
    runs_app.command("show")(show_run)
    runs_app.command("delete")(delete_run)
    app.add_typer(runs_app, name="runs")
    app.command()(doctor)


def list_runs(context: typer.Context, json: Json = False) -> None:
    """Every run, newest first."""
    rows = [_summary(run) for run in context.obj.list()]
    if json:
        _print_json(rows)
        return
    table = Table()
    for heading in ("run", "state", "step", "held-out loss"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row["name"],
            row["status"],
            f"{row['step']}/{row['steps']}",
            _loss(row["validation_loss"]),
        )
    console.print(table if rows else "No runs yet. Start with: understudy demo")


def show_run(context: typer.Context, run: _Name, json: Json = False) -> None:
    """What a run was made from and how far it got."""
    found = context.obj.find(run)
    record, summary = found.record(), _summary(found)
    settings = {"model": record.config.model.source, "data": record.config.data.source}
    data = {**summary, **settings, "folder": show(found.folder), "versions": record.versions}
    # the last word on each form counts
    exports = {
        f"{made['format']} {made['quant']}".strip(): made["words"] for made in found.state().exports
    }
    if json:
        _print_json({**data, "exports": exports})
        return
    for name, value in data.items():
        console.print(f"{name:>16}  {value}", markup=False, soft_wrap=True)
    for form, words in exports.items():
        console.print(f"{'export':>16}  {form}: {words}", markup=False, soft_wrap=True)


def delete_run(
    context: typer.Context,
    run: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Delete a run with its checkpoints and adapter."""
    found = context.obj.find(run)
    if not yes and not confirmed(f"Delete {found.name} and all it holds?"):
        console.print("Nothing was deleted.")
        return
    context.obj.delete(found)
    console.print(f"Deleted {found.name}.", markup=False)


def doctor(context: typer.Context, json: Json = False) -> None:
    """What this machine has to work with."""
    name = blas.prepare()
    import mlx.core as mx

    from mlx_lora import environment

    facts = environment.describe("")
    facts.pop("form")
    metal = mx.metal.is_available()
    data: dict[str, Any] = {
        **facts,
        "blas": name,
        "metal": metal,
        "system": platform.platform(terse=True),
        "memory_gb": round(_memory() / 1e9, 1),
        "free_disk_gb": round(shutil.disk_usage(_existing(context.obj.root)).free / 1e9, 1),
        "data_folder": show(context.obj.root),
        "model_cache": show(hub_cache()),
        **_hub_facts(context.obj.root),
        "demo": "bundled" if (find_model("demo") / "model.safetensors").is_file() else "missing",
        "runs": len(context.obj.list()),
    }
    if json:
        _print_json(data)
        return
    console.print(f"understudy {__version__}", markup=False)
    for key, value in data.items():
        console.print(f"{key.replace('_', ' '):>16}  {value}", markup=False, soft_wrap=True)
    if name == "reference":
        console.print(
            "OpenBLAS makes training 10 to 60 times faster here (Debian: libopenblas0-pthread)."
        )


def confirmed(question: str) -> bool:
    """The person's yes or no.

    Raises:
        UserError: `bad_option` where nobody is there to answer.
    """
    try:
        return typer.confirm(question)
    except typer.Abort as error:
        if sys.stdin.isatty():
            raise
        raise UserError("bad_option", "--yes", "nobody is here to say yes", "add --yes") from error


def _summary(run: Run) -> dict[str, Any]:
    state = run.state()
    last = state.last_validation
    return {
        "name": run.name,
        "status": state.status,
        "step": state.step,
        "steps": state.steps,
        "best_step": state.best_step,
        "base_loss": state.first_validation.loss if state.first_validation else None,
        "validation_loss": last.loss if last else None,
        "failure": state.failure.why if state.failure else None,
    }


def _memory() -> int:
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _hub_facts(root: Path) -> dict[str, str]:
    """May the hub be asked, with whose token, and what was begun and not ended."""
    from mlx_lora.models.hub_layout import unfinished
    from mlx_lora.models.offline import offline_reason
    from mlx_lora.models.token import token_source

    begun = [f"{one.repository} ({size(one.arrived)})" for one in unfinished()]
    reason = offline_reason(root)
    return {
        "hub": f"not asked: {reason}" if reason else "may be asked",
        "hub_token": token_source() or "none",
        "unfinished": ", ".join(begun) or "no downloads",
    }


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _print_json(data: object) -> None:
    sys.stdout.write(json_module.dumps(data, indent=1) + "\n")
