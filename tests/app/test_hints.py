"""Hints and remedies: pure functions of a run's state."""

from __future__ import annotations

from typing import Any

import pytest

from app.models.hints import find_hints, rate_words, remedy
from mlx_lora import events
from mlx_lora.config import RunConfig, build_config, merge
from mlx_lora.runs import RunState

_SOURCES = {"model": {"source": "demo"}, "data": {"source": "demo"}}


def _config(**settings: Any) -> RunConfig:
    return build_config(merge(_SOURCES, settings))


def _validation(step: int, loss: float) -> events.Validation:
    return events.Validation(step=step, loss=loss, accuracy=0.5, rows=8)


def _state(losses: list[float], held_out: list[tuple[int, float]] = (), **more: Any) -> RunState:
    validations = [_validation(step, loss) for step, loss in held_out]
    return RunState(
        status=more.pop("status", "running"), step=len(losses), steps=more.pop("steps", 100),
        losses=list(enumerate(losses, start=1)), validations=validations, **more,
    )  # fmt: skip


def _keys(state: RunState, *more: Any) -> list[str]:
    return [hint.key for hint in find_hints(state, *more)]


FALLING = [3.0 - 0.02 * n for n in range(100)]
RISING = [(0, 3.0), (20, 2.0), (40, 2.1), (60, 2.2), (80, 2.3)]


def test_overfitting_offers_the_best_step() -> None:
    hint = find_hints(_state(FALLING[:85], RISING, best_step=20))[0]
    assert (hint.key, hint.step, hint.button) == ("overfitting", 20, "Use Step 20")
    assert "step 20" in hint.text


def test_a_best_step_that_is_not_on_disk_is_not_offered() -> None:
    hint = find_hints(_state(FALLING[:85], RISING, best_step=None))[0]
    assert (hint.key, hint.button) == ("overfitting", "")


@pytest.mark.parametrize(
    ("losses", "held_out", "more"),
    [
        (FALLING[:85], RISING[:-1], {}),  # two rises are no trend
        (FALLING[:85], [*RISING[:-1], (80, 2.15)], {}),  # it falls again
        (FALLING[::-1][:85], RISING, {}),  # the train loss rises too: that is another trouble
        (FALLING[:85], [(0, 1.9), *RISING[1:]], {}),  # the base is best: nothing to go back to
        (FALLING, [*RISING, (20, 2.0)], {"status": "finished"}),  # the best one is kept already
    ],
)
def test_what_is_not_overfitting(
    losses: list[float], held_out: list[tuple[int, float]], more: dict[str, Any]
) -> None:
    assert "overfitting" not in _keys(_state(losses, held_out, best_step=20, **more))


def test_a_loss_that_hardly_moves_offers_a_higher_rate() -> None:
    state = _state([2.5] * 60, [(0, 2.6), (30, 2.599)])
    hint = find_hints(state, _config(training={"learning_rate": 1e-5}))[0]
    assert (hint.key, hint.button) == ("slow", "Start Again at 5e-5")
    assert hint.changes == {"training": {"learning_rate": 5e-5}}
    assert find_hints(state)[0].button == ""


@pytest.mark.parametrize(
    ("losses", "held_out"),
    [
        ([2.5] * 15, [(0, 2.6)]),  # too early to say
        (FALLING[:60], [(0, 3.0)]),
        ([2.5] * 60, [(0, 2.6), (30, 2.4)]),  # the held-out loss moves
        ([2.0 + 0.02 * n for n in range(60)], [(0, 2.6)]),  # it moves, if upwards
    ],
)
def test_what_is_not_slow(losses: list[float], held_out: list[tuple[int, float]]) -> None:
    assert "slow" not in _keys(_state(losses, held_out))


def test_done_early_is_said() -> None:
    state = _state(FALLING[:60], [(0, 3.0), (20, 2.0)], status="finished")
    hint = find_hints(state)[0]
    assert hint.key == "early"
    assert "step 60 of 100" in hint.text
    assert "early" not in _keys(_state(FALLING, [(0, 3.0)], status="finished"))
    assert "early" not in _keys(_state(FALLING[:60], [(0, 3.0)], status="stopped"))


def test_no_held_out_rows_is_said_once_it_trains() -> None:
    assert _keys(_state(FALLING[:10])) == ["no_rows"]
    assert _keys(RunState(status="running", steps=100)) == []


def test_remarks_of_the_worker_are_shown_with_a_headline() -> None:
    def said(level: Any, code: str) -> events.Notice:
        return events.Notice(level=level, code=code, text="text")

    notices = [
        said("warning", "no_gain"), said("info", "cut"), said("warning", "no_validation"),
    ]  # fmt: skip
    found = find_hints(_state(FALLING[:30], [(0, 3.0)]), None, notices)
    assert [(hint.key, hint.text) for hint in found] == [("no_gain", "text")]


def test_a_quiet_run_has_no_remarks() -> None:
    assert find_hints(_state(FALLING[:60], [(0, 3.0), (30, 2.2), (60, 2.0)])) == []


def _failed(code: str) -> events.Failed:
    return events.Failed(code=code, where="worker", why="it ended", fix="")


def test_what_diverged_starts_again_with_a_fifth_of_the_rate() -> None:
    found = remedy(_failed("diverged"), _config(training={"learning_rate": 2e-3}))
    assert found is not None
    assert found.button == "Start Again at 4e-4"
    assert found.changes == {"training": {"learning_rate": 4e-4}}


def test_out_of_memory_starts_again_smaller_and_smaller() -> None:
    settings: dict[str, Any] = {"training": {"batch_size": 4, "grad_accumulation": 2}}
    steps = []
    for _ in range(4):
        found = remedy(_failed("out_of_memory"), _config(**settings))
        assert found is not None
        steps.append(found.changes)
        settings = merge(settings, found.changes)
    assert steps == [
        {"training": {"batch_size": 1, "grad_accumulation": 8}},  # the same rows make a step
        {"training": {"grad_checkpoint": True}},
        {"data": {"max_length": 256}},
        {"data": {"max_length": 128}},
    ]


def test_what_cannot_be_smaller_has_no_remedy() -> None:
    smallest = {"training": {"batch_size": 1, "grad_checkpoint": True}, "data": {"max_length": 64}}
    assert remedy(_failed("out_of_memory"), _config(**smallest)) is None


def test_after_a_kill_the_same_settings_may_well_do() -> None:
    assert remedy(_failed("killed"), _config()) is None


def test_rates_read_as_people_write_them() -> None:
    assert [rate_words(rate) for rate in (1e-4, 4e-3, 0.2)] == ["1e-4", "4e-3", "2e-1"]


@pytest.mark.parametrize(
    ("where", "name"),
    [("--batching pack", "batching"), ("--loss chunked", "loss"),
     ("--prefix-cache on", "prefix_cache")],
)  # fmt: skip
def test_a_form_the_model_does_not_allow_is_left_to_the_engine(where: str, name: str) -> None:
    config = _config(engine={name: "auto"})
    found = remedy(events.Failed(code="bad_option", where=where, why="", fix=""), config)
    assert found is not None
    assert found.changes == {"engine": {name: "auto"}}
    other = events.Failed(code="bad_option", where="--layers 99", why="", fix="")
    assert remedy(other, config) is None
