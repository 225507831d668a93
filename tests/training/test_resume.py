"""A run that is broken off and taken up in a new process is the run that never was broken off."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import msgspec
import pytest
import trial

from mlx_lora import checkpoints, events
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.runs import Run
from mlx_lora.training.loop import train

QUESTIONS = [
    {"prompt": f"What is {n} and {n}?", "completion": f"It is {n + n}, my friend."}
    for n in range(40)
]
CONFIGURATIONS = {
    "hard": trial.HARD,
    "plain": ("--max-length", "64", "--steps", "12", "--eval-every", "5", "--save-every", "4"),
    "recomputed": (*trial.HARD, "--grad-checkpoint", "--layers", "3"),
    "four bits": (*trial.HARD, "--bits", "4", "--rank", "4", "--targets", "attention"),
    "patience": (*trial.HARD, "--patience", "4", "--eval-every", "2", "--steps", "100"),
    "questions": (*trial.HARD, "--weight-decay", "0.1", "--seed", "5", "--clip", "0.1"),
    "nothing held out": (*trial.HARD, "--val-fraction", "0"),
    "packed": (
        *trial.HARD,
        "--batching",
        "pack",
        "--grad-checkpoint",
        "--checkpoint-every",
        "2",
    ),
    "exact batches, all logits": (*trial.HARD, "--batching", "rows", "--loss", "full"),
    "frozen layers": (*trial.HARD, "--layers", "2", "--prefix-cache", "on", "--val-fraction", "0"),
    "packed weights": (*trial.HARD, "--bits", "8", "--base-form", "packed", "--layers", "1"),
    "uneven": (*trial.HARD, "--batch-size", "7", "--grad-accumulation", "3", "--warmup", "0.5"),
}
FAST = {"hard"}


def cases() -> list[object]:
    return [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in CONFIGURATIONS
    ]


@pytest.mark.parametrize("name", cases())
def test_a_resumed_run_is_the_same_to_the_bit(name: str, stories: Path, tmp_path: Path) -> None:
    options = CONFIGURATIONS[name]
    data = trial.write_play(tmp_path)
    if name == "questions":
        data = tmp_path / "questions.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    if name == "patience":
        # held out is what this play does not teach, so the first validation stays the best
        (tmp_path / "both").mkdir()
        data.rename(tmp_path / "both" / "train.txt")
        data = tmp_path / "both"
        (data / "valid.txt").write_text("zqx 77 ### vvw %% kjq 0101 ~~ " * 40)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    whole = trial.train(stories, data, straight, *options)
    assert whole.wait() == 0, whole.stderr

    # stopped between two saves, then killed, then to the end
    first = trial.train(stories, data, broken, *options)
    first.wait_for(trial.step(1))
    first.process.terminate()
    assert first.wait() == 130, first.stderr
    stopped_at = trial.last_step(broken)
    second = trial.resume(broken)
    hello = second.wait_for(lambda event: isinstance(event, events.Hello))
    assert isinstance(hello, events.Hello)
    second.wait_for(trial.step(stopped_at + 1))
    trial.kill(hello.pid)
    assert second.wait() == 2
    assert trial.resumed_at(second.said) == stopped_at
    third = trial.resume(broken)
    assert third.wait() == 0, third.stderr

    one, other = trial.outcome(straight), trial.outcome(broken)
    for what, value in one.items():
        assert other[what] == value, what
    assert len([key for key in one["figures"] if key.startswith("step ")]) >= 4
    assert ('"early_stop"' in one["figures"]["finished"]) == (name == "patience")


@pytest.fixture
def stopped(stories: Path, tmp_path: Path) -> Path:
    """A run with checkpoints of steps 1 and 2, ready to be resumed."""
    run = tmp_path / "run"
    options = ("--max-length", "64", "--steps", "40", "--eval-every", "40", "--save-every", "1")
    process = trial.train(stories, trial.write_play(tmp_path), run, *options)
    process.wait_for(trial.step(2))
    process.process.terminate()
    assert process.wait() == 130
    return run


def go_on(run: Path, root: Path) -> UserError | None:
    """Train here as far as it goes; returns what it failed with."""
    try:
        with Run(run).append_log() as log:
            for event in train(Run(run), root, Control()):
                log.write(events.encode(event))
    except UserError as error:
        return error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("what", ["fsync", "tensors"])
def test_a_write_that_fails_costs_nothing_that_was_saved(
    what: str, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seventh flush, or every fifth file of one, fails; the run is resumed each time."""
    data, straight, run = trial.write_play(tmp_path), tmp_path / "straight", tmp_path / "run"
    options = (*trial.HARD, "--steps", "6", "--save-every", "2", "--sample-every", "6")
    whole = trial.train(stories, data, straight, *options)
    assert whole.wait() == 0, whole.stderr
    run.mkdir()
    (run / "config.toml").write_bytes((straight / "config.toml").read_bytes())
    module, name, every = {
        "fsync": (os, "fsync", 7),
        "tensors": (checkpoints, "write_pieces", 5),
    }[what]
    real, calls, failures = getattr(module, name), 0, 0

    def write(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls % every == 0:
            if what == "tensors":
                Path(str(arguments[0])).write_bytes(b"torn")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, write)
    while (error := go_on(run, tmp_path / "home")) is not None:
        failures += 1
        assert failures < 20
        assert error.code == "disk_full"
        assert str(run) in error.where
        assert "MB free" in error.why
        assert trial.leftovers(run) == []
        for checkpoint in checkpoints.scan(run / "checkpoints"):
            for file in checkpoint.manifest.files:
                checkpoint.file(file)
    assert failures >= 2
    one, other = trial.outcome(straight), trial.outcome(run)
    for part, value in one.items():
        assert other[part] == value, part


