"""kill -9 at any instant: what is on disk is whole, and the run ends as if nothing had been."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import trial

from mlx_lora import checkpoints, events
from mlx_lora.runs import Run

if TYPE_CHECKING:
    from pathlib import Path

_SAVE_EVERY = 3
_EACH_STEP = (*trial.HARD, "--save-every", "1", "--steps", "12", "--sample-every", "12")


@pytest.fixture(scope="module")
def reference(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """(data, what the uninterrupted run leaves)."""
    folder = tmp_path_factory.mktemp("reference")
    data = trial.write_play(folder)
    process = trial.train(stories, data, folder / "run", *trial.HARD)
    assert process.wait() == 0, process.stderr
    return data, trial.outcome(folder / "run")


@pytest.fixture(scope="module")
def each_step(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """(data, what the uninterrupted run that saves at each step leaves)."""
    folder = tmp_path_factory.mktemp("each-step")
    data = trial.write_play(folder)
    process = trial.train(stories, data, folder / "run", *_EACH_STEP)
    assert process.wait() == 0, process.stderr
    return data, trial.outcome(folder / "run")


def kill_one(process: trial.Process, victim: str) -> None:
    """Kill the worker, where it has said its number, or the command line."""
    hello = next((e for e in process.said if isinstance(e, events.Hello)), None)
    if victim == "worker" and hello is not None:
        trial.kill(hello.pid)
    else:
        trial.kill(process.process.pid)
    process.wait()
    if hello is not None:
        # without its owner a worker saves and leaves
        assert trial.is_gone(hello.pid)


def to_the_end(run: Path, save_every: int) -> None:
    """Resume until it is finished, looking at what the kill left."""
    before = trial.last_step(run)
    if Run(run).state().status == "finished":
        return
    for checkpoint in checkpoints.scan(run / "checkpoints"):
        for name in checkpoint.manifest.files:
            checkpoint.file(name)
    process = trial.resume(run)
    process.wait_for(lambda e: isinstance(e, events.Phase) and e.name == "training")
    assert trial.leftovers(run / "checkpoints") == [] or process.process.poll() is None
    assert process.wait() == 0, process.stderr
    assert 0 <= before - trial.resumed_at(process.said) <= save_every
    assert trial.leftovers(run) == []


def aim(dice: random.Random) -> tuple[str, trial.Wanted, float]:
    """Where to kill: (name, event to wait for, delay after it)."""
    step = dice.randint(1, 15)

    def saved(event: events.Event) -> bool:
        return isinstance(event, events.CheckpointSaved) and event.step >= step

    return dice.choice(
        [
            ("start", lambda _: True, dice.uniform(0.0, 0.5)),
            ("loading", lambda e: isinstance(e, events.Hello), dice.uniform(0.0, 1.5)),
            (f"step {step}", trial.step(step), dice.uniform(0.0, 0.05)),
            (f"step {step}", trial.step(step), dice.uniform(0.0, 0.5)),
            (f"save {step}", saved, dice.uniform(0.0, 0.05)),
            ("finish", trial.step(16), dice.uniform(0.0, 0.3)),
        ]
    )


def break_off(run: Path, stories: Path, data: Path, victim: str, dice: random.Random) -> str:
    """Start or go on with a run and kill it; returns where it was meant to be."""
    there = (run / "config.toml").is_file()
    process = trial.resume(run) if there else trial.train(stories, data, run, *trial.HARD)
    name, wanted, delay = aim(dice)
    if name == "start":
        time.sleep(3 * delay)
    else:
        try:
            process.wait_for(wanted)
        except AssertionError:
            # a second kill, aimed at a step the first one came after: it ends unhurt
            assert there
            assert process.wait() == 0, process.stderr
            return f"{name} had passed"
        time.sleep(delay)
    kill_one(process, victim)
    return f"{name} + {delay * 1000:.0f} ms"


def check(number: int, stories: Path, reference: tuple[Path, Any], folder: Path) -> str:
    """One trial: one or two kills at random, then to the end; returns when it was killed."""
    data, wanted = reference
    dice, run, at = random.Random(2000 + number), folder / "run", []
    for _ in range(1 + number % 2):
        if (run / "config.toml").is_file() and Run(run).state().status == "finished":
            break
        aimed = break_off(run, stories, data, ("worker", "owner")[number // 2 % 2], dice)
        at.append(f"{aimed} (step {trial.last_step(run)}, {len(trial.leftovers(run))} half)")
    if not (run / "config.toml").is_file():
        # killed before there was a run: the next start makes it
        process = trial.train(stories, data, run, *trial.HARD)
        assert process.wait() == 0, process.stderr
    to_the_end(run, _SAVE_EVERY)
    got = trial.outcome(run)
    for what, value in wanted.items():
        assert got[what] == value, what
    assert trial.leftovers(run) == []
    return ", then ".join(at)


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_a_random_instant(
    number: int, stories: Path, reference: tuple[Path, Any], tmp_path: Path
) -> None:
    check(number + 100, stories, reference, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_killed_at_twenty_random_instants(
    number: int, stories: Path, reference: tuple[Path, Any], tmp_path: Path
) -> None:
    sys.stderr.write(f"kill {number}: {check(number, stories, reference, tmp_path)}\n")


def kill_while_saving(process: trial.Process, run: Path, nth: int, dice: random.Random) -> bool:
    """Kill the worker while its n-th save is half-written; whether that came about."""
    hello = process.wait_for(lambda event: isinstance(event, events.Hello))
    assert isinstance(hello, events.Hello)
    seen: set[str] = set()
    for _ in trial.instants(60):
        half = next((run / "checkpoints").glob(".incomplete-*"), None)
        if half is not None and half.name not in seen:
            seen.add(half.name)
            if len(seen) == nth:
                time.sleep(dice.uniform(0.0, 0.004))
                trial.kill(hello.pid)
                process.wait()
                return True
        if process.process.poll() is not None:
            break
    process.wait()
    return False


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.slow) for n in range(6)])
def test_killed_while_saving(
    number: int, stories: Path, each_step: tuple[Path, Any], tmp_path: Path
) -> None:
    data, wanted = each_step
    run, dice = tmp_path / "run", random.Random(number)
    process = trial.train(stories, data, run, *_EACH_STEP)
    assert kill_while_saving(process, run, number + 1, dice)
    kept = bool(trial.leftovers(run))
    # and once more while going on
    kill_while_saving(trial.resume(run), run, 2, dice)
    to_the_end(run, save_every=1)
    assert trial.outcome(run) == wanted
    sys.stderr.write(f"save {number}: half-written folder left by the kill: {kept}\n")


_SAVER = """
import sys
from pathlib import Path
from mlx_lora.checkpoints import prune, save_checkpoint

