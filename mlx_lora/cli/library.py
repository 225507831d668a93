"""`models list`, `delete`, `verify` and `quantize`: what is on this machine."""

from __future__ import annotations

import json as json_module
import sys
import time
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.table import Table

from mlx_lora import events, jobs
from mlx_lora.cli.display import clear_progress, console, print_line, print_notice, size
from mlx_lora.cli.housekeeping import confirmed
from mlx_lora.cli.learning import Json
from mlx_lora.cli.running import run_job
from mlx_lora.errors import UserError
from mlx_lora.models.library import model_name
from mlx_lora.storage import expanded, show

_Name = Annotated[str, typer.Argument(metavar="NAME", help="a model of models list")]
_Folders = Annotated[
    list[str] | None,
    typer.Option("--folder", help="look in this folder too; may be given several times"),
]
_PHASES = {
    "planning": "Looking at the model", "packing": "Packing", "reading_back": "Reading it back",
    "measuring_original": "Asking the original, layer",
    "measuring_packed": "Asking the packed model, layer",
    "checking": "Checking", "downloading": "Downloading", "paused": "Paused at",
}  # fmt: skip
_IN_BYTES = {"packing", "reading_back", "checking", "downloading", "paused"}
_DAY = 86_400
_BITS: dict[int, Literal[4, 6, 8]] = {4: 4, 6: 6, 8: 8}


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to `models`."""
    app.command("list")(list_models)
    app.command("delete")(delete)
    app.command("verify")(verify)
    app.command("quantize")(quantize)


def list_models(context: typer.Context, folder: _Folders = None, json: Json = False) -> None:
    """Every model on this machine: its bytes, origin, last run, and the runs that need it."""
    from mlx_lora.models.holdings import holdings

    found = holdings(context.obj, folder or ())
    if json:
        _print_json([_facts(one) for one in found])
        return
    table = Table()
    for heading in ("model", "size", "here since", "last run", "from", "runs"):
        table.add_column(heading, overflow="fold")
    for one in found:
        name = f"{one.source}\n{one.problem.why}" if one.problem else one.source
        bits = f"{one.bits}-bit, " if one.bits else ""
        runs = str(len(one.runs)) if one.runs else ""
        times = (_ago(one.arrived), _ago(one.used))
        table.add_row(name, f"{bits}{size(one.size)}", *times, one.origin, runs)
    console.print(table if found else "No models yet. Look for one: understudy models search qwen")
    if found:
        console.print(f"{size(sum(one.size for one in found))} in all.")


def delete(
    context: typer.Context,
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    even_if_used: Annotated[
        bool, typer.Option("--even-if-used", help="though runs need it")
    ] = False,
    version: Annotated[
        str, typer.Option("--version", help="one version of the Hugging Face cache [all]")
    ] = "",
    folder: _Folders = None,
) -> None:
    """Delete a model and free the disk; refused with their names while runs need it."""
    from mlx_lora.models.deletion import check_unused, delete_model
    from mlx_lora.models.holdings import find_holding

    found = find_holding(name, context.obj, folder or ())
    if not even_if_used:
        check_unused(found, context.obj)
    needed = f" {len(found.runs)} runs need it." if found.runs else ""
    if not yes and not confirmed(f"Delete {found.source} ({size(found.size)})?{needed}"):
        console.print("Nothing was deleted.")
        return
    freed = delete_model(found, context.obj, even_if_used=even_if_used, version=version)
    console.print(
        f"Deleted {found.source}; {size(freed)} are free again.", markup=False, soft_wrap=True
    )


def verify(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a model of models list [all]")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="bring damaged files again, and only those")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="also read what was found right before")
    ] = False,
    json: Json = False,
) -> None:
    """Look whether files are damaged; each is read whole once, and remembered while unchanged."""
    from mlx_lora.models.holdings import find_holding, holdings

    store = context.obj
    if name is not None:
        sources = [name if name == "demo" else find_holding(name, store).source]
    else:
        sources = [one.source for one in holdings(store)]
    failed: list[UserError] = []
    for source in sources:
        job = jobs.VerifyJob(model=source, root=str(store.root), repair=repair, again=again)
        try:
            done = run_job(job, _show, as_json=json)
        except UserError as error:
            failed.append(error)
            continue
        if not json and done.reason == "done":
            _say_verified(source, done.result["repaired"])
    for earlier in failed[:-1]:
        sys.stderr.write(earlier.line() + "\n")
    if failed:
        raise failed[-1]


def quantize(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="a full-precision model on this machine")
    ],
    bits: Annotated[int, typer.Option("--bits", help="4, 6 or 8 a weight")] = 4,
    out: Annotated[str | None, typer.Option("--out", help="folder [in the library]")] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="compare it with the original")
    ] = True,
    json: Json = False,
) -> None:
    """Pack a full-precision model to 4, 6 or 8 bit, in MLX's own format, and say what that cost."""
    from mlx_lora.models.packing import packed_name

    if bits not in _BITS:
        why = "models are packed to 4, 6 or 8 bit"
        raise UserError("bad_option", f"--bits {bits}", why, "choose 4, 6 or 8")
    root = context.obj.root
    place = expanded(out) if out else root / "models" / packed_name(model_name(model), bits)
    job = jobs.QuantizeJob(
        model=model, bits=_BITS[bits], out=str(place.absolute()), root=str(root), measure=measure
    )
    done = run_job(job, _show, as_json=json)
    if not json and "out" in done.result:
        console.print(f"Written: {done.result['out']}", markup=False, soft_wrap=True)


def _show(event: events.Event) -> None:
    """A job's events for a person."""
    match event:
        case events.Report(kind="quantize", data=data):
            clear_progress()
            saved = f"{size(data['original_bytes'])} became {size(data['bytes'])}"
            peak = f"; at most {size(data['peak_memory'])} of memory were taken"
            console.print(f"{saved}{peak}.", markup=False, soft_wrap=True)
            if data["words"]:
                console.print(f"{data['words']}.", markup=False, soft_wrap=True)
        case events.Report(kind="verify", data=data):
            clear_progress()
            for one in data["damage"]:
                console.print(f"  {one['name']}: {one['why']}", markup=False, soft_wrap=True)
        case events.Phase() if event.name in _PHASES:
            _print_phase(event)
        case events.Notice():
            print_notice(event)
        case events.Finished() | events.Failed():
            clear_progress()
        case _:
            pass


def _print_phase(phase: events.Phase) -> None:
    """How far it is on one line of a terminal; nothing elsewhere."""
    words = _PHASES[phase.name]
    if phase.total:
        counts = (phase.done, phase.total)
        done, total = map(size if phase.name in _IN_BYTES else str, counts)
        words += f" {done} of {total}"
    print_line(words)


def _say_verified(source: str, repaired: list[str]) -> None:
    what = f"brought again: {', '.join(repaired)}" if repaired else "every file is as it should be"
    console.print(f"{source}: {what}.", markup=False, soft_wrap=True)


def _facts(one: Any) -> dict[str, Any]:
    """A model for scripts: paths below the home folder begin with ~."""
    problem = one.problem
    data: dict[str, Any] = msgspec.structs.asdict(one)
    data["folder"] = show(one.folder)
    data["problem"] = None if problem is None else {"code": problem.code, "why": problem.why}
    return data


def _ago(when: float) -> str:
    days = int((time.time() - when) // _DAY) if when else -1
    if days < 0:
        return ""
    return "today" if days == 0 else "yesterday" if days == 1 else f"{days} days ago"


def _print_json(data: Any) -> None:
    sys.stdout.write(json_module.dumps(data, indent=1) + "\n")
