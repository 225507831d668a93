"""`data`: a dataset as figures and as the model sees it, a cleaned copy, the samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from mlx_lora import events, jobs
from mlx_lora.cli.display import clear_progress, console, print_notice, print_progress
from mlx_lora.cli.learning import Json
from mlx_lora.cli.options import option
from mlx_lora.cli.rows import (
    Data,
    LongRows,
    Map,
    Overlap,
    Split,
    Subset,
    Template,
    ValFraction,
    fetch,
    rows_settings,
)
from mlx_lora.cli.running import run_job
from mlx_lora.config import build_config
from mlx_lora.data.examples import check_beginnings
from mlx_lora.data.findings import KINDS, SAFE
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.models.library import check_model
from mlx_lora.storage import expanded

data_app = typer.Typer(help="Look at a dataset before training.", rich_markup_mode=None)
_Model = Annotated[str, option("model.source", "--model", "-m")]
_Length = Annotated[int, option("data.max_length", "--max-length")]
_TrainOn = Annotated[str, option("data.train_on", "--train-on")]
# shown where no row is asked for
_FIRST = 3
_STYLES = {"trained": "green", "masked": "dim", "cut": "red strike"}
_MEANINGS = {"trained": "learnt", "masked": "read, not learnt", "cut": "cut off, never seen"}
# what a terminal would act on, seen as the signs Unicode has for it
_VISIBLE = {n: chr(0x2400 + n) for n in range(32)} | {0x7F: "\u2421", 0x0A: "\u21b5\n"}
_KEYS = (
    "name", "formats", "template", "training_rows", "validation_rows", "tokens", "trained_tokens",
    "masked_tokens", "cut_tokens", "mean_tokens", "p50_tokens", "p95_tokens",
    "longest_row_tokens", "limit", "padding",
)  # fmt: skip
_REASONS = {"empty": "it holds no text or no answer"}
_LEVELS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_BAR = 40


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    data_app.command("check")(check_dataset)
    data_app.command("preview")(preview_dataset)
    data_app.command("clean")(clean_dataset)
    data_app.command("samples")(list_samples)
    app.add_typer(data_app, name="data")


def check_dataset(
    context: typer.Context,
    data: Data,
    model: _Model = "demo",
    max_length: _Length = 512,
    train_on: _TrainOn = "completions",
    long_rows: LongRows = None,
    overlap: Overlap = None,
    template: Template = None,
    mapping: Map = None,
    subset: Subset = None,
    split: Split = None,
    val_fraction: ValFraction = None,
    json: Json = False,
) -> None:
    """Every row looked at: tokens, what is cut, what is wrong and what to do about it."""
    settings = {
        "max_length": max_length, "train_on": train_on, "val_fraction": val_fraction,
        **rows_settings(mapping, long_rows, overlap, template, subset, split),
    }  # fmt: skip
    job = _make_job(context, data, settings, model)
    report: dict[str, Any] = {}
    run_job(job, lambda event: _show_facts(event, report), as_json=json, also=_keep(report))
    _refuse(report)


def preview_dataset(
    context: typer.Context,
    data: Data,
    model: _Model = "demo",
    row: Annotated[int | None, typer.Option("--row", help="the row to show [the first 3]")] = None,
    max_length: _Length = 512,
    train_on: _TrainOn = "completions",
    long_rows: LongRows = None,
    overlap: Overlap = None,
    template: Template = None,
    mapping: Map = None,
    subset: Subset = None,
    split: Split = None,
    json: Json = False,
) -> None:
    """Rows exactly as the model reads them: what is learnt, what is only read, what is cut."""
    settings = {
        "max_length": max_length, "train_on": train_on,
        **rows_settings(mapping, long_rows, overlap, template, subset, split),
    }  # fmt: skip
    job = _make_job(context, data, settings, model, row)
    view = _View(_FIRST if row is None else 1)
    run_job(job, view.show, as_json=json)
    if not json:
        view.close()


def clean_dataset(
    context: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="the copy: a file, or a folder of splits")],
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", help=f"what to clean, or all [{', '.join(SAFE)}]"),
    ] = None,
    mapping: Map = None,
    subset: Subset = None,
    split: Split = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="take the place of what is there")
    ] = False,
    json: Json = False,
) -> None:
    """Write a cleaned copy in UTF-8; the source is never altered."""
    tree = {"source": data, **rows_settings(mapping, None, None, None, subset, split)}
    config = build_config({"model": {"source": "demo"}, "data": tree})
    fetch(config.data, context.obj.root)
    find_source(config.data, context.obj.root)
    every = tuple(code for code, kind in KINDS.items() if kind.cleans)
    fixes = every if fix == ["all"] else tuple(fix) if fix else SAFE
    job = jobs.CleanJob(
        model=config.model, data=config.data, seed=0, root=str(context.obj.root),
        out=str(expanded(out).absolute()), fixes=fixes, overwrite=overwrite,
    )  # fmt: skip
    run_job(job, _show_cleaned, as_json=json)


def list_samples() -> None:
    """The small datasets that are bundled, one for each format."""
    from mlx_lora.data.samples import SAMPLES

    for sample in SAMPLES:
        console.print(f"sample:{sample.key:<12} {sample.title}. {sample.sentence}", markup=False)


def _make_job(
    context: typer.Context, data: str, settings: dict[str, Any], model: str, row: int | None = None
) -> jobs.InspectJob:
    """The job, after what can be found wrong without a worker."""
    given = {name: value for name, value in settings.items() if value is not None}
    config = build_config({"model": {"source": model}, "data": {"source": data, **given}})
    fetch(config.data, context.obj.root)
    check_beginnings(find_source(config.data, context.obj.root))
    check_model(model)
    root = str(context.obj.root)
    return jobs.InspectJob(model=config.model, data=config.data, seed=0, root=root, row=row)


def _keep(report: dict[str, Any]) -> Callable[[events.Event], None]:
    """Remembers the figures while events are printed as JSON."""

    def keep(event: events.Event) -> None:
        if isinstance(event, events.Report) and event.kind == "inspect":
            report.update(event.data)

    return keep


def _refuse(report: dict[str, Any]) -> None:
    """End as training would with these rows.

    Raises:
        UserError: `bad_data`, naming the first row that training refuses.
    """
    bad = [issue for issue in report.get("issues", ()) if issue["level"] == "error"]
    if not bad:
        return
    first = next(place for issue in bad for place in issue["places"])
    others = sum(issue["count"] for issue in bad) - 1
    more = f" (and {others:,} more row{'s' if others > 1 else ''})" if others else ""
    copy = "a copy without such rows"
    if any(issue["code"] == "unread" for issue in bad):
        copy = "with --fix broken --fix unread a copy of the rows that were read"
    fix = f"{first['fix']}; understudy data clean writes {copy}"
    raise UserError("bad_data", first["where"], f"{first['why']}{more}", fix)


def _show_facts(event: events.Event, report: dict[str, Any]) -> None:
    match event:
        case events.Report(kind="inspect", data=data):
            report.update(data)
            clear_progress()
            for name in _KEYS:
                _print_fact(name.replace("_", " "), _plain(data[name]))
            _print_lengths(data["histogram"], data["limit"])
            for issue in data["issues"]:
                _print_issue(issue)
            _print_long_rows(data["long_rows"])
            verdict = data["verdict"]
            console.print(f"\n{verdict['text']} {verdict['rank_text']}", soft_wrap=True)
        case events.Notice():
            print_notice(event)
        case events.Phase(name="checking" | "downloading" as name, done=done, total=total):
            print_progress(name, done, total)
        case _:
            pass


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return value.get("name") or ", ".join(f"{key or '?'} {n:,}" for key, n in value.items())
    if isinstance(value, float) and value < 1:
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int | float) else value


def _print_fact(name: str, value: object) -> None:
    console.print(f"{name:>18}  {value}", markup=False, soft_wrap=True)


def _print_lengths(histogram: dict[str, list[int]], limit: int) -> None:
    """Rows by length, a line a bucket."""
    most = max(histogram["counts"])
    console.print(f"\n{'tokens':>18}  rows", style="bold")
    for start, end, count in zip(
        histogram["edges"], histogram["edges"][1:], histogram["counts"], strict=False
    ):
        line = Text(f"{start:>10,} - {end:<6,} {count:>8,} ")
        line.append("\u2588" * round(_BAR * count / most), "yellow" if start >= limit else "green")
        if start < limit <= end:
            line.append(f"  limit {limit:,}", "bold")
        console.print(line)


def _print_issue(issue: dict[str, Any]) -> None:
    line = Text("\n")
    line.append(f"{issue['level']}: ", _LEVELS[issue["level"]])
    line.append(f"{issue['title']} ", "bold").append(f"[{issue['code']}]", "dim")
    if issue["rows"]:
        shown = ", ".join(map(str, issue["rows"][:5]))
        line.append(f"\n  {issue['split']} rows {shown}{', ...' if issue['count'] > 5 else ''}")  # noqa: PLR2004
    line.append(f"\n  {issue['effect']} {issue['fix']}")
    console.print(line, soft_wrap=True)
    for place in issue["places"][:3]:
        console.print(Text(f"  {place['where']}: {place['why']}", "dim"), soft_wrap=True)


def _print_long_rows(found: dict[str, Any]) -> None:
    """What each way to treat long rows would come to."""
    if not found["count"]:
        return
    console.print(f"\n{found['count']:,} long rows, by --long-rows:", style="bold")
    for name, effect in found["choices"].items():
        console.print(
            f"{name:>18}  {effect['rows']:,} rows stay, {effect['trained_tokens']:,} tokens "
            f"learnt, {effect['lost_tokens']:,} lost, {effect['ends_lost']:,} without their end",
            soft_wrap=True,
        )


def _show_cleaned(event: events.Event) -> None:
    match event:
        case events.Report(kind="clean", data=data):
            clear_progress()
            for code, count in data["removed"].items():
                console.print(f"{count:>10,}  {code}: {KINDS[code].cleans}", soft_wrap=True)
            for name, guess in data["encodings"].items():
                doubt = "" if guess["sure"] else "; check the letters of the copy"
                console.print(f"{name} was read as {guess['text']}{doubt}", soft_wrap=True)
            console.print(f"{data['rows']:,} rows in {data['path']}", soft_wrap=True)
        case events.Phase(name="cleaning", done=done):
            print_progress("cleaning", done, 0)
        case _:
            pass


def _reason(rows: list[dict[str, Any]]) -> str:
    """Why the first of these rows has nothing to show."""
    first = rows[0] if rows else {"left_out": "empty"}
    return str(first.get("why") or _REASONS.get(first["left_out"], _REASONS["empty"]))


class _View:
    """Prints rows in colour, at most so many, and the legend last."""

    def __init__(self, rows: int) -> None:
        self._rows, self._last = rows, 0
        self._reason = ""

    def show(self, event: events.Event) -> None:
        """Take one more event in."""
        match event:
            case events.Report(kind="preview", data=data):
                self._reason = self._reason or _reason(data["rows"])
            case events.Report(kind="pieces", data=data):
                self._print(data)
            case events.Notice():
                print_notice(event)
            case _:
                pass

    def close(self) -> None:
        """The rows are over: what the looks mean."""
        if not self._last:
            console.print(f"This row is left out: {self._reason}.", soft_wrap=True)
            return
        legend = Text("\n\n")
        for state, meaning in _MEANINGS.items():
            legend.append(f" {state} ", _STYLES[state]).append(f" {meaning}   ", "")
        console.print(legend)

    def _print(self, data: dict[str, Any]) -> None:
        if data["row"] != self._last:
            if self._rows == 0:
                return
            self._rows, self._last = self._rows - 1, data["row"]
            head = Text(f"\nRow {data['row']:,}, {data['tokens']:,} tokens\n", "bold")
            console.print(head)
        text = Text()
        for piece, state in data["pieces"]:
            text.append(piece.translate(_VISIBLE), _STYLES[state])
        console.print(text, end="", soft_wrap=True)
