"""`bench`: how fast this machine is, by itself or beside mlx-lm on the same work."""

from __future__ import annotations

import importlib.util
import json as json_module
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mlx_lora.bench.measure import Bench
from mlx_lora.bench.pairs import Spread, spread
from mlx_lora.bench.results import KINDS, Comparison, Prepared, Side, Work
from mlx_lora.bench.surroundings import describe_machine, describe_versions
from mlx_lora.cli.display import console
from mlx_lora.cli.options import option
from mlx_lora.cli.rows import fetch
from mlx_lora.config import DataConfig, TrainingConfig, check_limits, rules
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.models.library import check_model, model_name
from mlx_lora.storage import expanded, storage_errors, write_file

_MOST = 1000
_FACTS = {"active": "memory", "padding": "padded", "steps": "steps"}


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(bench)


def bench(
    context: typer.Context,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND]...", help=f"{', '.join(KINDS)} [all of them]"),
    ] = None,
    model: Annotated[str, option("model.source", "--model", "-m")] = "demo",
    data: Annotated[str, option("data.source", "--data", "-d")] = "demo",
    against: Annotated[
        str | None, typer.Option("--against", help="mlx-lm: the same work by mlx-lm, in turns")
    ] = None,
    batch_size: Annotated[int, option("training.batch_size", "--batch-size")] = 4,
    pairs: Annotated[int, typer.Option("--pairs", help="rounds that are measured [3]")] = 3,
    out: Annotated[
        Path | None, typer.Option("--out", help="FILE.json the figures are written to")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Measure training, generating, loading and exporting on this machine."""
    chosen = _check(kinds, against, batch_size, pairs, out)
    folder, _, _ = check_model(model)
    root = context.obj.root
    settings = DataConfig(source=data)
    fetch(settings, root)
    find_source(settings, root)
    with context.obj.engine(), tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
        work = Work(
            model=str(folder.absolute()), name=model_name(model), data=data, root=str(root),
            scratch=scratch, batch_size=batch_size, rows=max(48, batch_size * 6),
        )  # fmt: skip
        with Bench(work, against=against is not None, rounds=pairs) as measuring:
            found, failed = _measure(measuring, chosen, quiet=json)
            figures = _figures(measuring, found)
    if out is not None:
        write_file(expanded(out).absolute(), json_module.dumps(figures, indent=1).encode() + b"\n")
    if json:
        sys.stdout.write(json_module.dumps(figures) + "\n")
    else:
        _show(figures, measuring.prepared, found)
    if failed is not None:
        raise failed


def _check(
    kinds: list[str] | None, against: str | None, batch_size: int, pairs: int, out: Path | None
) -> list[str]:
    """What is to be measured; everything that can be refused at once is.

    Raises:
        UserError: `bad_option`, `no_permission`, `storage`.
    """
    for kind in kinds or ():
        if kind not in KINDS:
            fix = f"choose {', '.join(KINDS)}"
            raise UserError("bad_option", kind, "there is no such thing to measure", fix)
    if against not in {None, "mlx-lm"}:
        why = "there is nothing of that name to measure against"
        raise UserError("bad_option", f"--against {against}", why, "choose mlx-lm")
    if against and importlib.util.find_spec("mlx_lm") is None:
        why, fix = "mlx-lm is not installed here", "install it (pip install mlx-lm)"
        raise UserError("bad_option", f"--against {against}", why, fix)
    if not 1 <= pairs <= _MOST:
        fix = f"choose a whole number of at least 1 and at most {_MOST:,}"
        raise UserError("bad_option", f"--pairs {pairs}", "so many rounds are not possible", fix)
    check_limits("--batch-size", batch_size, rules(TrainingConfig)["batch_size"])
    if out is not None:
        with storage_errors(expanded(out)):
            expanded(out).absolute().parent.stat()
        if expanded(out).is_dir():
            raise UserError("bad_option", f"--out {out}", "this is a folder", "name a file")
    return [kind for kind in KINDS if kind in (kinds or KINDS)]


def _measure(
    measuring: Bench, kinds: list[str], *, quiet: bool
) -> tuple[list[Comparison], UserError | None]:
    """What was measured, and what stopped it: minutes of measuring are not thrown away.

    Raises:
        UserError: where nothing was measured.
    """
    found: list[Comparison] = []
    for kind in kinds:
        try:
            with _waiting(kind, quiet=quiet):
                found.extend(measuring.measure(kind))
        except UserError as error:
            if not found:
                raise
            return found, error
    return found, None


@contextmanager
def _waiting(kind: str, *, quiet: bool) -> Iterator[None]:
    """A sign of life on a terminal."""
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(f"Measuring: {kind}"):
        yield


def _figures(measuring: Bench, found: list[Comparison]) -> dict[str, Any]:
    """Everything, for JSON; no path of this machine."""
    work, prepared = measuring.work, measuring.prepared
    figures: dict[str, Any] = {
        "machine": describe_machine(), "versions": describe_versions(),
        "model": {"name": work.name}, "data": Path(work.data).name,
        "kinds": [comparison.plain() for comparison in found],
    }  # fmt: skip
    if prepared is not None:
        figures["model"] |= {
            "form": prepared.form, "parameters": prepared.parameters,
            "trainable": prepared.trainable, "adapted_layers": prepared.adapted_layers,
        }  # fmt: skip
        figures["machine"] |= {
            "backend": "Metal" if prepared.metal else "CPU",
            "blas": prepared.environment["blas"],
            "blas_threads": int(prepared.environment["blas_threads"]),
        }
    return figures


def _show(figures: dict[str, Any], prepared: Prepared | None, found: list[Comparison]) -> None:
    machine, versions = figures["machine"], figures["versions"]
    facts = {
        "machine": f"{machine['chip']}, {machine['memory'] / 2**30:.0f} GiB, "
        f"{machine['cores']} cores, {machine['system']}",
        "engine": f"{machine['backend']}, {machine['blas']} ({machine['blas_threads']} threads)"
        if machine["backend"] == "CPU"
        else machine["backend"],
        "versions": ", ".join(f"{name} {text}" for name, text in versions.items()),
        "model": figures["model"]["name"]
        + (f", {prepared.parameters:,} parameters ({prepared.form})" if prepared else ""),
    }
    for name, text in facts.items():
        console.print(f"{name:>9}  {text}", markup=False, soft_wrap=True)
    for comparison in found:
        console.print(_table(comparison))
        console.print(comparison.what, style="dim", markup=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    """Medians with [least, largest]; how many times faster we are, round by round.

    Memory is what the work took at its peak on top of the model's own weights.
    """
    table = Table(title=comparison.kind, title_justify="left")
    table.add_column("")
    several = any(comparison.is_other(side) for side in comparison.sides)
    facts = [name for name in _FACTS if any(name in side.facts for side in comparison.sides)]
    headings = [comparison.unit, *(["faster by"] if several else [])]
    for heading in [*headings, *(_FACTS[name] for name in facts)]:
        table.add_column(heading, justify="right")
    digits = 0 if comparison.unit == "tokens/s" else 2
    for side in comparison.sides:
        cells = [side.name, _cell(side.spread, digits)]
        if several:
            cells.append(_ratio(comparison, side))
        table.add_row(*cells, *(_fact(side, name) for name in facts))
    return table


def _fact(side: Side, name: str) -> str:
    value = side.facts.get(name)
    if value is None:
        return ""
    if name == "active":
        return f"{(side.facts['peak'] - value) / 1e6:,.0f} MB"
    return f"{value:.1%}" if name == "padding" else f"{value:,}"


def _ratio(comparison: Comparison, side: Side) -> str:
    if not comparison.is_other(side):
        return ""
    return _cell(spread(comparison.ratios(side)), 2, " x")


def _cell(found: Spread, digits: int, unit: str = "") -> str:
    """The median, and below it the ends."""
    ends = f"[{found.low:,.{digits}f}, {found.high:,.{digits}f}]"
    return f"{found.median:,.{digits}f}{unit}\n{ends}"
