"""The process boundary: what a worker hears, says and leaves, and how its owner tells of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trial

from mlx_lora import checkpoints, child, events, jobs, worker
from mlx_lora.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.preflight import make_record
from mlx_lora.runs import Run, RunStore

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = (
    *("--max-length", "64", "--steps", "3000", "--eval-every", "3000", "--save-every", "1000"),
    *("--sample-every", "3000"),
)


def is_phase(name: str) -> trial.Wanted:
    return lambda event: isinstance(event, events.Phase) and event.name == name


def is_hello(event: events.Event) -> bool:
    return isinstance(event, events.Hello)


def pid_of(process: trial.Process) -> int:
    hello = process.wait_for(is_hello)
    assert isinstance(hello, events.Hello)
    return hello.pid


@pytest.fixture
def run(stories: Path, tmp_path: Path) -> Path:
    """A long run, made but not begun."""
    config = RunConfig(
        model=ModelConfig(source=str(stories)),
        data=DataConfig(source=str(trial.write_play(tmp_path)), max_length=64),
        training=TrainingConfig(steps=3000, eval_every=3000, save_every=1000, sample_every=3000),
    )
    record, name = make_record(config, tmp_path / "home")
    return RunStore(tmp_path / "home").create(record, name, tmp_path / "run").folder


def stopped_at(run: Path) -> int:
    """The step whose state was saved last; the log ends with it."""
    last = list(Run(run).events())[-1]
    assert isinstance(last, events.Finished)
    assert last.reason == "stopped"
    saved = checkpoints.scan(run / "checkpoints")[-1].manifest.step
    assert saved == trial.last_step(run) == last.result["step"]
    assert Run(run).state().status == "stopped"
    return saved


@pytest.mark.parametrize(
    "how",
    [
        "closed stdin",
        "SIGTERM",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("stop", "closed stdout", "SIGINT")),
    ],
)
def test_a_worker_that_shall_end_saves_and_leaves(how: str, run: Path) -> None:
    process = trial.worker(run)
    assert process.said == [] or is_hello(process.said[0])
    process.wait_for(trial.step(2))
    began = time.monotonic()
    match how:
        case "stop":
            process.write(b'{"type":"stop"}')
        case "closed stdin":
            process.close()
        case "closed stdout":
            # nobody reads any more, as after `| head`
            process.stop_reading()
        case _:
            process.process.send_signal(getattr(signal, how))
    code = process.wait(20)
    assert time.monotonic() - began < 5.0
    assert code == 0, process.stderr
    assert stopped_at(run) >= 2
    assert trial.is_gone(process.process.pid)
    if how != "closed stdout":
        assert process.lines == trial.log_lines(run)
        assert is_hello(process.said[0])


def test_pause_save_and_resume(run: Path) -> None:
    process = trial.worker(run)
    process.wait_for(trial.step(2))
    process.write(b'{"type":"save"}')
    saved = process.wait_for(lambda e: isinstance(e, events.CheckpointSaved))
    assert isinstance(saved, events.CheckpointSaved)
    assert saved.step % 1000
    process.write(b'{"type":"pause"}')
    process.wait_for(is_phase("paused"))
    at = trial.last_step(run)
    assert checkpoints.scan(run / "checkpoints")[-1].manifest.step == at
    time.sleep(0.5)
    assert trial.last_step(run) == at
    process.write(b'{"type":"resume"}')
    process.wait_for(trial.step(at + 3))
    process.write(b'{"type":"pause"}')
    process.wait_for(lambda e: is_phase("paused")(e) and e.done > at)  # type: ignore[union-attr]
    at = trial.last_step(run)
    process.write(b'{"type":"stop"}')
    assert process.wait() == 0
    # a paused run that is stopped makes no other step
    assert stopped_at(run) == at


def test_garbage_is_not_heard(run: Path) -> None:
    process = trial.worker(run)
    for line in (
        *(b"", b"hello?", b"\xff\xfe\x00", b'{"type":"st\xffop"}', b'{"type":"explode"}', b"[1]"),
        *(b'{"type":"stop"', b"[" * 100_000, b'{"x":' + b"[" * 100_000, b"null", b"x" * 200_000),
        b'{"type":' + b"[" * 100_000 + b"}",
        b'{"type":"save","x":' + b"[" * 50_000,
    ):
        process.write(line)
    process.wait_for(trial.step(3))
    process.write(b'{"type":"save","from_a_later_version":true}')
    process.wait_for(lambda e: isinstance(e, events.CheckpointSaved))
    process.close()
    assert process.wait() == 0
    stopped_at(run)


def test_garbage_for_a_job_is_our_bug_in_one_event(tmp_path: Path) -> None:
    for first in (b"hello?", b'{"type":"telepathy"}', b""):
        process = trial.Process(("--worker",), tmp_path / "home")
        process.write(first)
        assert process.wait() == 1
        (said,) = process.said
        assert isinstance(said, events.Failed)
        assert said.code == "internal"


@pytest.fixture
def noise(tmp_path: Path) -> str:
    """A folder that makes each worker print on stdout all the time, as libraries do."""
    folder = tmp_path / "noise"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys, threading, time\n"
        "def shout():\n"
        "    while True:\n"
        '        os.write(1, b\'Loading weights: 100%\\n{"type":"shout"}\\n\'); time.sleep(.003)\n'
        "if '--worker' in sys.orig_argv:\n"
        "    threading.Thread(target=shout, daemon=True).start()\n"
    )
    return str(folder)


def test_what_libraries_print_does_not_break_the_stream(run: Path, noise: str) -> None:
    process = trial.worker(run, noise=noise)
    process.wait_for(trial.step(3))
    process.write(b'{"type":"stop"}')
    assert process.wait() == 0
    assert [events.encode(event) for event in process.said] == trial.log_lines(run)
    assert process.stderr.count("Loading weights: 100%") > 5
    # and through the command line: into worker.log
    owner = trial.resume(run, noise=noise)
    owner.wait_for(trial.step(trial.last_step(run) + 2))
    owner.process.terminate()
    assert owner.wait() == 130
    assert all(events.decode(line) is not None for line in owner.lines)
    assert "Loading weights: 100%" in (run / "worker.log").read_text()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_the_command_line_told_to_end(number: int, run: Path) -> None:
    process = trial.resume(run)
    pid = pid_of(process)
    process.wait_for(trial.step(2))
    process.process.send_signal(number)
    assert process.wait() == 130
    words = "Finishing the step and saving; press Ctrl-C again to end at once."
    assert process.stderr.strip() == words
    stopped_at(run)
    assert trial.is_gone(pid)
    assert process.lines == trial.log_lines(run)


@pytest.mark.slow
def test_a_second_interruption_ends_at_once(run: Path) -> None:
    process = trial.resume(run)
    pid = pid_of(process)
    process.wait_for(trial.step(2))
    os.kill(pid, signal.SIGSTOP)  # it hangs
    process.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.process.poll() is None
    began = time.monotonic()
    process.process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert time.monotonic() - began < 3.0
    assert trial.is_gone(pid)
    assert Run(run).state().status == "interrupted"


def test_a_killed_worker_is_told_in_one_line(run: Path) -> None:
    process = trial.resume(run)
    pid = pid_of(process)
    process.wait_for(trial.step(2))
    trial.kill(pid)
    assert process.wait() == 2
    assert process.stderr.startswith("error[killed] worker: the system ended the worker")
    assert process.stderr.count("\n") == 1
    last = process.said[-1]
    assert isinstance(last, events.Failed)
    assert last.code == "killed"
    assert Run(run).state().status == "interrupted"


def test_an_owner_that_is_killed_leaves_no_orphan(run: Path) -> None:
    process = trial.resume(run)
    pid = pid_of(process)
    process.wait_for(trial.step(2))
    trial.kill(process.process.pid)
    process.wait()
    assert trial.is_gone(pid, within=5.0)
    stopped_at(run)


@pytest.mark.slow
def test_json_is_what_the_log_holds(stories: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = trial.train(stories, trial.write_play(tmp_path), run, *trial.HARD)
    assert process.wait() == 0
    assert process.stderr == ""
    assert process.lines == trial.log_lines(run)
    assert all(events.decode(line) is not None for line in process.lines)
    for line in process.lines:
        json.loads(line, parse_constant=pytest.fail)
    again = trial.resume(run)
    assert again.wait() == 2
    assert again.stderr.startswith("error[finished] run: ")


# 100 blocks of 512 bytes: smaller than the tensors, larger than the rest
_SMALL_DISK = "ulimit -f 100;"


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_saved(run: Path) -> None:
    process = trial.worker(run)
    process.wait_for(trial.step(2))
    process.close()
    assert process.wait() == 0
    kept = stopped_at(run)

    full = trial.Process(("resume", str(run), "--json"), run.parent / "home", before=_SMALL_DISK)
    full.wait_for(trial.step(kept + 2))
    full.process.terminate()
    assert full.wait() == 2
    assert full.stderr.splitlines()[-1].startswith(f"error[disk_full] {run}/checkpoints/step-")
    failed = full.said[-1]
    assert isinstance(failed, events.Failed)
    assert failed.code == "disk_full"
    assert "step-" in failed.where
    assert "MB free" in failed.why
    assert failed.saved == f"the state after step {kept} (understudy resume run)"
    assert trial.leftovers(run) == []
    assert [c.manifest.step for c in checkpoints.scan(run / "checkpoints")][-1] == kept

    again = trial.resume(run)
    again.wait_for(trial.step(kept + 1))
    again.process.terminate()
    assert again.wait() == 130
    assert trial.resumed_at(again.said) == kept


@pytest.mark.slow
def test_a_log_that_cannot_be_written_is_said_too(run: Path) -> None:
    log = run / "events.jsonl"
    log.write_bytes(b"\n" * 51_000)
    full = trial.Process(("resume", str(run), "--json"), run.parent / "home", before=_SMALL_DISK)
    assert full.wait() == 2
    assert full.stderr.startswith(f"error[disk_full] {log}: the disk is full (")
    assert full.stderr.count("\n") == 1
    log.write_bytes(log.read_bytes().lstrip(b"\n"))
    again = trial.worker(run)
    again.wait_for(trial.step(1))
    again.close()
    assert again.wait() == 0
    stopped_at(run)


@pytest.mark.slow
def test_a_second_training_is_told_to_wait(run: Path, stories: Path, tmp_path: Path) -> None:
    first = trial.worker(run)
    first.wait_for(trial.step(1))
    second = trial.train(stories, tmp_path / "play.txt", tmp_path / "second", *LONG)
    assert second.wait(30) == 2
    assert second.stderr.startswith("error[busy] this Mac's training engine: ")
    first.close()
    assert first.wait() == 0
    stopped_at(run)


@pytest.mark.slow
def test_a_run_that_trains_can_be_looked_at_but_not_deleted(run: Path, tmp_path: Path) -> None:
    first = trial.worker(run)
    first.wait_for(trial.step(1))
    home = tmp_path / "home"
    deleted = trial.Process(("runs", "delete", str(run), "--yes"), home)
    assert deleted.wait() == 2
    assert deleted.stderr.startswith("error[busy] run run: ")
    for _ in range(3):
        shown = trial.Process(("runs", "show", str(run), "--json"), home)
        assert shown.wait() == 0
        assert json.loads(b"".join(shown.lines))["status"] == "running"
    at = trial.last_step(run)
    first.wait_for(trial.step(at + 1))
    first.close()
    assert first.wait() == 0
    stopped_at(run)


@pytest.mark.slow
def test_nothing_of_a_run_names_its_person(stories: Path, tmp_path: Path, noise: str) -> None:
    home = tmp_path / "canary-user-name"
    data = trial.write_play(home / "texts")
    (home / "models").mkdir()
    subprocess.run(["cp", "-r", str(stories), str(home / "models")], check=True)
    run = home / "runs" / "one"
    # a library that prints where it is
    site = Path(noise) / "sitecustomize.py"
    site.write_text(site.read_text().replace("Loading", f"Loading {home}/models"))
    process = trial.train(
        home / "models" / "stories260k", data, run, *trial.HARD, HOME=str(home), noise=noise
    )
    assert process.wait() == 0, process.stderr
    config = (run / "config.toml").read_text()
    assert 'source = "~/models/stories260k"' in config
    assert 'source = "~/texts/play.txt"' in config
    assert "Loading ~/models" in (run / "worker.log").read_text()
    data.unlink()
    # refusals name files too
    Run(run).adapter.rename(run / "gone")
    (run / "events.jsonl").write_bytes(b"".join(trial.log_lines(run)[:-1]))
    refused = trial.resume(run, HOME=str(home), noise=noise)
    assert refused.wait() == 2
    assert "error[no_such_data] ~/texts/play.txt: " in refused.stderr
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert b"canary" not in path.read_bytes(), path
    assert b"canary" not in b"".join(process.lines + refused.lines)


def test_a_failed_engine_is_told_without_a_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "canary"))
    for words, code in (
        ("[metal::malloc] Resource limit (499000) exceeded", "out_of_memory"),
        ("[METAL] Command buffer execution failed: Insufficient Memory", "out_of_memory"),
        ("[METAL] Command buffer execution failed: Caused GPU Timeout Error", "engine"),
        (f"[load] Failed to open\n {tmp_path}/canary/x", "engine"),
        ("", "engine"),
    ):
        failed = worker._engine_failed(RuntimeError(words), None)
        assert failed.code == code
        assert failed.why
        assert "canary" not in failed.why
        assert "\n" not in failed.why
    assert worker._engine_failed(MemoryError(), None).code == "out_of_memory"


def test_a_log_that_fails_keeps_no_reason_from_the_owner(tmp_path: Path) -> None:
    """The last word is said even where the log, full too, takes nothing any more."""

    class Full:
        name = str(tmp_path / "events.jsonl")

        def write(self, _line: bytes) -> int:
            raise OSError(28, "No space left on device")

    for event, code in (
        (events.Failed(code="disk_full", where="w", why="y", fix="f"), None),
        (events.Phase("training"), "disk_full"),
    ):
        with (tmp_path / "out").open("wb") as stream:
            outlet = worker.Outlet(stream, Control())
            outlet.log = Full()  # type: ignore[assignment]
            if code is None:
                outlet.send(event)
            else:
                with pytest.raises(UserError) as caught:
                    outlet.send(event)
                assert caught.value.code == code
                outlet.send(event)
        assert (tmp_path / "out").read_bytes() == events.encode(event)


def test_a_short_write_is_gone_on_with(tmp_path: Path) -> None:
    kept = []

    class Slow:
        name = "log"

        def write(self, line: bytes) -> int:
            kept.append(line[:5])
            return min(5, len(line))

    with (tmp_path / "out").open("wb") as stream:
        outlet = worker.Outlet(stream, Control())
        outlet.log = Slow()  # type: ignore[assignment]
        outlet.send(events.Phase("training"))
    assert b"".join(kept) == events.encode(events.Phase("training"))


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], child.Child]:
    """A child that says nothing: another holds the engine it waits for."""
    monkeypatch.setattr(child.Child, "_patience", lambda _: 0.5)
    job = jobs.TrainJob(run=str(tmp_path / "run"), root=str(tmp_path / "home"))
    return lambda: child.Child(job, tmp_path / "no" / "such" / "folder" / "worker.log")


def test_a_silent_worker_is_told_of_once_and_left_alone(
    hung: Callable[[], child.Child], tmp_path: Path
) -> None:
    with RunStore(tmp_path / "home").engine():
        process = hung()
        began, notices = time.monotonic(), []
        for event in process.read():
            notices.append(event)
            if time.monotonic() - began > 2.5:
                break
            process.kill()
        outcome = process.outcome()
    assert [e.code for e in notices if isinstance(e, events.Notice)] == ["not_responding"]
    assert isinstance(outcome, events.Failed)
    assert outcome.code == "killed"


def test_a_child_that_died_does_not_mind_being_spoken_to(
    hung: Callable[[], child.Child],
) -> None:
    process = hung()
    process.kill()
    list(process.read())
    assert process.outcome().code == "killed"  # type: ignore[union-attr]
    for _ in range(3):
        process.send(jobs.Command(type="stop"))
    assert trial.is_gone(process.pid)


def test_the_worker_is_ours_whatever_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    process = child.Child(jobs.TrainJob(run=str(tmp_path / "no"), root=str(tmp_path / "home")))
    said = list(process.read())
    assert isinstance(process.outcome(), events.Failed)
    assert isinstance(said[-1], events.Failed)
    assert said[-1].code == "storage"


def test_the_owner_hears_of_a_worker_before_the_engine_loads() -> None:
    code = (
        "import sys; from mlx_lora import worker\n"
        "assert not {'mlx', 'mlx.core', 'numpy', 'mlx_lm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=trial.ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr
