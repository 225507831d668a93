"""`export`: a trained adapter as files other programs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from mlx_lora import events
from mlx_lora.cli.asking import AdapterDir, Bits, Model, RunName, find_trained
from mlx_lora.cli.display import console, print_notice
from mlx_lora.cli.learning import Json
from mlx_lora.cli.running import run_job
from mlx_lora.errors import UserError
from mlx_lora.export.formats import FORMATS, check_format, check_target, target
from mlx_lora.export.order import export_job, measure_job
from mlx_lora.models.library import find_model

_PHASES = {
    "loading_model": "Loading the model", "base": "Asking the base",
    "adapted": "Asking the adapter",
    "writing": "Writing", "writing_base": "Writing the base for the check",
    "reading_back": "Reading it back", "llama_cpp": "Running it in llama.cpp",
    "weighing": "Seeing what goes through each layer",
    **{f"measuring_{bits}": f"Merging into {bits} bit" for bits in (16, 8, 6, 4)},
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(help=_HELP)(export)


_HELP = "Write an adapter for other programs, and check it there. Formats: " + "; ".join(
    f"{form.name} ({form.what}, for {form.tools})" for form in FORMATS.values()
)


def export(
    context: typer.Context,
    run: RunName = None,
    form: Annotated[
        str, typer.Option("--format", "-f", help=f"one of {', '.join(FORMATS)}")
    ] = "gguf",
    out: Annotated[
        str | None, typer.Option("--out", help="folder, or FILE.gguf [in the run's folder]")
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option("--quant", help="gguf: f16, q8_0, q4_k_m, ...; mlx-fused: 4, 6, 8, 16"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="read it back and run it")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="in place of an earlier export")
    ] = False,
    legacy: Annotated[
        bool,
        typer.Option(
            "--legacy-adapter", help="ollama: adapter beside the base (Ollama up to 0.34.0)"
        ),
    ] = False,
    only_measure: Annotated[
        bool, typer.Option("--measure", help="mlx-fused: what each width costs; writes nothing")
    ] = False,
    model: Model = None,
    adapter: AdapterDir = None,
    bits: Bits = None,
    json: Json = False,
) -> None:
    """Write an adapter for other programs."""
    trained = find_trained(context.obj, run, model, adapter, bits)
    chosen, precision = check_format(form, quant, trained.model)
    if only_measure:
        _check_measure(chosen.name, quant, out)
    if legacy and chosen.name != "ollama":
        why, fix = "only Ollama has that form", "add --format ollama, or use --format gguf-lora"
        raise UserError("bad_option", "--legacy-adapter", why, fix)
    found = context.obj.find(run) if trained.record and run else None
    if only_measure:
        run_job(measure_job(context.obj.root, trained, found), ExportDisplay().show, as_json=json)
        return
    place = target(out, found.folder if found else None, chosen.name, precision)
    keep = (find_model(trained.model.source), Path(trained.adapter))
    check_target(place, overwrite=overwrite, keep=keep)
    job = export_job(
        context.obj.root, trained, found, form=(chosen.name, precision), out=place,
        overwrite=overwrite,
    )  # fmt: skip
    job = msgspec.structs.replace(job, verify=verify, legacy=legacy)
    run_job(job, ExportDisplay().show, as_json=json)


def _check_measure(form: str, quant: str | None, out: str | None) -> None:
    """Nothing beside --measure that would have to be written.

    Raises:
        UserError: `bad_option`.
    """
    if form != "mlx-fused":
        why, fix = f"there is nothing to measure for {form}", "add --format mlx-fused"
        raise UserError("bad_option", "--measure", why, fix)
    if quant is not None or out is not None:
        why = "it measures every width and writes nothing"
        raise UserError("bad_option", "--measure", why, "leave --quant and --out away")


class ExportDisplay:
    """An export as it goes: one line a stage, then the verdict."""

    def __init__(self) -> None:
        self._stage = ""

    def show(self, event: events.Event) -> None:
        """Show one event."""
        match event:
            case events.Phase(name=name) if name in _PHASES and name != self._stage:
                self._stage = name
                console.print(f"{_PHASES[name]} ...", markup=False)
            case events.Report(kind="fuse_loss"):
                console.print(_fuse_table(event.data))
            case events.Report(kind="export"):
                print_export(event.data)
            case events.Notice():
                print_notice(event)
            case _:
                pass


def print_export(data: dict[str, Any]) -> None:
    """Where it is, how large, and what came of checking it."""
    size = sum(data["files"].values()) / 1e6
    console.print(f"Wrote    {data['out']} ({size:,.1f} MB)", markup=False, soft_wrap=True)
    console.print(data["words"], markup=False)


def _fuse_table(data: dict[str, Any]) -> Table:
    table = Table(title="What merging costs, against the adapter on its base")
    for heading in ("bits", "same next token", "mean KL (nats)", "MB"):
        table.add_column(heading, justify="right")
    for line in data["lines"]:
        difference, mark = line["difference"], "  <-" if str(line["bits"]) == data["chosen"] else ""
        table.add_row(
            str(line["bits"]),
            f"{difference['top1']:.1%}",
            f"{difference['kl']:.2g}",
            f"{line['nbytes'] / 1e6:,.1f}{mark}",
        )
    return table
