"""The marks of the six steps: what opens a step, what is done, what needs a look."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from app.project import DataChoice, ModelChoice, Project, Vote, recipe_of
from app.steps import KEYS, STEPS, Facts, data_fits, marks

MODEL = ModelChoice("m", "Model")
SEEN = {"model": "m", "training_rows": 9, "validation_rows": 1}
DATA = DataChoice("d", "Data", SEEN)
READY = Project(model=MODEL, data=DATA)
TRAINED = msgspec.structs.replace(READY, run="r", recipe=recipe_of(READY))
STATUSES = ("new", "queued", "running", "paused", "finished", "stopped", "interrupted", "failed")


def facts(status: str = "new", **changes: bool) -> Facts:
    plain = Facts(valid=True, status=status, usable=False, exported=False)
    return msgspec.structs.replace(plain, **changes)


def in_a_row(project: Project, told: Facts) -> str:
    """The marks, by their first letters: open, done, locked, attention."""
    found = marks(project, told)
    assert tuple(found) == KEYS
    return "".join(mark[0] for mark in found.values())


def changed(project: Project, **changes: Any) -> Project:
    return msgspec.structs.replace(project, **changes)


def test_the_keys_are_the_steps() -> None:
    assert tuple(key for key, _ in STEPS) == KEYS
    assert len(set(KEYS)) == 6


@pytest.mark.parametrize(
    ("project", "row"),
    [
        (Project(), "olllll"),
        (Project(model=MODEL), "dollll"),
        (Project(data=DataChoice("d", "Data")), "oallll"),
        (Project(model=MODEL, data=DataChoice("d", "Data")), "dallll"),  # nobody looked yet
        (Project(model=MODEL, data=DataChoice("d", "D", {**SEEN, "training_rows": 0})), "dallll"),
        (Project(model=ModelChoice("other", "Other"), data=DATA), "dallll"),
        (READY, "ddolll"),
    ],
)
def test_before_a_run(project: Project, row: str) -> None:
    assert in_a_row(project, facts()) == row


def test_settings_that_do_not_hold() -> None:
    assert in_a_row(READY, facts(valid=False)) == "ddalll"
    assert in_a_row(TRAINED, facts("finished", valid=False, usable=True)) == "ddadoo"


@pytest.mark.parametrize(
    ("status", "train"),
    [
        ("new", "o"), ("queued", "o"), ("running", "o"), ("paused", "o"), ("stopped", "o"),
        ("finished", "d"), ("interrupted", "a"), ("failed", "a"),
    ],
)  # fmt: skip
def test_a_run_in_each_state(status: str, train: str) -> None:
    assert in_a_row(TRAINED, facts(status)) == f"ddd{train}ll"
    assert in_a_row(TRAINED, facts(status, usable=True)) == f"ddd{train}oo"


def test_compared_and_exported() -> None:
    judged = changed(TRAINED, votes=(Vote("p", "adapted"),))
    assert in_a_row(judged, facts("finished", usable=True)) == "dddddo"
    assert in_a_row(TRAINED, facts("finished", usable=True, exported=True)) == "ddddod"


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"preset": "thorough"}, "dddaaa"),
        ({"settings": {"adapter": {"rank": 4}}}, "dddaaa"),
        ({"model": ModelChoice("other", "Other")}, "dadaaa"),
        ({"data": DataChoice("other", "Other")}, "dadaaa"),
        ({"data": DataChoice("other", "Other", SEEN)}, "dddaaa"),
    ],
)
def test_another_choice_after_the_run_flags_what_follows(changes: dict[str, Any], row: str) -> None:
    other = changed(TRAINED, votes=(Vote("p", "tie"),), **changes)
    told = facts("finished", usable=True, exported=True)
    assert in_a_row(other, told) == row
    assert other.run == "r"  # nothing is deleted
    back = changed(other, model=MODEL, data=DATA, preset="balanced", settings={})
    assert in_a_row(back, told) == "dddddd"


def test_names_alone_flag_nothing() -> None:
    renamed = changed(TRAINED, name="Other", model=ModelChoice("m", "Renamed", "4-bit"))
    assert in_a_row(renamed, facts("finished", usable=True)) == "ddddoo"


def test_no_step_is_open_before_the_one_it_needs() -> None:
    """In every combination of what can be chosen, run and made."""
    models = (None, MODEL, ModelChoice("other", "Other"))
    data = (None, DATA, DataChoice("d", "Data"))
    for model, chosen, run, status, valid, usable, exported in itertools.product(
        models, data, (None, "r"), STATUSES, (True, False), (True, False), (True, False)
    ):
        project = Project(model=model, data=chosen, run=run, recipe=TRAINED.recipe)
        found = marks(project, Facts(valid, status, usable, exported))
        assert found["model"] != "locked"
        assert (found["dataset"] == "locked") == (model is None and chosen is None)
        assert (found["configure"] == "locked") == (run is None and not data_fits(project))
        assert (found["train"] == "locked") == (run is None)
        ready = run is not None and usable
        assert (found["compare"] != "locked") == (found["export"] != "locked") == ready
        assert found["configure"] != "done" or valid
