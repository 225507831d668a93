"""`data check` and `data preview`: a dataset as figures, and as the model sees it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from mlx_lora import events, jobs
from mlx_lora.cli.display import console, print_notice
from mlx_lora.cli.learning import Json
from mlx_lora.cli.options import option
from mlx_lora.cli.running import run_job
from mlx_lora.config import build_config
from mlx_lora.data.source import find_source
from mlx_lora.models.library import check_model

data_app = typer.Typer(help="Look at a dataset before training.", rich_markup_mode=None)
_Data = Annotated[
    str, typer.Argument(metavar="DATA", help="a file, a folder, tiny-shakespeare, or demo")
]
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
    "name", "formats", "prompt_style", "training_rows", "validation_rows", "tokens",
    "trained_tokens", "masked_tokens", "cut_tokens", "training_targets", "median_tokens",
    "mean_tokens", "p95_tokens", "longest_tokens", "limit", "cut_rows",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    data_app.command("check")(check_dataset)
    data_app.command("preview")(preview_dataset)
    app.add_typer(data_app, name="data")


def check_dataset(
    context: typer.Context,
    data: _Data,
    model: _Model = "demo",
    max_length: _Length = 512,
    json: Json = False,
) -> None:
    """Rows, tokens, what is cut and what is left out, as a model will see it."""
    job = _make_job(context, data, {"max_length": max_length}, model)
    run_job(job, _show_facts, as_json=json)


def preview_dataset(
    context: typer.Context,
    data: _Data,
    model: _Model = "demo",
    row: Annotated[int | None, typer.Option("--row", help="the row to show [the first 3]")] = None,
    max_length: _Length = 512,
    train_on: _TrainOn = "completions",
    json: Json = False,
) -> None:
    """Rows exactly as the model reads them: what is learnt, what is only read, what is cut."""
    job = _make_job(context, data, {"max_length": max_length, "train_on": train_on}, model, row)
    view = _View(_FIRST if row is None else 1)
    run_job(job, view.show, as_json=json)
    if not json:
        view.close()


def _make_job(
    context: typer.Context, data: str, settings: dict[str, Any], model: str, row: int | None = None
) -> jobs.InspectJob:
    """The job, after what can be found wrong without a worker."""
    config = build_config({"model": {"source": model}, "data": {"source": data, **settings}})
    find_source(config.data, context.obj.root)
    check_model(model)
    root = str(context.obj.root)
    return jobs.InspectJob(model=config.model, data=config.data, seed=0, root=root, row=row)


def _show_facts(event: events.Event) -> None:
    match event:
        case events.Report(kind="inspect"):
            for name in _KEYS:
                _print_fact(name.replace("_", " "), event.data[name])
            for issue in event.data["issues"]:
                _print_fact(issue["code"].replace("_", " "), _name_rows(issue))
        case events.Notice():
            print_notice(event)
        case _:
            pass


def _print_fact(name: str, value: object) -> None:
    console.print(f"{name:>18}  {value}", markup=False, soft_wrap=True)


def _name_rows(issue: dict[str, Any]) -> str:
    shown = ", ".join(map(str, issue["rows"][:5]))
    more = ", ..." if issue["count"] > len(issue["rows"][:5]) and shown else ""
    return f"{issue['count']} ({issue['split']}: {shown}{more})" if shown else str(issue["count"])


class _View:
    """Prints rows in colour, at most so many, and the legend last."""

    def __init__(self, rows: int) -> None:
        self._rows, self._last = rows, 0
        self._left_out: dict[int, str] = {}

    def show(self, event: events.Event) -> None:
        """Take one more event in."""
        match event:
            case events.Report(kind="preview", data=data):
                for row in data["rows"]:
                    self._left_out[row["row"]] = row["left_out"]
            case events.Report(kind="pieces", data=data):
                self._print(data)
            case events.Notice():
                print_notice(event)
            case _:
                pass

    def close(self) -> None:
        """The rows are over: what the looks mean."""
        if not self._last:
            console.print("This row is left out: it holds no text or no answer.")
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
