"""An error in a person's words: a title for every code, whole sentences, what is kept, details."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import errors, problems
from app.problems import internal_problem, is_failed, problem_of
from mlx_lora.errors import UserError
from mlx_lora.events import Failed, Finished

if TYPE_CHECKING:
    from app.application import Application

ROOT = Path(__file__).parents[2]
PLAIN = "That did not work"


def _codes() -> set[str]:
    """Every code the source gives an error."""
    text = "\n".join(
        p.read_text() for room in ("app", "mlx_lora") for p in (ROOT / room).rglob("*.py")
    )
    return set(re.findall(r"UserError\(\s*\"([a-z_]+)\"", text)) | set(
        re.findall(r"Failed\(\s*code=\"([a-z_]+)\"", text)
    )


def test_codes_are_found() -> None:
    assert {"bad_data", "busy", "storage", "killed"} <= _codes()


@pytest.mark.parametrize("code", sorted(_codes()))
def test_every_code_has_a_title(code: str) -> None:
    assert problem_of(UserError(code, "here", "why", "fix")).title != PLAIN


def test_a_title_is_one_sentence_without_its_stop() -> None:
    for title in problems._TITLES.values():
        assert title[0].isupper()
        assert not title.endswith(".")
        assert len(title) <= 50


def test_an_unknown_code_still_says_something() -> None:
    problem = problem_of(UserError("new_code", "here", "it broke", "do this"))
    assert (problem.title, problem.text) == (PLAIN, "It broke. Do this.")


@pytest.mark.parametrize(
    ("why", "fix", "text"),
    [
        ("it broke", "do this", "It broke. Do this."),
        ("It broke.", "Do this.", "It broke. Do this."),
        ("did you mean “a”?", "write “a”", "Did you mean “a”? Write “a”."),
        ("it broke", "", "It broke."),
        ("", "do this", "Do this."),
        ("", "", ""),
    ],
)
def test_sentences(why: str, fix: str, text: str) -> None:
    assert problem_of(UserError("bad_data", "here", why, fix)).text == text


@pytest.mark.parametrize("kind", ["raised", "told"])
def test_raised_here_or_told_by_a_worker_it_reads_the_same(kind: str) -> None:
    error = (
        UserError("diverged", "step 3", "it left", "lower it", "step 2")
        if kind == "raised"
        else Failed(code="diverged", where="step 3", why="it left", fix="lower it", saved="step 2")
    )
    problem = problem_of(error, ["one \n", "two"])
    assert problem.title == "Training went off course"
    assert problem.safe == "Kept: step 2."
    assert problem.code == "diverged"
    first, ours, _machine, *tail = problem.details.splitlines()
    assert first == "diverged step 3: it left"
    assert ours.startswith("Understudy ")
    assert tail == ["one", "two"]


def test_nothing_is_said_to_be_kept_that_was_not() -> None:
    assert problem_of(UserError("bad_data", "here", "why", "fix")).safe == ""


def test_details_do_not_name_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    error = UserError("bad_data", f"{tmp_path}/poems.txt", "why", "fix")
    details = problem_of(error, [f"File {tmp_path}/x.py"]).details
    assert str(tmp_path) not in details
    assert "~/poems.txt" in details


def test_our_own_mistake_says_so() -> None:
    problem = internal_problem("Traceback")
    assert "our mistake" in problem.text
    assert "untouched" in problem.text
    assert problem.details.endswith("Traceback")


def test_is_failed() -> None:
    assert is_failed(Failed(code="killed", where="", why="", fix=""))
    assert not is_failed(Finished(reason="done"))
    assert not is_failed(None)


def test_an_error_nobody_handled_is_not_called_our_mistake(
    application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a full disk while the project is saved."""
    application.window.show()
    error = UserError("disk_full", "disk", "the disk is full", "free some space")
    errors._unhandled(type(error), error, None)
    [box] = errors._open
    assert box.text() == "The disk is full"
    assert "our mistake" not in box.informativeText()
    box.done(0)
    assert "disk_full" in capsys.readouterr().err
    assert sys.excepthook is not None
