"""Numbers and states as people read them; one line for every step of the sidebar."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from app import words
from app.project import DataChoice, ModelChoice, Project, Vote
from mlx_lora.runs import RunState

if TYPE_CHECKING:
    from app.models.run_progress import RunProgress


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"), (12, "12 bytes"), (999, "999 bytes"), (1000, "1.0 kB"),
        (999_400, "999 kB"), (999_500, "1.0 MB"), (38e6, "38 MB"), (999.7e6, "1.0 GB"),
        (6.1e9, "6.1 GB"), (9.94e9, "9.9 GB"), (9.96e9, "10 GB"), (1.2345e12, "1,234 GB"),
    ],
)  # fmt: skip
def test_size(nbytes: float, text: str) -> None:
    assert words.size(nbytes) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (4812, "4,812"), (999_999, "999,999"), (999_999.6, "1.00 M"),
        (1_310_000, "1.31 M"), (999_999_000, "1.00 B"), (1.5e9, "1.50 B"),
    ],
)  # fmt: skip
def test_count(number: float, text: str) -> None:
    assert words.count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0:00"), (42, "0:42"), (59.6, "1:00"), (904, "15:04"), (3599.7, "1:00:00"),
        (7510, "2:05:10"),
    ],
)  # fmt: skip
def test_clock(seconds: float, text: str) -> None:
    assert words.clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "under a minute"), (59.9, "under a minute"), (60, "1 min"), (2280, "38 min"),
        (3599, "1 h 00 min"), (7800, "2 h 10 min"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_plural() -> None:
    assert words.plural(1, "row") == "1 row"
    assert words.plural(0, "row") == "0 rows"
    assert words.plural(1200, "row") == "1,200 rows"
    assert words.plural(2, "loss", "losses") == "2 losses"


def test_every_state_has_a_word_and_an_icon() -> None:
    from app.icons import _PATHS

    for status in (
        "new", "queued", "running", "paused", "finished", "stopped", "interrupted", "failed",
        "damaged", "of another version",
    ):  # fmt: skip
        word, _tone, icon = words.state_of(status)
        assert word[0].isupper()
        assert icon in _PATHS


def _lines(project: Project, status: str = "new", **state: Any) -> dict[str, str]:
    progress = SimpleNamespace(status=status, state=RunState(**state))
    return words.summaries(project, cast("RunProgress", progress))


def test_an_empty_project_has_nothing_to_say() -> None:
    assert set(_lines(Project()).values()) == {""}


def test_what_was_chosen() -> None:
    facts = {"training_rows": 1100, "validation_rows": 100}
    project = Project(
        model=ModelChoice("m", "Gemma 3", "4-bit"), data=DataChoice("d", "poems.jsonl", facts)
    )
    lines = _lines(project)
    assert lines["model"] == "Gemma 3 · 4-bit"
    assert lines["dataset"] == "poems.jsonl · 1,200 rows"
    assert lines["configure"] == "Balanced · LoRA r8 · 3 epochs"
    assert _lines(Project(model=ModelChoice("m", "Gemma 3")))["model"] == "Gemma 3"
    assert _lines(Project(data=DataChoice("d", "poems.jsonl")))["dataset"] == "poems.jsonl"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"preset": "thorough"}, "Thorough · LoRA r16 · 5 epochs"),
        ({"preset": "demo"}, "Sample · LoRA r16 · 120 steps"),
        ({"settings": {"training": {"steps": 1}}}, "Balanced · LoRA r8 · 1 step"),
        ({"settings": {"training": {"epochs": 0.5}}}, "Balanced · LoRA r8 · 0.5 epochs"),
        ({"settings": {"adapter": {"rank": 0}}}, "Needs another value"),
    ],
)
def test_the_settings(changes: dict[str, Any], text: str) -> None:
    project = Project(model=ModelChoice("m", "M"), data=DataChoice("d", "D"), **changes)
    assert _lines(project)["configure"] == text


@pytest.mark.parametrize(
    ("status", "without", "at"),
    [
        ("new", "Ready to start", "Ready to start"),
        ("queued", "Waiting in the queue", "Waiting in the queue"),
        ("running", "Preparing", "Step 1,204 of 4,332"),
        ("paused", "Paused", "Paused at step 1,204 of 4,332"),
        ("stopped", "Stopped", "Stopped at step 1,204 of 4,332"),
        ("interrupted", "Interrupted", "Interrupted at step 1,204 of 4,332"),
        ("failed", "Failed", "Failed at step 1,204 of 4,332"),
        ("damaged", "Damaged", "Damaged"),
        ("finished", "Done", "Done"),
    ],
)
def test_the_run(status: str, without: str, at: str) -> None:
    project = Project(run="r")
    assert _lines(project, status)["train"] == without
    assert _lines(project, status, step=1204, steps=4332)["train"] == at
    assert _lines(Project(), status)["train"] == ""


def test_what_came_of_it() -> None:
    from mlx_lora.events import Validation

    held_out = Validation(step=10, loss=1.23456, accuracy=0.5, rows=3)
    project = Project(run="r", votes=(Vote("p", "adapted"), Vote("q", "tie")))
    lines = _lines(
        project, "finished", last_validation=held_out, exports=[{"format": "gguf", "quant": "q8_0"}]
    )
    assert lines["train"] == "Done · loss 1.235"
    assert lines["compare"] == "2 judged"
    assert lines["export"] == "GGUF Q8_0"
