"""Checkpoints written in a thread: one at a time, complete or absent, failures said in words."""

from __future__ import annotations

import errno
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trial
from models_made import make_model

from mlx_lora import checkpoints
from mlx_lora.checkpoints import OPTIMIZER, WEIGHTS, Checkpoint, Snapshot, save_snapshot, scan
from mlx_lora.config import build_config
from mlx_lora.errors import UserError
from mlx_lora.preflight import make_record
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.resume import Progress, load_state, take_snapshot
from mlx_lora.training.session import Session, prepare
from mlx_lora.training.step import Stepper
from mlx_lora.training.writer import CheckpointWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Gate:
    """Holds every flush to the disk back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.reached, self._real = threading.Event(), threading.Event(), os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, handle: int) -> None:
        self.reached.set()
        assert self.opened.wait(20)
        self._real(handle)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


def snapshot(step: int, content: Any = b"", loss: float | None = None) -> Snapshot:
    return Snapshot(
        step=step,
        files={WEIGHTS: [b"weights ", content], OPTIMIZER: [b"moments"]},
        state={"step": step},
        environment={"mlx": "1"},
        base_fingerprint="f",
        validation_loss=loss,
    )


def steps(found: list[Checkpoint]) -> list[int]:
    return [checkpoint.manifest.step for checkpoint in found]


def whole(folder: Path) -> list[int]:
    """The steps of the checkpoints that are there, every file of them what was saved."""
    found = scan(folder)
    for checkpoint in found:
        for name in checkpoint.manifest.files:
            checkpoint.file(name)
    return steps(found)


def test_the_computing_thread_goes_on_while_it_is_written(gate: Gate, tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=3) as writer:
        writer.save(snapshot(1))
        assert gate.reached.wait(20)
        assert writer.busy
        assert writer.poll() == []
        assert scan(tmp_path) == []
        gate.opened.set()
        assert steps(writer.wait()) == [1]
        assert not writer.busy
        assert writer.wait() == writer.poll() == []
    assert whole(tmp_path) == [1]


def test_poll_tells_of_each_once(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=3) as writer:
        writer.save(snapshot(1))
        for _ in trial.instants(20):
            if not writer.busy:
                break
        writer.save(snapshot(2))
        assert steps(writer.wait()) == [1, 2]
        assert writer.poll() == []


def test_a_save_waits_for_the_one_before(gate: Gate, tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=3) as writer:
        writer.save(snapshot(1))
        threading.Timer(0.2, gate.opened.set).start()
        writer.save(snapshot(2))
        assert gate.opened.is_set()
        assert 1 in whole(tmp_path)
        assert steps(writer.wait()) == [1, 2]


def test_what_is_being_written_at_the_end_is_finished(gate: Gate, tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=3) as writer:
        writer.save(snapshot(1))
        threading.Timer(0.2, gate.opened.set).start()
    assert whole(tmp_path) == [1]
    assert trial.leftovers(tmp_path) == []


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=2) as writer:
        for step, loss in ((1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, None)):
            writer.save(snapshot(step, loss=loss))
        assert steps(writer.wait()) == [1, 2, 3, 4, 5]
    assert whole(tmp_path) == [2, 4, 5]


def test_it_is_what_the_synchronous_form_writes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with CheckpointWriter(one, keep=2) as writer:
        writer.save(snapshot(7, b"abc", 2.0))
        (made,) = writer.wait()
    alike = save_snapshot(other, snapshot(7, b"abc", 2.0))
    assert made.manifest == alike.manifest
    assert made.file(WEIGHTS).read_bytes() == alike.file(WEIGHTS).read_bytes() == b"weights abc"


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EROFS, "no_permission")]
)
@pytest.mark.parametrize("asked", ["poll", "wait", "save"])
def test_a_failure_is_said_once_and_the_next_save_goes_well(
    number: int, code: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failing = os.fsync, True

    def fsync(handle: int) -> None:
        if failing:
            raise OSError(number, os.strerror(number))
        real(handle)

    with CheckpointWriter(tmp_path, keep=3) as writer:
        writer.save(snapshot(1))
        assert steps(writer.wait()) == [1]
        monkeypatch.setattr(os, "fsync", fsync)
        writer.save(snapshot(2))
        while writer.busy:
            time.sleep(0.001)
        with pytest.raises(UserError) as caught:
            writer.save(snapshot(3)) if asked == "save" else getattr(writer, asked)()
        assert caught.value.code == code
        assert "step-000002" in caught.value.where
        assert trial.leftovers(tmp_path) == []
        assert writer.wait() == []
        assert whole(tmp_path) == [1]
        failing = False
        writer.save(snapshot(2))
        assert steps(writer.wait()) == [2]
    assert whole(tmp_path) == [1, 2]


def test_an_error_of_the_run_is_not_covered_by_one_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)

    def diverge() -> None:
        with CheckpointWriter(tmp_path, keep=3) as writer:
            writer.save(snapshot(1))
            raise UserError("diverged", "step 2", "the loss is no number", "lower the rate")

    with pytest.raises(UserError) as caught:
        diverge()
    assert caught.value.code == "diverged"


def test_arrays_are_let_go_of_where_they_were_made(tmp_path: Path) -> None:
    """A buffer that is still looked at cannot grow."""
    content = bytearray(b"numbers")
    with CheckpointWriter(tmp_path, keep=3) as writer:
        for step in range(1, 20):
            writer.save(snapshot(step, memoryview(content)))
            with pytest.raises(BufferError):
                content.append(0)
            writer.wait()
            content.append(0)


def make_session(folder: Path) -> Session:
    """A run in memory, before its first step."""
    tree = {
        "model": {"source": str(make_model(folder / "model"))},
        "data": {"source": str(trial.write_play(folder)), "max_length": 32},
        "training": {"steps": 50, "learning_rate": 1e-2},
    }
    record, _ = make_record(build_config(tree), folder / "home")
    making = prepare(record, folder / "home")
    while True:
        try:
            next(making)
        except StopIteration as end:
            session: Session = end.value
            return session


def train_on(session: Session, progress: Progress, count: int) -> None:
    differentiation = Differentiation(session.objective, session.adapter.dropout_key)
    stepper = Stepper(differentiation, session.optimizer, clip=1.0, seed=0)
    for _ in range(count):
        progress.step += 1
        batches = session.on_device(session.lay_out(progress.step))
        assert stepper.launch(progress.step, batches, 1e-2).moved.item()
        progress.recent = [*progress.recent, 1.0]


def test_the_run_goes_on_and_what_was_taken_stays(gate: Gate, tmp_path: Path) -> None:
    """Steps made while a checkpoint is written are not in it; the run can be taken up from it."""
    session, progress = make_session(tmp_path), Progress()
    train_on(session, progress, 3)
    gate.opened.set()
    wanted = save_snapshot(tmp_path / "wanted", take_snapshot(session, progress))
    gate.opened.clear()
    gate.reached.clear()
    with CheckpointWriter(tmp_path / "written", keep=2) as writer:
        taken = take_snapshot(session, progress)
        content = {name: b"".join(pieces) for name, pieces in taken.files.items()}
        writer.save(taken)
        assert gate.reached.wait(20)
        train_on(session, progress, 4)
        assert {name: b"".join(pieces) for name, pieces in taken.files.items()} == content
        gate.opened.set()
        (made,) = writer.wait()
    assert made.manifest == wanted.manifest
    assert made.manifest.state["recent"] == [1.0] * 3
    later = take_snapshot(session, progress)
    again, _ = load_state(session, made)
    assert again == msgspec.structs.replace(progress, step=3, recent=[1.0] * 3)
    train_on(session, again, 4)
    repeated = take_snapshot(session, again)
    for name in (WEIGHTS, OPTIMIZER):
        assert b"".join(repeated.files[name]) == b"".join(later.files[name]) != content[name]


_SAVER = """
import itertools, sys
from pathlib import Path
from mlx_lora.checkpoints import Snapshot
from mlx_lora.training.writer import CheckpointWriter

