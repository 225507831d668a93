"""`models`: those of the hub searched, looked at and brought; the token; the offline switch."""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.table import Table

from mlx_lora import events, jobs
from mlx_lora.cli import library
from mlx_lora.cli.display import clear_progress, clock, console, print_line, print_notice, size
from mlx_lora.cli.learning import Json
from mlx_lora.cli.running import run_job

models_app = typer.Typer(help="Models: found, downloaded, kept.", rich_markup_mode=None)
token_app = typer.Typer(help="The hub's token, kept in the Keychain.", rich_markup_mode=None)
_Hub = Annotated[str, typer.Argument(metavar="MODEL", help="a Hugging Face id: owner/name")]
_TELLING = {"checking": "Checking", "paused": "Paused at", "downloading": "Downloading"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    library.add_commands(models_app)
    models_app.command("search")(search_models)
    models_app.command("info")(show_model)
    models_app.command("download")(download_model)
    models_app.command("offline")(switch)
    token_app.command("set")(set_token)
    token_app.command("forget")(forget)
    token_app.command("show-source")(show_source)
    models_app.add_typer(token_app, name="token")
    app.add_typer(models_app, name="models")


def search_models(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS", help="words of its name [any]")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="at most so many", min=1, max=100)] = 20,
    json: Json = False,
) -> None:
    """Models of the hub that can be trained here, most downloaded first."""
    from mlx_lora.models.hub import search

    found = search(" ".join(words or ()), context.obj.root, limit)
    if json:
        _print_json(found)
        return
    table = Table()
    for heading in ("model", "kind", "parameters", "licence", "downloads"):
        table.add_column(heading, overflow="fold")
    for one in found:
        licence = f"{one.licence}{', to be accepted' if one.gated else ''}"
        size = f"{one.parameters / 1e9:.2f} billion" if one.parameters else ""
        table.add_row(one.repository, one.kind, size, licence, f"{one.downloads:,}")
    nothing = "Nothing that can be trained here is called so. Try fewer words."
    console.print(table if found else nothing)


def show_model(context: typer.Context, model: _Hub, json: Json = False) -> None:
    """What a model of the hub is, its licence, and how much there is to download."""
    from mlx_lora.models.hub import look_up

    found = look_up(model, context.obj.root)
    if json:
        _print_json(found)
        return
    terms = " (to be accepted on its page before it is downloaded)" if found.gated else ""
    facts = {
        "model": found.repository,
        "kind": found.kind,
        "parameters": f"{found.parameters:,}" if found.parameters else "",
        "licence": f"{found.licence or 'not said'}{terms}",
        "page": found.page,
        "download": _progress_words(found),
        "downloads": f"{found.downloads:,}",
        "without asking": found.twin,
    }
    for name, value in facts.items():
        if value:
            console.print(f"{name:>16}  {value}", markup=False, soft_wrap=True)


def download_model(context: typer.Context, model: _Hub, json: Json = False) -> None:
    """Bring a model of the hub to this machine; begun before, it goes on; damaged, it is mended."""
    bring_model(context.obj.root, model, as_json=json)


def bring_model(root: Any, model: str, *, as_json: bool) -> None:
    """Download a model in a process of its own, showing how far it is.

    Raises:
        UserError: what it failed with.
        InterruptedJobError: Ctrl-C; what has arrived is kept.
    """
    job = jobs.DownloadJob(model=model, root=str(root))
    finished = run_job(job, _show, as_json=as_json)
    if not as_json and finished.reason == "done":
        console.print(f"{model} is on this machine.", markup=False, soft_wrap=True)


def switch(
    context: typer.Context,
    state: Annotated[Literal["on", "off"], typer.Argument(help="on: no connection is tried")],
) -> None:
    """Let nothing here ask the hub, or let it ask again."""
    from mlx_lora.models.offline import offline_reason, switch_offline

    switch_offline(context.obj.root, on=state == "on")
    reason = offline_reason(context.obj.root)
    if state == "off" and reason:
        console.print(f"Still offline: {reason}.")
        return
    console.print(
        "Offline: no connection is tried; what is on this machine works as before."
        if state == "on"
        else "Online: the hub is asked for what you search or download, and for nothing else."
    )


def set_token() -> None:
    """Keep the hub's token in the Keychain; it is read from the keyboard or stdin, never argv."""
    from mlx_lora.models.token import store_token

    if sys.stdin.isatty():
        value = typer.prompt("Token", hide_input=True, default="", show_default=False)
    else:
        value = sys.stdin.readline()
    store_token(value)
    console.print("The token is in the Keychain.")


def forget() -> None:
    """Take the token out of the Keychain."""
    from mlx_lora.models.token import forget_token, token_source

    gone = forget_token()
    console.print("The token is forgotten." if gone else "The Keychain holds no token of ours.")
    if other := token_source():
        console.print(f"In use now: {other}.")


def show_source() -> None:
    """Where the token in use is from; the token itself is never shown."""
    from mlx_lora.models.token import token_source

    source = token_source()
    console.print(f"In use: {source}." if source else "No token. Open models need none.")


def _progress_words(found: Any) -> str:
    """Bytes of a model, and what of them is still to come."""
    here = found.size - found.missing
    if not found.missing:
        return f"{size(found.size)}, all of it on this machine"
    return f"{size(found.size)}" + (f", {size(here)} of it here" if here else "")


def _show(event: events.Event) -> None:
    """A download's events for a person."""
    match event:
        case events.Report(kind="model", data=data):
            licence = data["licence"] or "not said"
            console.print(
                f"{data['repository']}: {size(data['size'])}, licence {licence}",
                markup=False,
                soft_wrap=True,
            )
        case events.Phase(name="checking" | "downloading" | "paused"):
            _print_phase(event)
        case events.Notice():
            print_notice(event)
        case events.Finished():
            clear_progress()
        case _:
            pass


def _print_phase(phase: events.Phase) -> None:
    """Bytes, speed and time left on one line of a terminal; nothing elsewhere."""
    words = f"{_TELLING[phase.name]} {size(phase.done)} of {size(phase.total)}"
    if phase.rate:
        words += f", {size(round(phase.rate))}/s, {clock(phase.eta)} left"
    print_line(words)


def _print_json(data: Any) -> None:
    sys.stdout.write(json_module.dumps(msgspec.to_builtins(data), indent=1) + "\n")


def bring_missing(root: Any, model: str, *, as_json: bool) -> None:
    """Download MODEL where it is a hub id that is not here.

    Raises:
        UserError: as `bring_model`.
    """
    from mlx_lora.models.fetch import needs_download

    if needs_download(model):
        bring_model(root, model, as_json=as_json)
