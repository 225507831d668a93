"""Odd and bad files: each works, or is refused in a line that says where, why and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from odd_files import FILES, OddFile

from mlx_lora.config import DataConfig
from mlx_lora.data import json_window, table_records, text_file
from mlx_lora.data.examples import Found, read_examples
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError

ROOT = Path(__file__).parents[2]
# one in nine goes through the command itself, all but two of them only in the long suite
_CALLED = [
    pytest.param(case, id=case.name, marks=() if number % 12 == 0 else pytest.mark.slow)
    for number, case in enumerate(FILES[::9])
]


def _read(case: OddFile, folder: Path) -> tuple[list[Found], UserError | None]:
    """What is read of a case, and what it is refused with."""
    found: list[Found] = []
    data = DataConfig(source=str(folder / case.path), columns=case.columns)
    try:
        found.extend(read_examples(find_source(data, folder)))
    except UserError as error:
        return found, error
    return found, None


def test_there_are_enough() -> None:
    names = [case.name for case in FILES]
    assert len(names) == len(set(names)) >= 120


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_a_file_works_or_says_what_is_wrong(case: OddFile, tmp_path: Path) -> None:
    case.build(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    started = time.perf_counter()
    found, error = _read(case, tmp_path)
    seconds = time.perf_counter() - started
    faults = [one.fault for one in found if one.fault is not None]
    if case.rows is None:
        error = error or next(iter(faults), None)
        assert error is not None
        said = [error]
    else:
        assert error is None, error
        assert sum(one.example is not None for one in found) == case.rows
        assert len(faults) == case.faults
        said = faults[:1]
    for fault in said:
        assert fault.code in {"bad_data", "no_such_data"}
        for words in case.words:
            assert words in fault.line(), (words, fault.line())
        assert fault.fix
        assert "\n" not in fault.line()
        assert len(fault.line()) < 900
    assert seconds < 1.0
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_where_a_reading_pauses_changes_nothing(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read a piece at a time; no row, no line and no fault depends on the pieces."""
    cases = [case for case in FILES if "65 MB" not in case.name]
    wanted = []
    for number, case in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.build(folder)
        wanted.append(_told(case, folder))
    for module in (text_file, json_window, table_records):
        monkeypatch.setattr(module, "CHUNK", chunk)
    for number, case in enumerate(cases):
        assert _told(case, tmp_path / str(number)) == wanted[number], case.name


def _told(case: OddFile, folder: Path) -> tuple[list[object], str]:
    """Rows and places; which encoding it seems to be may well depend on how much is seen of it."""
    found, error = _read(case, folder)
    rows = [
        (one.row.number, one.row.line, one.row.value, one.fault.line() if one.fault else "")
        for one in found
    ]
    return [*rows], error.where + error.why.partition(";")[0] if error else ""


@pytest.mark.parametrize("case", _CALLED)
def test_through_the_command(case: OddFile, tmp_path: Path) -> None:
    case.build(tmp_path)
    columns = [f"--map={field}={column}" for field, column in case.columns.items()]
    done = subprocess.run(
        [sys.executable, "-m", "app", "data", "check", str(tmp_path / case.path), *columns],
        cwd=ROOT, env={**os.environ, "UNDERSTUDY_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    if case.rows and not case.faults:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(("error[bad_data] ", "error[no_such_data] "))
    assert " Fix: " in line
