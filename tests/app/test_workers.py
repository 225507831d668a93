"""Jobs and their queue, with real processes: a small worker of the test's own in place of ours."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.jobs import Job, JobQueue
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

# speaks the protocol with nothing but the standard library, so that it is there in 30 ms
_WORKER = r"""
import json, os, sys, time
def say(**fields): os.write(1, json.dumps(fields).encode() + b"\n")
def step(n): say(type="train_step", step=n, steps=9, epoch=1.0, loss=1.0, learning_rate=1e-4,
                 grad_norm=1.0, tokens=1, tokens_per_second=1.0, peak_memory=1, eta=1.0)
def hear():
    line = sys.stdin.readline()
    return json.loads(line)["type"] if line else "gone"
job = json.loads(sys.stdin.readline())
assert job["type"] == "train", job
say(type="hello", pid=os.getpid(), version=1)
"""
_DONE = 'say(type="finished", reason="done", result={"step": 2})'


class Fake(Job):
    """Runs a script that takes the worker's place."""

    look_every = 50
    patience = 60.0

    def __init__(self, script: Path, body: str, log: Path | None = None) -> None:
        super().__init__(jobs.TrainJob(run="run", root="root"), title="fake", log=log)
        script.write_text(_WORKER + body)
        self._script, self.events = script, list[events.Event]()
        self.said.connect(self.events.append)

    def command(self) -> list[str]:
        return [sys.executable, "-S", "-E", str(self._script)]

    def allowed_silence(self) -> float:
        return self.patience


Make = Any


@pytest.fixture
def make(tmp_path: Path, qapp: object) -> Iterator[Callable[..., Fake]]:
    """Makes jobs of scripts; whatever still runs at the end is killed."""
    assert qapp is not None
    made: list[Fake] = []

    def build(body: str, log: Path | None = None) -> Fake:
        made.append(Fake(tmp_path / f"worker-{len(made)}.py", body, log))
        return made[-1]

    yield build
    for job in made:
        job.kill()
        job.wait(5)


def _end(qtbot: QtBot, job: Job) -> events.Finished | events.Failed:
    with qtbot.waitSignal(job.ended, timeout=10_000):
        job.start()
    assert job.outcome is not None
    assert job.state == "ended"
    return job.outcome


def _heard(job: Fake, kind: type[Any], count: int = 1) -> Callable[[], bool]:
    return lambda: sum(isinstance(event, kind) for event in job.events) >= count


def test_events_come_in_order_and_the_last_is_the_outcome(qtbot: QtBot, make: Make) -> None:
    job = make(f"step(1); step(2)\n{_DONE}")
    outcome = _end(qtbot, job)
    assert [type(e).__name__ for e in job.events] == ["Hello", "TrainStep", "TrainStep", "Finished"]
    assert outcome == job.events[-1]
    assert job.count == 4
    assert job.worker == job.events[0].pid


def test_stop_is_heard_and_nothing_is_said_of_a_crash(qtbot: QtBot, make: Make) -> None:
    job = make('step(1)\nwhat = hear()\nsay(type="finished", reason=what + "ped", result={})')
    job.start()
    qtbot.waitUntil(_heard(job, events.TrainStep))
    with qtbot.waitSignal(job.ended):
        job.stop()
    assert job.outcome == events.Finished(reason="stopped")
    assert job.asked == "stop"


def test_pause_and_resume_reach_the_worker(qtbot: QtBot, make: Make) -> None:
    job = make(f'for _ in range(2): say(type="phase", name=hear())\n{_DONE}')
    job.start()
    qtbot.waitUntil(_heard(job, events.Hello))
    job.send(jobs.Command(type="pause"))
    qtbot.waitUntil(_heard(job, events.Phase))
    with qtbot.waitSignal(job.ended):
        job.send(jobs.Command(type="resume"))
    assert [e.name for e in job.events if isinstance(e, events.Phase)] == ["pause", "resume"]


