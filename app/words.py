"""Numbers and states as people read them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.models.run_progress import RunProgress
    from app.project import Project

_STATES = {
    "new": ("Never started", "", "clock"), "queued": ("Waiting in the queue", "", "clock"),
    "running": ("Training", "accent", "play"), "paused": ("Paused", "accent", "pause"),
    "finished": ("Done", "ok", "check"), "stopped": ("Stopped", "", "stop"),
    "interrupted": ("Interrupted", "warn", "warn"), "failed": ("Failed", "bad", "warn"),
    "damaged": ("Damaged", "bad", "warn"),
}  # fmt: skip
# what a person calls this machine
MACHINE = "Mac" if sys.platform == "darwin" else "computer"
_MINUTE, _HOUR = 60, 3600
# from here on a thousand of the smaller unit would be shown: it is one of the larger
_NEARLY_ONE = 0.9995


def size(nbytes: float) -> str:
    """Bytes: 6.1 GB, 38 MB, 512 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        value = nbytes / factor
        if value >= _NEARLY_ONE:
            return f"{value:,.1f} {unit}" if round(value, 1) < 10 else f"{value:,.0f} {unit}"  # noqa: PLR2004
    return f"{nbytes:.0f} bytes"


def count(number: float) -> str:
    """A count: 4,812 or 1.31 M."""
    for unit, factor, least in (("B", 1e9, 999_995_000), ("M", 1e6, 999_999.5)):
        if number >= least:
            return f"{number / factor:.2f} {unit}"
    return f"{number:,.0f}"


def clock(seconds: float) -> str:
    """Time left on a clock: 0:42, 15:04, 2:05:10."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, _HOUR)
    minutes, seconds = divmod(rest, _MINUTE)
    return f"{hours}:{minutes:02}:{seconds:02.0f}" if hours else f"{minutes}:{seconds:02.0f}"


def duration(seconds: float) -> str:
    """A forecast: under a minute, 38 min, 2 h 10 min."""
    if seconds < _MINUTE:
        return "under a minute"
    hours, minutes = divmod(round(seconds / _MINUTE), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def plural(number: int, one: str, many: str = "") -> str:
    """1 row, 2 rows."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def state_of(status: str) -> tuple[str, str, str]:
    """(word, tone, icon) of a run's state."""
    return _STATES.get(status, (status.capitalize(), "", "info"))


def summaries(project: Project, progress: RunProgress) -> dict[str, str]:
    """One line for every step of the sidebar."""
    return {
        "model": _model(project),
        "dataset": _data(project),
        "configure": _settings(project) if project.data and project.model else "",
        "train": _run(progress) if project.run else "",
        "compare": f"{len(project.votes)} judged" if project.votes else "",
        "export": _export(progress),
    }


def _model(project: Project) -> str:
    model = project.model
    return " · ".join(filter(None, (model.title, model.note))) if model else ""


def _data(project: Project) -> str:
    data = project.data
    if data is None:
        return ""
    rows = data.facts.get("training_rows", 0) + data.facts.get("validation_rows", 0)
    return f"{data.title} · {plural(rows, 'row')}" if rows else data.title


def _settings(project: Project) -> str:
    from app.project import build_run_config
    from mlx_lora.errors import UserError

    try:
        config = build_run_config(project)
    except UserError:
        return "Needs another value"
    training = config.training
    length = plural(training.steps, "step") if training.steps else f"{training.epochs:g} epochs"
    name = "Sample" if project.preset == "demo" else project.preset.capitalize()
    return f"{name} · LoRA r{config.adapter.rank} · {length}"


def _run(progress: RunProgress) -> str:
    state, status = progress.state, progress.status
    at = f"step {state.step:,} of {state.steps:,}" if state.steps else ""
    if status == "finished" and state.last_validation:
        return f"Done · loss {state.last_validation.loss:.3f}"
    if status == "running":
        return at.capitalize() or "Preparing"
    if status == "new":
        return "Ready to start"
    word = state_of(status)[0]
    cut = status in {"paused", "stopped", "interrupted", "failed"}
    return f"{word} at {at}" if cut and at else word


def _export(progress: RunProgress) -> str:
    exports = progress.state.exports
    if not exports:
        return ""
    last = exports[-1]
    return " ".join(filter(None, (last["format"], last["quant"]))).upper()
