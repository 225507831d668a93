"""`understudy train` in several processes of MLX's ring: the same run, and what ends it.

What happened is judged by what was written, never by the launcher's exit code: it returns 0 where
all processes failed, too. Everything talks to 127.0.0.1 and ends by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import pytest
import trial
from ring import free_ports, places

from mlx_lora import checkpoints, events
from mlx_lora.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

# dropout draws other masks in every process, so it stays off where losses are compared
_OPTIONS = (
    *("--max-length", "64", "--steps", "10", "--grad-accumulation", "2", "--batch-size", "3"),
    *("--eval-every", "5", "--save-every", "5", "--sample-every", "10", "--learning-rate", "2e-3"),
)
# steps enough to end it in the middle
_LONG = (*_OPTIONS, "--steps", "400", "--eval-every", "400", "--save-every", "400")


@pytest.fixture(scope="module")
def alone(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, the run of one process)."""
    folder = tmp_path_factory.mktemp("alone")
    data = trial.write_play(folder)
    process = trial.train(stories, data, folder / "run", *_OPTIONS)
    assert process.wait() == 0, process.stderr
    return data, folder / "run"


class Company:
    """The processes of one run, started as MLX's launcher would."""

    def __init__(self, folder: Path, model: Path, data: Path) -> None:
        self.out, self.model, self.data = folder / "run", model, data
        self._given = places(folder, 2)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.running: list[trial.Process] = []

    def train(self, *options: str, **followers: str) -> None:
        """Start `understudy train` twice; `followers` is the environment of the second."""
        self.running = [
            trial.train(
                self.model, self.data, self.out, *options, TMPDIR=str(self.scratch), **given
            )
            for given in (self._given[0], {**self._given[1], **followers})
        ]

    def resume(self) -> None:
        """Start `understudy resume` twice."""
        self.running = [
            trial.resume(self.out, TMPDIR=str(self.scratch), **given) for given in self._given
        ]

    def worker_of(self, rank: int) -> int:
        """The number of the worker process of a rank."""
        owner = self.running[rank].process.pid
        table = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        pairs = [line.split() for line in table.splitlines()]
        return next(int(pid) for pid, parent in pairs if int(parent) == owner)

    def losses(self) -> dict[int, float]:
        """The loss of every step, by what was written last."""
        return dict(Run(self.out).state().losses)

    def followers_left_nothing(self) -> bool:
        """No run folder but rank 0's, and nothing temporary."""
        return not any(self.scratch.iterdir()) and not (self.out.parent / "home" / "runs").exists()


@pytest.fixture
def company(alone: tuple[Path, Path], stories: Path, tmp_path: Path) -> Iterator[Company]:
    made = Company(tmp_path, stories, alone[0])
    yield made
    for process in made.running:
        if process.process.poll() is None:
            process.process.kill()
        process.wait()


def close_to(found: dict[int, float], wanted: dict[int, float]) -> None:
    """The same steps, and the same losses but for the order of sums."""
    assert found.keys() == wanted.keys()
    assert max(abs(found[step] - wanted[step]) for step in wanted) < 1e-4


@pytest.mark.slow
def test_the_launcher_runs_it_unchanged(
    alone: tuple[Path, Path], stories: Path, tmp_path: Path
) -> None:
    data, single = alone
    launcher = Path(sys.executable).with_name("mlx.launch")
    if not launcher.exists():
        pytest.skip("mlx.launch is not here")
    out, scratch = tmp_path / "run", tmp_path / "scratch"
    scratch.mkdir()
    command = [
        *(str(launcher), "-n", "2", "--starting-port", str(free_ports(1)[0]), "--"),
        *(sys.executable, "-P", "-m", "app", "train", "--model", str(stories)),
        *("--data", str(data), "--out", str(out), "--json", *_OPTIONS),
    ]
    home = tmp_path / "home"
    given = {"UNDERSTUDY_HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": str(trial.ROOT)}
    done = subprocess.run(
        command, cwd=trial.ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
        env={**os.environ, **given}, check=False,
    )  # fmt: skip
    state, wanted = Run(out).state(), Run(single).state()
    assert state.status == "finished", done.stderr.decode()
    close_to(dict(state.losses), dict(wanted.losses))
    assert [(v.step, v.rows) for v in state.validations] == [
        (v.step, v.rows) for v in wanted.validations
    ]
    for found, other in zip(state.validations, wanted.validations, strict=True):
        assert abs(found.loss - other.loss) < 1e-4
    tokens = [
        [e.tokens for e in Run(run).events() if isinstance(e, events.TrainStep)]
        for run in (out, single)
    ]
    assert tokens[0] == tokens[1]
    # what rank 0 says is all that is said
    said = [events.decode(line) for line in done.stdout.splitlines(keepends=True)]
    assert sum(isinstance(event, events.Hello) for event in said) == 1
    assert [e for e in said if isinstance(e, events.TrainStep)] == [
        e for e in Run(out).events() if isinstance(e, events.TrainStep)
    ]
    assert not (home / "runs").exists()
    assert [p for p in scratch.iterdir() if p.name.startswith("understudy")] == []