@pytest.mark.slow
def test_a_run_taken_up_at_its_very_end_measures_the_same(stories: Path, tmp_path: Path) -> None:
    """No step is made any more; dropout must be off all the same."""
    run = tmp_path / "run"
    options = (*trial.HARD, "--dropout", "0.5", "--steps", "4", "--sample-every", "4")
    process = trial.train(stories, trial.write_play(tmp_path), run, *options)
    assert process.wait() == 0, process.stderr
    wanted = trial.outcome(run)
    # killed while the adapter was written
    (run / "adapter").rename(run / ".incomplete-1-adapter")
    (run / "events.jsonl").write_bytes(b"".join(trial.log_lines(run)[:-2]))
    assert go_on(run, tmp_path / "home") is None
    assert trial.resumed_at(list(Run(run).events())) == 4
    assert trial.leftovers(run) == []
    got = trial.outcome(run)
    for part, value in wanted.items():
        assert got[part] == value, part


def change_manifest(checkpoint: checkpoints.Checkpoint, **changes: object) -> None:
    manifest = msgspec.structs.replace(checkpoint.manifest, **changes)
    (checkpoint.folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def refusal(run: Path) -> str:
    process = trial.resume(run)
    assert process.wait() == 2, process.said
    assert process.stderr.count("\n") == 1, process.stderr
    assert trial.leftovers(run) == []
    return process.stderr


def test_what_does_not_fit_is_refused(stopped: Path) -> None:
    newest = checkpoints.scan(stopped / "checkpoints")[-1]

    change_manifest(newest, base_fingerprint="another")
    assert refusal(stopped).startswith("error[wrong_checkpoint]")
    change_manifest(newest, state={})
    assert refusal(stopped).startswith("error[wrong_checkpoint]")
    change_manifest(newest)

    config = stopped / "config.toml"
    kept = config.read_text()
    config.write_text(kept.replace("rank = 8", "rank = 4"))
    words = refusal(stopped)
    assert words.startswith("error[wrong_checkpoint]")
    assert newest.folder.name in words
    config.write_text(kept)

    data = stopped.parent / "play.txt"
    text = data.read_text()
    data.write_text(text + "THIRD:\nAnd I.\n")
    assert refusal(stopped).startswith("error[data_changed]")
    data.write_text(text)

    config.write_text(kept.replace('base_fingerprint = "', 'base_fingerprint = "0'))
    assert refusal(stopped).startswith("error[model_changed]")
    config.write_text(kept)
    assert [c.manifest.step for c in checkpoints.scan(stopped / "checkpoints")][-1] == (
        newest.manifest.step
    )


@pytest.mark.slow
def test_another_environment_is_said_and_gone_on_with(stopped: Path) -> None:
    newest = checkpoints.scan(stopped / "checkpoints")[-1]
    change_manifest(newest, environment={**newest.manifest.environment, "mlx": "0.1"})
    process = trial.resume(stopped)
    notice = process.wait_for(lambda e: isinstance(e, events.Notice) and e.code == "environment")
    assert isinstance(notice, events.Notice)
    assert "mlx 0.1 -> " in notice.text
    process.wait_for(trial.step(newest.manifest.step + 1))
    process.process.terminate()
    assert process.wait() == 130


def test_a_damaged_newest_checkpoint_costs_one_interval(stopped: Path) -> None:
    before, newest = checkpoints.scan(stopped / "checkpoints")[-2:]
    tensors = newest.folder / checkpoints.OPTIMIZER
    tensors.write_bytes(tensors.read_bytes()[:-7])
    process = trial.resume(stopped)
    notice = process.wait_for(
        lambda e: isinstance(e, events.Notice) and e.code == "damaged_checkpoint"
    )
    assert isinstance(notice, events.Notice)
    assert notice.level == "warning"
    assert f"{newest.folder.name}/{checkpoints.OPTIMIZER}" in notice.text
    process.wait_for(trial.step(newest.manifest.step + 1))
    process.process.terminate()
    assert process.wait() == 130
    assert trial.resumed_at(process.said) == before.manifest.step
    for checkpoint in checkpoints.scan(stopped / "checkpoints"):
        for name in checkpoint.manifest.files:
            checkpoint.file(name)


def test_where_no_checkpoint_is_whole_it_is_refused_and_nothing_deleted(stopped: Path) -> None:
    found = checkpoints.scan(stopped / "checkpoints")
    for checkpoint in found:
        weights = checkpoint.folder / checkpoints.WEIGHTS
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    words = refusal(stopped)
    assert words.startswith("error[damaged_checkpoint]")
    assert f"{found[-1].folder.name}/{checkpoints.WEIGHTS}" in words
    assert checkpoints.scan(stopped / "checkpoints") == found