def test_garbage_and_torn_lines_are_skipped(qtbot: QtBot, make: Make) -> None:
    job = make(
        'os.write(1, b"\\xff\\x00 no json\\n{\\"type\\": \\"other\\"}\\n[1, 2\\n\\n")\n'
        f'os.write(1, b"{{"); time.sleep(0.05); os.write(1, b"torn\\n")\nstep(1)\n{_DONE}'
    )
    assert isinstance(_end(qtbot, job), events.Finished)
    assert [type(e).__name__ for e in job.events] == ["Hello", "TrainStep", "Finished"]


def test_a_line_in_two_pieces_is_one_event(qtbot: QtBot, make: Make) -> None:
    job = make(
        'os.write(1, b\'{"type":"phase","na\'); time.sleep(0.1)\n'
        f'os.write(1, b\'me":"training"}}\\n\')\n{_DONE}'
    )
    _end(qtbot, job)
    assert events.Phase("training") in job.events


def test_what_libraries_print_is_kept_in_whole_lines_without_the_home_folder(
    qtbot: QtBot, make: Make, tmp_path: Path
) -> None:
    home, log = str(Path.home()), tmp_path / "worker.log"
    cut = len(home) // 2
    job = make(
        f'os.write(2, b"reading {home[:cut]}"); time.sleep(0.1)\n'
        f'os.write(2, b"{home[cut:]}/model\\n10%\\r20%\\r")\n'
        f'os.write(2, "Größe".encode())\n{_DONE}',
        log,
    )
    _end(qtbot, job)
    assert list(job.tail) == ["reading ~/model", "10%", "20%", "Größe"]
    assert log.read_text(encoding="utf-8").splitlines() == list(job.tail)


def test_a_log_that_cannot_be_written_stops_nothing(
    qtbot: QtBot, make: Make, tmp_path: Path
) -> None:
    job = make(f'os.write(2, b"word\\n")\n{_DONE}', tmp_path / "not" / "there.log")
    assert isinstance(_end(qtbot, job), events.Finished)
    assert list(job.tail) == ["word"]


def test_an_abort_of_metal_is_out_of_memory(qtbot: QtBot, make: Make) -> None:
    words = (
        "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] "
        "Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBuffer)"
    )
    outcome = _end(qtbot, make(f'os.write(2, b"{words}\\n"); os.abort()'))
    assert isinstance(outcome, events.Failed)
    assert outcome.code == "out_of_memory"
    assert "Insufficient Memory" in outcome.why


def test_an_abort_without_such_words_is_a_crash(qtbot: QtBot, make: Make) -> None:
    outcome = _end(qtbot, make("os.abort()"))
    assert isinstance(outcome, events.Failed)
    assert (outcome.code, "SIGABRT" in outcome.why) == ("crashed", True)


def test_kill_is_said_at_once(qtbot: QtBot, make: Make) -> None:
    job = make("time.sleep(60)")
    job.start()
    qtbot.waitUntil(_heard(job, events.Hello))
    began = time.monotonic()
    with qtbot.waitSignal(job.ended, timeout=2000):
        os.kill(job.pid, signal.SIGKILL)
    assert isinstance(job.outcome, events.Failed)
    assert job.outcome.code == "killed"
    assert time.monotonic() - began < 2.0


def test_a_python_exception_shows_its_last_line(qtbot: QtBot, make: Make) -> None:
    job = make('raise ValueError("seven is no shape")')
    outcome = _end(qtbot, job)
    assert isinstance(outcome, events.Failed)
    assert outcome.code == "internal"
    assert "ValueError: seven is no shape" in outcome.why
    assert any("Traceback" in line for line in job.tail)


def test_an_end_without_a_word_is_our_bug(qtbot: QtBot, make: Make) -> None:
    outcome = _end(qtbot, make("step(1)"))
    assert isinstance(outcome, events.Failed)
    assert outcome.code == "internal"
    assert "without a word" in outcome.why


def test_silence_is_said_once_and_taken_back(qtbot: QtBot, make: Make) -> None:
    job = make("hear(); step(1); hear()")
    job.patience = 0.3
    said: list[bool] = []
    job.silent.connect(said.append)
    job.start()
    qtbot.waitUntil(lambda: said == [True])
    job.send(jobs.Command(type="save"))
    qtbot.waitUntil(lambda: said[:2] == [True, False])
    assert job.state == "running"  # nobody ends it but a person


