"""A run's numbers and its state as words: metrics, the footer's line, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.models.stage import speed_of
from app.steps import data_fits
from app.words import clock, size
from mlx_lora.training.plan import make_plan

if TYPE_CHECKING:
    from app.models.run_progress import RunProgress
    from app.project import Project
    from mlx_lora.events import Validation


def numbers(progress: RunProgress, smoothed: float | None) -> tuple[dict[str, str], dict[str, str]]:
    """(values, captions) of the metrics, for those that are known."""
    state, last = progress.state, progress.last_step
    values: dict[str, str] = {}
    captions: dict[str, str] = {}
    if smoothed is not None:
        values["train"] = f"{smoothed:.3f}"
    if state.last_validation is not None:
        values["held_out"] = f"{state.last_validation.loss:.3f}"
        captions["held_out"] = _change(state.first_validation, state.last_validation)
    speed = speed_of(progress.beside.recent)
    if speed is not None and last is not None:
        values["speed"] = f"{speed:,.0f}"
        values["memory"] = size(last.peak_memory)
        if last.footprint:
            captions["memory"] = f"peak by MLX, {size(last.footprint)} in all"
    if progress.status == "finished" and state.best_step is not None:
        values["time"], captions["time"] = f"{state.best_step:,}", "step kept"
    elif last is not None and progress.live:
        values["time"] = clock(last.eta)
    return values, captions


def saved_words(progress: RunProgress) -> str:
    """What is safe now, and when more of it will be; for the footer."""
    if progress.live:
        return _live_words(progress)
    if progress.status == "finished":
        return "The adapter is ready. Hear it beside the base."
    if progress.status == "queued":
        return "It starts by itself when the work before it is done."
    if not progress.state.steps:
        return "Not started yet."
    saved = progress.saved
    return f"Everything up to step {saved:,} is saved." if saved else "Nothing was saved yet."


def missing_words(project: Project) -> str:
    """What a project that never trained still needs; for the footer."""
    if project.model is None:
        return "First choose a model."
    if project.data is None:
        return "First choose a dataset."
    if not data_fits(project):
        return "The dataset needs a look."
    return "Everything is chosen: start it from Configure."


def _live_words(progress: RunProgress) -> str:
    saved, coming = progress.saved, next_save(progress)
    if progress.asked == "stop":
        return "Finishing the step, then saving. Nothing is lost."
    if progress.status == "paused":
        return f"Paused, and saved at step {saved:,}. It goes on exactly from there."
    if saved:
        later = f" Next save at step {coming:,}." if coming and coming > saved else ""
        return f"Saved at step {saved:,}.{later}"
    if coming:
        return f"The first save is at step {coming:,}. Compare opens then."
    return "Compare opens with the first save."


def next_save(progress: RunProgress) -> int | None:
    """The step of the next checkpoint, where the run's plan is known."""
    config, state = progress.beside.config, progress.state
    if config is None or not state.steps:
        return None
    training = msgspec.structs.replace(config.training, steps=state.steps)
    every = make_plan(msgspec.structs.replace(config, training=training), 1).save_every
    return min(state.steps, (state.step // every + 1) * every)


def ending(progress: RunProgress) -> str:
    """What came of a run that is done."""
    state = progress.state
    kept = f"Step {state.best_step:,} is kept" if state.best_step else "The last step is kept"
    first, last = state.first_validation, state.last_validation
    if first is None or last is None:
        return f"{kept}."
    return f"{kept}: loss on held-out rows is {last.loss:.3f}, where the base has {first.loss:.3f}."


def _change(first: Validation | None, last: Validation) -> str:
    """Against the base, in percent."""
    if first is None or last is first or first.loss <= 0:
        return "held-out loss of the base"
    share = last.loss / first.loss - 1
    if abs(share) < 0.005:  # noqa: PLR2004  (no percent)
        return "held-out loss, as the base"
    sign = "below" if share <= 0 else "above"
    return f"held-out loss, {abs(share):.0%}".replace("%", " %") + f" {sign} base"