assert "mlx" not in sys.modules
folder, begun = Path(sys.argv[1]), int(sys.argv[2])
with CheckpointWriter(folder, 2) as writer:
    for step in itertools.count(begun + 1):
        content = [step.to_bytes(4, "little") * 50_000] * 4
        for done in writer.poll():
            print(done.manifest.step, flush=True)
        writer.save(Snapshot(
            step=step, files={"trainable.safetensors": content, "optimizer.safetensors": content},
            state={}, environment={}, base_fingerprint="",
            validation_loss=None if step % 5 else 1 / step,
        ))
"""


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_nothing_torn_is_visible_after_kill_9(kills: int, tmp_path: Path) -> None:
    """Killed at random instants: never a torn file, never a step lost that was said to be saved."""
    folder, dice = tmp_path / "checkpoints", random.Random(kills)
    last = half = 0
    for number in itertools.count(1):
        process = subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(folder), str(last)],
            cwd=trial.ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        said = int(process.stdout.readline())
        time.sleep(dice.uniform(0.0, 0.08))
        process.kill()
        process.wait()
        rest = process.stdout.read().split(b"\n")[:-1]
        process.stdout.close()
        half += bool(trial.leftovers(folder))
        found = whole(folder)
        assert found[-1] >= int(rest[-1] if rest else said) > last
        last = found[-1]
        checkpoints.prune(folder, 2)
        assert trial.leftovers(folder) == []
        if number == kills:
            break
    sys.stderr.write(f"{kills} kills, {half} left something half-written, {last} steps saved\n")