folder, step = Path(sys.argv[1]), int(sys.argv[2])
while True:
    step += 1
    content = step.to_bytes(4, "little") * 200_000

    def write(temporary):
        for name in ("trainable.safetensors", "optimizer.safetensors"):
            (temporary / name).write_bytes(content)

    save_checkpoint(folder, step, write, state={}, environment={}, base_fingerprint="",
                    validation_loss=None if step % 5 else 1 / step)
    prune(folder, 2)
    print(step, flush=True)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_nothing_torn_is_ever_visible(kills: int, tmp_path: Path) -> None:
    """Saving in a loop, killed at random instants: never a torn file, never a step lost."""
    folder, dice = tmp_path / "checkpoints", random.Random(kills)
    said = half = 0
    for number in itertools.count(1):
        process = subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(folder), str(said)],
            cwd=trial.ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.08))
        process.kill()
        process.wait()
        process.stdout.close()
        half += bool(trial.leftovers(folder))
        found = checkpoints.scan(folder)
        assert len(found) >= 2 or found[-1].manifest.step < 3
        for checkpoint in found:
            for name in checkpoint.manifest.files:
                checkpoint.file(name)
        assert found[-1].manifest.step > said
        said = found[-1].manifest.step
        checkpoints.prune(folder, 2)
        assert trial.leftovers(folder) == []
        if number == kills:
            break
    sys.stderr.write(f"{kills} kills, {half} left something half-written, {said} steps saved\n")
