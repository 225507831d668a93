"""What a run's numbers mean, in plain words, and what to do about it. Pure functions."""

from __future__ import annotations

import bisect
import itertools
import statistics
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.config import RunConfig
    from mlx_lora.events import Failed, Notice, Validation
    from mlx_lora.runs import RunState

Tone = Literal["info", "ok", "warn"]

# validations in a row that must rise before they count as a trend
RISES = 3
_FEWEST, _HARDLY = 20, 0.01
_LOWER, _HIGHER = 5.0, 5.0
_SHORT = 64
# a part of the run is a tenth of it, and never so long that it takes time to add up
_SHARE, _REACH = 10, 500
# what the worker remarks, as headlines; what is not here is said by the page in another way
_REMARKS = {
    "no_gain": "No better than the base yet",
    "few_rows": "Few rows to learn from",
    "cut": "Some rows are cut",
    "environment": "Resumed on another version",
    "damaged_checkpoint": "A saved state was damaged",
    "context": "Rows are longer than the model reads",
    "rank_above_width": "More rank than the model can use",
}

# forms of computing that a model may not allow when they are asked for by name
_FORMS = {
    "--batching": "batching", "--loss": "loss", "--prefix-cache": "prefix_cache",
}  # fmt: skip

Changes = dict[str, dict[str, Any]]


class Hint(msgspec.Struct, frozen=True):
    """One remark.

    Attributes:
        button: what can be done about it; empty where nothing needs to be.
        step: the step that is offered for use.
        changes: settings under which it is offered to start again.
    """

    key: str
    tone: Tone
    title: str
    text: str
    button: str = ""
    step: int | None = None
    changes: Changes = {}


class Remedy(msgspec.Struct, frozen=True):
    """Settings with which a run that failed is likely to hold, and the button that starts it."""

    button: str
    changes: Changes


def find_hints(
    state: RunState, config: RunConfig | None = None, notices: Sequence[Notice] = ()
) -> list[Hint]:
    """Remarks on a run as it stands, the most useful first."""
    found = (
        _overfitting(state),
        _too_slow(state, config),
        _early(state),
        _nothing_held_out(state),
        *(_remark(notice) for notice in notices if notice.level == "warning"),
    )
    return [hint for hint in found if hint is not None]


def remedy(failure: Failed, config: RunConfig) -> Remedy | None:
    """What to start again with; None where the same settings may well do."""
    if failure.code == "diverged":
        rate = _round(config.training.learning_rate / _LOWER)
        button = f"Start Again at {rate_words(rate)}"
        return Remedy(button, {"training": {"learning_rate": rate}})
    form = _FORMS.get(failure.where.partition(" ")[0])
    if failure.code == "bad_option" and form is not None:
        return Remedy("Start Again, Automatic", {"engine": {form: "auto"}})
    return _saving(config) if failure.code == "out_of_memory" else None


def _saving(config: RunConfig) -> Remedy | None:
    """What needs less memory; None where nothing is left."""
    training = config.training
    if training.batch_size > 1:
        # the same rows make a step, one after the other: what is learnt stays as it would be
        rows = training.batch_size * training.grad_accumulation
        changes = {"batch_size": 1, "grad_accumulation": rows}
        return Remedy("Start Again With Batch 1", {"training": changes})
    if not training.grad_checkpoint:
        return Remedy("Start Again, Saving Memory", {"training": {"grad_checkpoint": True}})
    length = max(_SHORT, config.data.max_length // 2)
    if length >= config.data.max_length:
        return None
    return Remedy(f"Start Again With {length} Tokens a Row", {"data": {"max_length": length}})


def rate_words(rate: float) -> str:
    """A learning rate as people write it: 2e-5."""
    digits, _, power = f"{rate:.0e}".partition("e")
    return f"{digits}e{int(power)}"


def _overfitting(state: RunState) -> Hint | None:
    """Held-out loss rises validation after validation while the train loss still falls."""
    points = _rising_steps(state.validations)
    last = points[-RISES - 1 :]
    if state.status == "finished" or len(last) <= RISES:
        return None
    if not all(a.loss < b.loss for a, b in itertools.pairwise(last)):
        return None
    best = min(points, key=lambda v: v.loss)
    if best.step == 0 or _train_loss(state, last[-1].step) >= _train_loss(state, last[0].step):
        return None
    text = (
        f"Loss on rows it never saw has risen since step {best.step:,}, while it still falls on "
        "the rows it learns: it begins to know them by heart."
    )
    kept = state.best_step == best.step
    button = f"Use Step {best.step:,}" if kept else ""
    return Hint("overfitting", "warn", "More training makes it worse now", text, button, best.step)


def _too_slow(state: RunState, config: RunConfig | None) -> Hint | None:
    """After a fifth of the run the loss has hardly moved."""
    losses = state.losses
    if len(losses) < max(_FEWEST, state.steps // 5):
        return None
    part = min(max(_FEWEST // 2, len(losses) // _SHARE), _REACH)
    before, now = _mean(losses[:part]), _mean(losses[-part:])
    held_out = _rising_steps(state.validations)
    fell = len(held_out) > 1 and held_out[-1].loss < held_out[0].loss * (1 - _HARDLY)
    if abs(before - now) > _HARDLY * before or fell:
        return None
    text = "The loss has hardly moved so far. A higher learning rate lets it learn faster."
    button, changes = "", Changes()
    if config is not None:
        rate = _round(min(config.training.learning_rate * _HIGHER, 1.0))
        button = f"Start Again at {rate_words(rate)}"
        changes = {"training": {"learning_rate": rate}}
    return Hint("slow", "info", "It learns very slowly", text, button, None, changes)


def _early(state: RunState) -> Hint | None:
    if state.status != "finished" or not 0 < state.step < state.steps:
        return None
    text = (
        f"It stopped at step {state.step:,} of {state.steps:,}, because the loss on held-out rows "
        "no longer fell. The best step is the one that is kept."
    )
    return Hint("early", "ok", "Done early", text)


def _nothing_held_out(state: RunState) -> Hint | None:
    if not state.step or state.validations:
        return None
    text = (
        "No rows are held out, so nothing shows whether it learns or only memorises. "
        "The last step is the one that is kept."
    )
    return Hint("no_rows", "info", "Nothing to measure with", text)


def _remark(notice: Notice) -> Hint | None:
    title = _REMARKS.get(notice.code)
    return Hint(notice.code, "warn", title, notice.text) if title else None


def _rising_steps(validations: Sequence[Validation]) -> list[Validation]:
    """Without the last measurement of all rows, which goes back to the step that is kept."""
    found: list[Validation] = []
    for validation in validations:
        if not found or validation.step > found[-1].step:
            found.append(validation)
    return found


def _train_loss(state: RunState, step: int) -> float:
    """The mean loss of the steps up to `step`, a tenth of the run long; inf where there is none."""
    end = bisect.bisect_right(state.losses, step, key=lambda point: point[0])
    near = state.losses[max(0, end - min(max(5, len(state.losses) // _SHARE), _REACH)) : end]
    return _mean(near) if near else float("inf")


def _mean(points: Sequence[tuple[int, float]]) -> float:
    return statistics.fmean(loss for _, loss in points)


def _round(rate: float) -> float:
    return float(f"{rate:.0e}")
