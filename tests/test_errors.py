"""The one line a person is shown."""

from __future__ import annotations

import pickle
import re

import pytest

from mlx_lora.errors import UserError

_LINE = re.compile(r"error\[(\w+)\] (.+?): (.+?[.?!]) Fix: (.+?[.?!])(?: Saved: (.+)\.)?")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            UserError("bad_data", "a.jsonl row 5", "text is a number", "correct this row"),
            "error[bad_data] a.jsonl row 5: text is a number. Fix: correct this row.",
        ),
        (
            UserError("bad_option", "x", "no such name!", "did you mean y?"),
            "error[bad_option] x: no such name! Fix: did you mean y?",
        ),
        (
            UserError("diverged", "step 9", "it rose", "start again", "the state after step 5"),
            "error[diverged] step 9: it rose. Fix: start again. Saved: the state after step 5.",
        ),
    ],
)
def test_line(error: UserError, line: str) -> None:
    assert error.line() == str(error) == line
    assert _LINE.fullmatch(line)


def test_line_is_one_line_whatever_the_words() -> None:
    error = UserError("storage", "a\nb", "first\r\n\tsecond\u2028third", "do\x0bthis")
    assert len(error.line().splitlines()) == 1
    assert error.line() == "error[storage] a b: first second third. Fix: do this."


def test_keeps_its_parts() -> None:
    error = UserError("c", "w", "y", "f", "s")
    assert (error.code, error.where, error.why, error.fix, error.saved) == ("c", "w", "y", "f", "s")
    again = pickle.loads(pickle.dumps(error))
    assert again.line() == error.line()
