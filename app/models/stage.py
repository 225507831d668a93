"""Where a run stands, in a word and a line; its events as lines of a log; how it failed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from app.problems import Problem, problem_of
from mlx_lora import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.models.run_progress import RunProgress


class Stage(msgspec.Struct, frozen=True):
    """The pill of a run, and the words beside it; `tone` colours the bar too."""

    word: str
    tone: str
    icon: str
    text: str = ""


_ENDS = {
    "finished": Stage("Done", "ok", "check"),
    "stopped": Stage("Stopped", "plain", "stop"),
    "interrupted": Stage("Interrupted", "warn", "warn"),
    "failed": Stage("Stopped by an Error", "bad", "warn"),
    "new": Stage("Ready", "plain", "play"),
}
_PHASES = {
    "": Stage("Preparing", "accent", "clock", "Starting the engine…"),
    "loading_model": Stage("Loading", "accent", "download", "Loading the model…"),
    "reading_data": Stage("Preparing", "accent", "clock", "Reading the data…"),
    "rendering": Stage("Preparing", "accent", "clock", "Turning rows into tokens…"),
    "meeting": Stage("Preparing", "accent", "clock", "Waiting for the other processes…"),
    "measuring_forms": Stage("Preparing", "accent", "clock", "Measuring ways to compute…"),
    "frozen_layers": Stage("Preparing", "accent", "clock", "Computing the frozen layers once…"),
    "resumed": Stage("Preparing", "accent", "clock"),
    "validation": Stage("Validating", "accent", "chart"),
    "sampling": Stage("Sampling", "accent", "text"),
    "saving": Stage("Saving", "accent", "download"),
    "paused": Stage("Paused", "warn", "pause"),
}
_ASKED = {
    "pause": Stage("Pausing", "warn", "pause"),
    "save": Stage("Saving", "accent", "download"),
    "stop": Stage("Stopping", "warn", "stop"),
}
_WHY = {
    "killed": "The system ended the training{at}, most often because memory ran out. Understudy "
    "itself is fine. Resume goes on as if nothing had happened.",
    "out_of_memory": "Training needed more memory than was free{at}. Closing other apps and "
    "resuming may be enough; smaller batches need less for certain.",
    "crashed": "The engine crashed{at}. Understudy itself is fine. Resume goes on as if nothing "
    "had happened.",
    "engine": "The engine failed{at}. Resume goes on as if nothing had happened.",
    "diverged": "{why}. The learning rate is most likely too high.",
}


def stage_of(progress: RunProgress, *, checking: bool = False) -> Stage:
    """Where the run stands; `checking` while a new one is looked through before its start."""
    if checking:
        return Stage("Preparing", "accent", "clock", "Checking model and data…")
    if progress.status == "queued":
        return Stage("Queued", "plain", "clock")
    if not progress.live:
        if progress.status == "running":
            return Stage("Training", "accent", "play", "Another Understudy is training this run")
        return _say(_ENDS[progress.status], progress)
    asked = progress.asked
    stage = _ASKED.get(asked) or _PHASES.get(
        progress.phase.name, Stage("Training", "accent", "play")
    )
    return _say(stage, progress)


def share_of(progress: RunProgress) -> tuple[int, int]:
    """How far the bar is: of the steps, else of what is prepared."""
    state, phase = progress.state, progress.phase
    return (state.step, state.steps) if state.steps else (phase.done, phase.total)


def place_of(progress: RunProgress) -> str:
    """Epoch 2 of 3 · step 1,204 of 4,332."""
    state, last = progress.state, progress.last_step
    if not state.steps:
        return ""
    at = f"step {state.step:,} of {state.steps:,}"
    if last is None or not last.step:
        return at.capitalize()
    whole = max(1, math.ceil(last.epoch / last.step * state.steps - 1e-6))
    now = min(whole, max(1, math.ceil(state.step * last.epoch / last.step - 1e-6)))
    return f"Epoch {now:,} of {whole:,} · {at}"


def speed_of(recent: Sequence[events.Event]) -> float | None:
    """Target tokens a second over the last steps."""
    steps = [e.tokens_per_second for e in list(recent)[-40:] if isinstance(e, events.TrainStep)]
    return sum(steps) / len(steps) if steps else None


def line_of(event: events.Event) -> str:
    """An event as a line of the log; empty for what says nothing new."""
    match event:
        case events.TrainStep(step=step, loss=loss, learning_rate=rate, tokens_per_second=speed):
            words = f"loss {loss:.4f}   rate {rate:.2e}   {speed:,.0f} tokens/s"
        case events.Validation(step=step, loss=loss, accuracy=share, rows=rows):
            words = f"held-out loss {loss:.4f}   accuracy {share:.1%}   {rows:,} rows"
        case events.CheckpointSaved(step=step, best=best):
            words = f"saved{' (best so far)' if best else ''}"
        case events.Sample(step=step, prompt=prompt):
            words = f"sample of “{' '.join(prompt.split())[:60]}”"
        case _:
            return _other_line(event)
    return f"step {step:>7,}   {words}"


def _other_line(event: events.Event) -> str:
    words = ""
    match event:
        case events.Hello(pid=pid):
            words = f"worker {pid} started"
        case events.Phase(name="resumed", done=step):
            words = f"resumed after step {step:,}"
        case events.Notice(text=text):
            words = text
        case events.Finished(reason=reason):
            words = f"ended: {reason.replace('_', ' ')}"
        case events.Failed(code=code, where=where, why=why):
            words = f"failed: {code}, {where}: {why}"
        case _:
            pass
    return words


def problem_of_run(progress: RunProgress, failure: events.Failed, tail: Sequence[str]) -> Problem:
    """A failed run for a person: what happened, what is kept; the end of the log as details."""
    problem = problem_of(failure, tail)
    at = f" at step {progress.state.step:,}" if progress.state.step else ""
    why = failure.why[:1].upper() + failure.why[1:]
    saved = progress.saved
    safe = (
        f"Kept: everything up to step {saved:,}."
        if saved
        else "Nothing was saved yet; your model and your data are as they were."
    )
    words = _WHY.get(failure.code)
    text = words.format(at=at, why=why.rstrip(".")) if words else problem.text
    return msgspec.structs.replace(problem, text=text, safe=safe)


def _say(stage: Stage, progress: RunProgress) -> Stage:
    return msgspec.structs.replace(stage, text=place_of(progress) or stage.text)