@pytest.mark.slow
def test_a_killed_follower_ends_it_and_the_rest_goes_on(company: Company) -> None:
    company.train(*_LONG)
    leader, follower = company.running
    leader.wait_for(trial.step(7))
    os.kill(company.worker_of(1), signal.SIGKILL)
    assert leader.wait(timeout=30) == 2
    assert follower.wait(timeout=30) == 2
    assert "error[peer_lost] process 2 of 2: " in leader.stderr
    assert "Traceback" not in leader.stderr
    failure = Run(company.out).state().failure
    assert failure is not None
    # the last whole step was saved although none was due, and nothing was computed for nothing
    last = max(company.losses())
    assert last >= 7
    assert f"the state after step {last} " in failure.saved
    before = company.losses()
    goes_on = trial.resume(company.out)
    goes_on.wait_for(trial.step(last + 2))
    goes_on.process.send_signal(signal.SIGINT)
    assert goes_on.wait() == 130
    after = company.losses()
    assert {step: after[step] for step in before} == before
    assert max(after) >= last + 2


@pytest.mark.slow
def test_a_killed_leader_ends_the_followers(company: Company) -> None:
    company.train(*_LONG, "--save-every", "5")
    leader, follower = company.running
    leader.wait_for(trial.step(7))
    os.kill(company.worker_of(0), signal.SIGKILL)
    assert leader.wait(timeout=30) == 2
    assert follower.wait(timeout=30) == 2
    assert "error[peer_lost] process 1 of 2: " in follower.stderr
    assert company.followers_left_nothing()
    assert trial.last_step(company.out) >= 5


@pytest.mark.slow
def test_ctrl_c_stops_all_after_the_same_step_and_both_go_on(
    company: Company, alone: tuple[Path, Path]
) -> None:
    company.train(*_OPTIONS)
    leader, follower = company.running
    leader.wait_for(trial.step(3))
    leader.process.send_signal(signal.SIGINT)
    assert leader.wait() == 130
    assert (follower.wait(), follower.stderr) == (0, "")
    newest = checkpoints.scan(company.out / "checkpoints")[-1]
    assert newest.manifest.step == max(company.losses())
    company.resume()
    assert [process.wait() for process in company.running] == [0, 0]
    close_to(company.losses(), dict(Run(alone[1]).state().losses))
    assert company.followers_left_nothing()
    found, wanted = (
        mx.load(str(run / "adapter" / "adapters.safetensors")) for run in (company.out, alone[1])
    )
    assert found.keys() == wanted.keys()
    worst = max(mx.abs(found[name] - wanted[name]).max().item() for name in wanted)
    assert worst < 1e-3


@pytest.mark.slow
def test_a_stop_of_any_process_stops_all(company: Company) -> None:
    company.train(*_LONG)
    leader, follower = company.running
    leader.wait_for(trial.step(3))
    follower.process.send_signal(signal.SIGTERM)
    assert leader.wait() == 0
    assert follower.wait() == 130
    assert Run(company.out).state().status == "stopped"
    assert trial.last_step(company.out) == max(company.losses())


@pytest.mark.slow
def test_what_keeps_a_follower_away_is_said_by_both(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    trial.write_play(here)
    trial.write_play(there).write_text("FIRST:\nAnother play altogether.\n\n" * 60)
    monkeypatch.setenv("HOME", str(here))
    company.data = Path("~/play.txt")
    company.train(*_OPTIONS, HOME=str(there))
    leader, follower = company.running
    assert (leader.wait(), follower.wait()) == (2, 2)
    why = "the data of this machine is not that of the first"
    assert follower.stderr.startswith(f"error[data_changed] play: {why}")
    assert leader.stderr.startswith(f"error[peer_lost] process 2 of 2: play: {why}")
    assert company.followers_left_nothing()


@pytest.mark.slow
def test_patience_ends_all(company: Company) -> None:
    company.train(*_OPTIONS, "--learning-rate", "1e-12", "--eval-every", "1", "--patience", "1")
    assert [process.wait() for process in company.running] == [0, 0]
    found = [e for e in Run(company.out).events() if isinstance(e, events.Finished)]
    assert [e.reason for e in found] == ["early_stop"]
    assert max(company.losses()) < 10


@pytest.mark.slow
def test_a_rank_without_rows_adds_nothing(
    stories: Path, alone: tuple[Path, Path], company: Company
) -> None:
    options = (*_OPTIONS, "--batch-size", "1", "--grad-accumulation", "1", "--steps", "4")
    company.train(*options)
    single = company.out.parent / "single"
    process = trial.train(stories, alone[0], single, *options)
    assert process.wait() == 0, process.stderr
    assert [process.wait() for process in company.running] == [0, 0]
    close_to(company.losses(), dict(Run(single).state().losses))
