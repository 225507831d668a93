"""`data check` and `data preview` in a process of their own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

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
    facts = dict(line.strip().split("  ", 1) for line in done.stdout.splitlines())
    assert facts["empty"] == "1 (train: 2)"
    assert facts["cut"] == "1 (train: 3)"
    assert facts["duplicate"] == "1 (train: 4)"
    assert facts["limit"] == "30"
