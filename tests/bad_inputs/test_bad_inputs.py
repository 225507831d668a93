"""Every table of bad inputs through the real command line (failures.md, section 6).

Refused: exit code 2, one line on stderr in the contract's form with the right words, no traceback,
nothing new and nothing changed on the disk, found before a worker starts and within a second where
that is possible. Odd but good: exit code 0.
"""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING

import pytest
import typer

from bad_inputs import adapters, data, exports, models, odd, options, storage
from bad_inputs.case import Places
from bad_inputs.inline import InlineChild, NoChild
from mlx_lora import cli
from mlx_lora.cli import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bad_inputs.case import Case

REFUSED = [
    *options.CASES, *data.CASES, *models.CASES, *adapters.CASES, *storage.CASES, *exports.CASES,
]  # fmt: skip
# typer builds its commands anew at every call; once is enough here
_COMMAND = typer.main.get_command(cli.app)
# what a run writes while it is refused: its lock, its log, what it said
_OWN = {".lock", "engine.lock", "events.jsonl", "worker.log"}


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Places:
    """A model, good rows and a finished run for every case."""
    folder = tmp_path_factory.mktemp("common")
    rows = folder / "rows.jsonl"
    sentences = [{"text": f"On day {n} a dog and a ball went to the park."} for n in range(12)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in sentences))
    model: Path = request.getfixturevalue("stories")
    root, run = folder / "home", folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Child", InlineChild)
        arguments = ["--model", str(model), "--data", str(rows), "--out", str(run), "--steps", "2"]
        assert cli.main(["--data-dir", str(root), "train", *arguments, "--save-every", "1"]) == 0
    return Places(work=folder, rows=rows, model=model, run=run, root=root)


@pytest.fixture
def places(
    common: Places, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Places]:
    """The common ones, with a folder and a data root of this test's own; we stand in the folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(cli, "app", _COMMAND)
    (tmp_path / "short.toml").write_text("[samples]\ntokens = 1\n")
    yield Places(work=work, rows=common.rows, model=common.model, run=common.run, root=root)
    storage.release()


def test_there_are_enough() -> None:
    names = [case.name for case in REFUSED]
    assert len(set(names)) == len(names) >= 250
    assert len({case.name for case in odd.CASES}) == len(odd.CASES)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in REFUSED if not c.late])
def test_refused_before_a_worker(
    case: Case, places: Places, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "Child", NoChild)
    import huggingface_hub.hf_api  # noqa: F401  (a second of any process's first question)

    _refused(case, places, capfd, seconds=1.0)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in REFUSED if c.late])
def test_refused_by_the_worker(
    case: Case, places: Places, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "Child", InlineChild)
    _refused(case, places, capfd, seconds=30.0)


def _odd(number: int, case: Case) -> object:
    """Of what differs in an option only, one in three runs each time."""
    often = case.name.startswith(("data:", "rows:")) or number % 6 == 0
    return pytest.param(case, id=case.name, marks=() if often else pytest.mark.slow)


@pytest.mark.parametrize("case", [_odd(n, case) for n, case in enumerate(odd.CASES)])
def test_odd_but_good(
    case: Case, places: Places, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "Child", InlineChild)
    if case.make:
        case.make(places)
    arguments = [places.fill(word) for word in case.arguments]
    if "train" in arguments and not any(w in arguments for w in ("--grad-accumulation",)):
        arguments += ["--steps", "1"]
    elif "train" in arguments:
        arguments += ["--epochs", "1"]
    if "train" in arguments and "--config" not in arguments:
        arguments += ["--config", str(places.work.parent / "short.toml")]
    before = _seen(places)
    code = cli.main(arguments)
    out, err = capfd.readouterr()
    assert code == 0, err
    assert "Traceback" not in out + err
    for words in case.words:
        assert words in out + err
    changed = {path for path, facts in before.items() if _seen(places).get(path) != facts}
    assert not {path for path in changed if path.name not in _OWN}


def _refused(case: Case, places: Places, capfd: pytest.CaptureFixture[str], seconds: float) -> None:
    if case.make:
        case.make(places)
    arguments = [places.fill(word) for word in case.arguments]
    before = _seen(places)
    capfd.readouterr()
    began, computing = time.perf_counter(), time.process_time()
    code = cli.main(arguments)
    took, computed = time.perf_counter() - began, time.process_time() - computing
    out, err = capfd.readouterr()
    assert code == 2, (out, err)
    errors = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert len(errors) == 1, err
    line = errors[0]
    assert line.startswith(f"error[{case.words[0]}] "), line
    where, _, rest = line.partition("] ")[2].partition(": ")
    why, _, fix = rest.partition(" Fix: ")
    assert all((where, why, fix)), line
    for words in case.words[1:]:
        assert words in line
    for box in ("Traceback", "╭", "Usage:", "UserError", "Error("):
        assert box not in out + err
    assert _seen(places) == before
    # of computing, so that a busy machine tells no lies; waiting has its own bound
    assert computed < seconds
    assert took < 10 * seconds


def _seen(places: Places) -> dict[Path, tuple[int, int, int]]:
    """Every file a case could harm, and what would tell that it was written to."""
    folders = (places.work, places.run, places.model, places.root / "runs")
    found = [path for folder in folders for path in folder.rglob("*") if path.name not in _OWN]
    found += [places.rows, places.root / "runs"]
    files = {path: path.lstat() for path in found if path.is_symlink() or path.exists()}
    return {
        path: (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        for path, facts in files.items()
        if not path.is_dir()
    }