def test_the_worker_leaves_when_its_owner_does(qtbot: QtBot, make: Make) -> None:
    job = make('say(type="finished", reason="stopped" if hear() == "gone" else "?", result={})')
    job.start()
    qtbot.waitUntil(_heard(job, events.Hello))
    with qtbot.waitSignal(job.ended):
        job.leave()
    assert job.outcome == events.Finished(reason="stopped")


def test_a_worker_that_cannot_be_started_says_so(qtbot: QtBot, make: Make) -> None:
    job = make(_DONE)
    job.command = lambda: ["/there/is/no/such/program"]
    outcome = _end(qtbot, job)
    assert isinstance(outcome, events.Failed)
    assert outcome.code == "internal"
    assert "could not be started" in outcome.why
    job.send(jobs.Command(type="stop"))  # nobody is there, and that is fine


_OBEYS = 'what = hear()\nsay(type="finished", reason="stopped", result={})'


def test_the_queue_runs_one_after_the_other(qtbot: QtBot, make: Make) -> None:
    queue, order = JobQueue(), list[Job]()
    queue.starting.connect(order.append)
    three = [make(f"time.sleep(0.05)\n{_DONE}") for _ in range(3)]
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, sum(job.state == "running" for job in three))

    queue.changed.connect(count)
    for job in three:
        queue.add(job)
    assert (queue.running, queue.waiting) == (three[0], three[1:])
    qtbot.waitUntil(lambda: all(job.state == "ended" for job in three))
    assert (order, most, queue.jobs) == (three, 1, [])


def test_a_failed_job_does_not_hold_up_the_line(qtbot: QtBot, make: Make) -> None:
    queue = JobQueue()
    first, second, third = make("os.abort()"), make(_DONE), make(_DONE)
    second.command = lambda: ["/there/is/no/such/program"]
    for job in (first, second, third):
        queue.add(job)
    qtbot.waitUntil(lambda: third.state == "ended")
    assert isinstance(third.outcome, events.Finished)


def test_those_that_wait_can_change_places(qtbot: QtBot, make: Make) -> None:
    queue = JobQueue()
    first, *line = [make(_OBEYS) for _ in range(4)]
    for job in (first, *line):
        queue.add(job)
    a, b, c = line
    queue.move(c, -1)
    assert queue.waiting == [a, c, b]
    queue.move(a, 9)
    assert queue.waiting == [c, b, a]
    queue.move(c, -1)
    assert queue.waiting == [c, b, a]
    assert queue.running is first
    for _ in range(4):
        qtbot.waitUntil(lambda: queue.running is not None and queue.running.worker > 0)
        running = queue.running
        assert running is not None
        queue.cancel(running)
        qtbot.waitUntil(lambda running=running: running.state == "ended")
    assert [job.state for job in (first, *line)] == ["ended"] * 4


def test_one_that_waits_is_taken_out_and_says_that_it_ended(qtbot: QtBot, make: Make) -> None:
    queue = JobQueue()
    first, second = make(_OBEYS), make(_OBEYS)
    queue.add(first)
    queue.add(second)
    with qtbot.waitSignal(second.ended):
        queue.cancel(second)
    assert second.outcome == events.Finished(reason="stopped")
    assert (queue.running, queue.waiting, second.count) == (first, [], 0)
    with qtbot.waitSignal(first.ended):
        queue.cancel(first)
    assert queue.jobs == []


def test_at_the_end_the_running_one_saves_and_the_others_are_forgotten(
    qtbot: QtBot, make: Make
) -> None:
    queue = JobQueue()
    first, second = make(_OBEYS), make(_OBEYS)
    queue.add(first)
    queue.add(second)
    qtbot.waitUntil(_heard(first, events.Hello))
    with qtbot.waitSignal(first.ended):
        assert queue.leave() == [first]
    assert isinstance(first.outcome, events.Finished)
    assert second.state == "waiting"
    assert queue.running is None
