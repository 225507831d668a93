"""`data check` and `data preview` in a process of their own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

_CODES = re.compile(r"\x1b\[[0-9;]*m")
ROWS = [
    {"prompt": "Who goes\tthere?", "completion": "A friend."},
    {"prompt": "Who?", "completion": " "},
    {"prompt": "Say it.", "completion": "The night is long. " * 20},
]


def test_preview_tells_learnt_read_and_cut_apart(
    understudy: Run, write_rows: Callable[..., Path]
) -> None:
    done = understudy(
        "data", "preview", write_rows(ROWS), "--max-length", 30, FORCE_COLOR="1", TERM="xterm"
    )
    assert done.returncode == 0
    plain = _CODES.sub("", done.stdout)
    assert "Row 1, " in plain
    assert "Row 3, " in plain
    assert "Who goes\u2409there?" in plain
    assert "trained  learnt" in plain
    # green and struck red: learnt and cut of row 3
    assert re.search(r"\x1b\[32m ?The\x1b", done.stdout)
    assert re.search(r"\x1b\[9;31m[^\x1b]*night", done.stdout)


def test_preview_of_one_row(understudy: Run, write_rows: Callable[..., Path]) -> None:
    path = write_rows(ROWS)
    done = understudy("data", "preview", path, "--row", 2)
    assert (done.returncode, done.stdout) == (
        0, "This row is left out: it holds no text or no answer.\n"
    )  # fmt: skip
    lines = understudy("data", "preview", path, "--row", 1, "--train-on", "all", "--json").stdout
    (pieces,) = (
        line["data"]["pieces"] for line in map(json.loads, lines.splitlines())
        if line.get("kind") == "pieces"
    )  # fmt: skip
    assert {state for _, state in pieces[1:]} == {"trained"}
    missing = understudy("data", "preview", path, "--row", 9)
    assert missing.returncode == 2
    assert missing.stderr.startswith("error[bad_option] row 9: there is no such row.")


def test_check_names_what_to_look_at(understudy: Run, write_rows: Callable[..., Path]) -> None:
    done = understudy("data", "check", write_rows([*ROWS, ROWS[0]]), "--max-length", 30)
    assert done.returncode == 0
    plain = " ".join(_CODES.sub("", done.stdout).split())
    assert "warning: 1 row has no text or no answer [empty] train rows 2 There is nothing" in plain
    assert "1 row is longer than 30 tokens and is cut [cut] train rows 3" in plain
    assert "note: 1 row is a copy of an earlier one [duplicate] train rows 4" in plain
    assert "limit 30" in plain
    assert "1 long rows, by --long-rows:" in plain
    assert "Too few: they will be learnt by heart" in plain


def test_a_check_ends_as_training_would(understudy: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f'{good}\n{{"prompt": }}\n{good}\n{{"title": "t"}}\n')
    done = understudy("data", "check", path)
    assert done.returncode == 2
    assert "error: 1 row cannot be read [broken]" in " ".join(_CODES.sub("", done.stdout).split())
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[bad_data]")
    assert "rows.jsonl:2:12: " in line
    assert "(and 1 more row)" in line
    assert "understudy data clean" in line
    trained = understudy("train", "--model", "demo", "--data", path)
    assert trained.returncode == 2
    assert "rows.jsonl:2:12: " in trained.stderr
    as_json = understudy("data", "check", path, "--json")
    assert as_json.returncode == 2
    report = next(
        x for x in map(json.loads, as_json.stdout.splitlines()) if x.get("kind") == "inspect"
    )
    assert [issue["code"] for issue in report["data"]["issues"]][:2] == ["broken", "unknown"]


def test_a_cleaned_copy(understudy: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f'{good}\n{{"prompt": }}\n{good}\n')
    done = understudy("data", "clean", path, "--out", tmp_path / "copy.jsonl")
    assert done.returncode == 0
    assert "1 broken: leaves them out" in " ".join(done.stdout.split())
    assert (tmp_path / "copy.jsonl").read_text().splitlines() == [
        json.dumps(ROWS[0], separators=(",", ":"))
    ]
    again = understudy("data", "clean", path, "--out", tmp_path / "copy.jsonl")
    assert again.returncode == 2
    assert again.stderr.startswith("error[exists]")
    itself = understudy("data", "clean", path, "--out", path, "--overwrite")
    assert itself.returncode == 2
    assert "the source itself" in itself.stderr


@pytest.mark.slow
def test_columns_are_named_by_hand(understudy: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"headline": f"What is {n}?", "body": f"It is {n}."} for n in range(12)]
    path.write_text("\n".join(map(json.dumps, rows)))
    plain = understudy("data", "check", path)
    assert plain.returncode == 2
    assert "headline, body" in plain.stderr
    mapped = ["--map", "prompt=headline", "--map", "completion=body"]
    assert understudy("data", "check", path, *mapped).returncode == 0
    shown = understudy("data", "preview", path, "--row", 3, *mapped)
    assert "What is 2?" in shown.stdout
    wrong = understudy("data", "check", path, "--map", "prompt=headlin", "--map", "completion=body")
    assert wrong.returncode == 2
    assert "headline" in wrong.stderr
    assert understudy("data", "check", path, "--map", "prompt").returncode == 2


def test_a_broken_row_says_why_it_is_not_shown(understudy: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f'{good}\n{{"prompt": }}\n')
    done = understudy("data", "preview", path, "--row", 2)
    assert "This row is left out: this line is no valid JSON" in " ".join(done.stdout.split())


def test_what_a_refusal_suggests_can_be_typed(
    understudy: Run, write_rows: Callable[..., Path]
) -> None:
    """Questions about a context, as SQuAD has them."""
    context = "It was in 1858, at Lourdes in France."
    answers = {"text": ["in 1858"], "answer_start": [7]}
    rows = [
        {
            "id": str(n),
            "context": f"{context} {n}",
            "question": f"When was {n}?",
            "answers": answers,
        }
        for n in range(12)
    ]
    path = write_rows(rows)
    refused = understudy("data", "check", path)
    assert refused.returncode == 2
    options = re.findall(r"--map \S+=\w+", refused.stderr)
    assert len(options) == 3
    shown = understudy("data", "preview", path, "--row", 3, *" ".join(options).split())
    assert shown.returncode == 0
    assert "When was 2?" in shown.stdout
    assert "at Lourdes in France. 2" in shown.stdout
    done = understudy("data", "check", path, *" ".join(options).split())
    assert done.returncode == 0, done.stderr
    assert "alpaca 12" in " ".join(done.stdout.split())
