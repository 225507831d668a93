"""What a person sees in the terminal while a job runs and when it is done."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from mlx_lora import events

console = Console(highlight=False, soft_wrap=False)
_PHASES = {
    "loading_model": "Loading the model",
    "reading_data": "Reading the data",
    "rendering": "Preparing the rows",
    "checking": "Checking",
    "downloading": "Downloading",
    "cleaning": "Writing the copy:",
    "validation": "Measuring held-out rows",
    "base": "Measuring the base",
    "adapted": "Measuring the adapter",
    "training": "Training",
    "meeting": "Waiting for the other processes",
    "measuring_forms": "Measuring ways to compute",
    "frozen_layers": "Computing the frozen layers once",
    "sampling": "Training",
    "paused": "Paused",
    "resumed": "Resuming",
}


def size(count: int) -> str:
    """Bytes as a disk's maker counts them."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004


def clock(seconds: float) -> str:
    """A duration as a person says it."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class TrainDisplay:
    """A run as it goes: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._bar: Progress | None = None
        self._task: Any = None
        self._every = 1

    def __enter__(self) -> TrainDisplay:
        if console.is_terminal and not self._silent:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[figures]}"),
            )
            self._bar = Progress(*columns, console=console, transient=False)
            self._task = self._bar.add_task("Starting", total=None, figures="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: events.Event) -> None:
        """Take one more event in."""
        match event:
            case events.Phase():
                self._phase(event)
            case events.Report(kind="setup"):
                self._print(describe_setup(event.data))
            case events.Report(kind="engine"):
                self._print(describe_engine(event.data), style="dim")
            case events.TrainStep():
                self._step(event)
            case events.Validation():
                self._print(
                    f"  step {event.step}: held-out loss {event.loss:.3f}, "
                    f"{event.accuracy:.1%} of next tokens right ({event.rows} rows)"
                )
            case events.Sample():
                self._print(f"  sample at step {event.step}: {quoted(event.prompt + event.text)}")
            case events.Notice():
                print_notice(event)
            case events.Finished() if self._bar is not None:
                self._bar.update(self._task, description="Done")
            case _:
                pass

    def _phase(self, event: events.Phase) -> None:
        name = _PHASES.get(event.name, event.name)
        if event.name == "resumed":
            self._print(f"Going on from step {event.done} of {event.total}.")
        if self._bar is not None:
            self._bar.update(self._task, description=name)

    def _step(self, event: events.TrainStep) -> None:
        figures = (
            f"step {event.step}/{event.steps}  loss {event.loss:.3f}  "
            f"{event.tokens_per_second:,.0f} tokens/s  "
            f"{_memory(event)}  {clock(event.eta)} left"
        )
        if self._bar is not None:
            self._bar.update(
                self._task,
                description="Training",
                total=event.steps,
                completed=event.step,
                figures=figures,
            )
        elif event.step in {1, event.steps} or event.step % max(1, event.steps // 10) == 0:
            self._print(figures)

    def _print(self, text: str, style: str = "") -> None:
        if text:
            console.print(text, style=style, markup=False, soft_wrap=True)


def describe_setup(data: dict[str, Any]) -> str:
    """The facts of a run before its first step, in three lines."""
    facts = data["data"]
    return (
        f"Model    {data['model']}, {data['parameters']:,} parameters ({data['form']})\n"
        f"Data     {facts['name']}: {facts['training_rows']:,} rows to learn, "
        f"{facts['validation_rows']:,} held out, "
        f"{facts['training_targets']:,} tokens an epoch\n"
        f"Adapter  {data['trainable']:,} trainable numbers ({data['trainable_share']:.2%}) beside "
        f"{data['adapted_modules']} layers, {data['steps']} steps"
    )


def describe_engine(data: dict[str, Any]) -> str:
    """How a run computes: its sentences, one a line."""
    lines = [str(words) for words in data.get("words") or ()]
    return "\n".join(f"{'' if at else 'Engine':<9}{words}" for at, words in enumerate(lines))


def _memory(step: events.TrainStep) -> str:
    """Peak 812 MB, or with what the whole process takes."""
    peak = f"peak {step.peak_memory / 1e6:,.0f} MB"
    return f"{peak} by MLX, {step.footprint / 1e6:,.0f} MB in all" if step.footprint else peak


def print_result(result: dict[str, Any], run: str) -> None:
    """What a finished run brought."""
    if "base" in result:
        print_figures(result)
    console.print(
        f"The adapter is kept in {run}/adapter (step {result['step']}).",
        markup=False,
        soft_wrap=True,
    )


def print_figures(data: dict[str, Any]) -> None:
    """Base against adapted, in a table."""
    table = Table(title=f"{data['rows']} held-out rows", title_justify="left")
    table.add_column("")
    for heading in ("loss", "perplexity", "next token right"):
        table.add_column(heading, justify="right")
    for who in ("base", "adapted"):
        if who in data:
            row = data[who]
            table.add_row(
                who, f"{row['loss']:.4f}", f"{row['perplexity']:,.2f}", f"{row['accuracy']:.1%}"
            )
    console.print(table)


def print_answers(rows: list[dict[str, Any]]) -> None:
    """Answers beside each other, one table a prompt."""
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        answers = [row for row in rows if row["prompt"] == prompt]
        table = Table(title=quoted(prompt), title_justify="left", show_lines=False, expand=True)
        for row in answers:
            table.add_column(row["voice"], ratio=1, overflow="fold")
        table.add_row(*(row["text"].strip("\n") for row in answers))
        console.print(table, markup=False)


def print_notice(event: events.Notice) -> None:
    """A sentence worth saying, on stderr, so that answers on stdout stay clean."""
    mark = "note" if event.level == "info" else "warning"
    sys.stderr.write(f"{mark}: {event.text}\n")


def print_progress(name: str, done: int, total: int) -> None:
    """How far it is, on one line of a terminal; nothing elsewhere."""
    if not console.is_terminal:
        return
    words = f"{_PHASES.get(name, name.capitalize())} {_amount(name, done)}"
    of = f" of {_amount(name, total)} ({done / total:.0%})" if total else ""
    print_line(f"{words}{of}")
    if total and done >= total:
        sys.stderr.write("\n")
        sys.stderr.flush()


def print_line(words: str) -> None:
    """Words in the place of the line before, on a terminal; nothing elsewhere."""
    if console.is_terminal:
        sys.stderr.write(f"\r\x1b[K{words}")
        sys.stderr.flush()


def clear_progress() -> None:
    """The line of `print_progress` is done with."""
    print_line("")


def _amount(name: str, number: int) -> str:
    """Bytes of a file, else rows."""
    if name not in {"checking", "downloading"}:
        return f"{number:,} rows"
    return size(number)


def quoted(text: str) -> str:
    """A text on one line."""
    return (
        "\u201c" + " / ".join(line for line in text.strip().splitlines() if line.strip()) + "\u201d"
    )
