"""One run of the library in a row: read from its folder, broken ones too."""

from __future__ import annotations

import itertools
import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from app.models.engine_report import sentences
from app.recipes import data_title, model_title
from mlx_lora import events
from mlx_lora.errors import UserError
from mlx_lora.runs import Run, RunRecord, RunState, fold

if TYPE_CHECKING:
    from collections.abc import Sequence

_POINTS = 96
# not from the system's language: nothing else here is
_MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_STAMP = re.compile(r"(\d{8}-\d{6})-(.+)")


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the library shows of a run.

    Attributes:
        name: of its folder; `title` is that without the time.
        stamp: when it was made, YYYYMMDD-HHMMSS (or the day alone), sortable; empty if unknown.
        status: as `RunState.status`, or `damaged`.
        before, after: held-out loss at the first and at the last measurement.
        points: training losses for a sparkline, few and in order.
        size: bytes on disk.
        exports: what it was exported as.
        why: what is wrong with it, for failed and damaged ones.
        facts: what it said of its data; `engine` of how it computes, in sentences.
        usable: there is something to compare and export.
    """

    run: Run
    record: RunRecord | None = None
    title: str
    stamp: str = ""
    base: str = ""
    data: str = ""
    status: str = "new"
    step: int = 0
    steps: int = 0
    before: float | None = None
    after: float | None = None
    points: tuple[float, ...] = ()
    size: int = 0
    exports: tuple[str, ...] = ()
    why: str = ""
    facts: dict[str, Any] = {}
    engine: tuple[str, ...] = ()
    usable: bool = False

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.run.name

    @property
    def resumable(self) -> bool:
        """Whether training can go on."""
        return self.status in {"new", "stopped", "interrupted", "failed"}

    @property
    def date(self) -> str:
        """When it was made: 7 Nov 2026, 15:30."""
        for form, words in (("%Y%m%d-%H%M%S", "%Y, %H:%M"), ("%Y-%m-%d", "%Y")):
            with suppress(ValueError):
                made = datetime.strptime(self.stamp, form)
                return f"{made.day} {_MONTHS[made.month - 1]} {made.strftime(words)}"
        return ""


def read_row(run: Run) -> RunRow:
    """The row of a run; one that cannot be read is `damaged`, with why."""
    stamp, title = named(run.name)
    row = RunRow(run=run, title=title, stamp=stamp, size=_size(run.folder))
    try:
        return _whole(row)
    except UserError as error:
        return msgspec.structs.replace(row, status="damaged", why=error.why)
    except OSError as error:
        return msgspec.structs.replace(row, status="damaged", why=error.strerror or str(error))


def _whole(row: RunRow) -> RunRow:
    """A row with all its run says."""
    run, record = row.run, row.run.record()
    state, facts, engine = _read(run)
    source = record.config.model.source
    return msgspec.structs.replace(
        row,
        record=record,
        stamp=row.stamp or str(record.created),
        base=model_title(source, str(record.model_name)),
        data=data_title(record.config.data.source),
        status=state.status,
        step=state.step,
        steps=state.steps,
        **losses(state),
        points=thin([loss for _, loss in state.losses]),
        exports=exported(state),
        why=state.failure.why if state.failure else "",
        facts=facts,
        engine=sentences(engine),
        usable=run.adapter.is_dir() or state.best_step is not None,
    )


def named(folder: str) -> tuple[str, str]:
    """(time, title) of a run, from its folder's name."""
    found = _STAMP.fullmatch(folder)
    return (found[1], found[2]) if found else ("", folder)


def losses(state: RunState) -> dict[str, float | None]:
    """Held-out loss before and after; no after where it was measured once only."""
    first, last = state.first_validation, state.last_validation
    twice = len(state.validations) > 1
    return {"before": first.loss if first else None, "after": last.loss if twice and last else None}


def exported(state: RunState) -> tuple[str, ...]:
    """Every form the run was exported as, once."""
    words = (
        f"{made.get('format', '')} {made.get('quant', '')}".strip().upper()
        for made in state.exports
    )
    return tuple(dict.fromkeys(word for word in words if word))


def thin(values: Sequence[float], wanted: int = _POINTS) -> tuple[float, ...]:
    """At most `wanted` values, each the mean of its neighbours."""
    count = len(values)
    if count <= wanted:
        return tuple(values)
    cuts = [at * count // wanted for at in range(wanted + 1)]
    return tuple(sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts))


def stamp_of(run: Run) -> tuple[int, ...]:
    """What changes whenever a run's folder says something new."""
    marks: list[int] = []
    for name in ("config.toml", "events.jsonl", "adapter", "checkpoints"):
        try:
            found = (run.folder / name).stat()
        except OSError:
            marks += (0, 0)
        else:
            marks += (found.st_mtime_ns, found.st_size)
    return tuple(marks)


def _read(run: Run) -> tuple[RunState, dict[str, Any], dict[str, Any]]:
    """How it stands, what it said of its data, what it said of its engine."""
    state, facts, engine = RunState(), dict[str, Any](), dict[str, Any]()
    for event in run.events():
        fold(state, event)
        match event:
            case events.Report(kind="setup", data={"data": dict(data)}):
                facts = data
            case events.Report(kind="engine", data=data):
                engine = data
            case _:
                pass
    if state.status == "running" and not run.is_locked():
        state.status = "interrupted"
    return state, facts, engine


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; what cannot be looked at counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total
