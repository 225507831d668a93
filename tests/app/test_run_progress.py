"""A run as it stands: recorded streams replayed, live events, and what is on disk and heard too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.jobs import Job
from app.models.run_progress import RunProgress, read_past
from app.tasks import Tasks
from mlx_lora import events, jobs
from mlx_lora.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot

STREAM = Path(__file__).parents[1] / "streams" / "short-run.jsonl"


class Told(Job):
    """A job whose events the test says."""

    def __init__(self, run: Run) -> None:
        super().__init__(jobs.TrainJob(run=str(run.folder), root=""))

    def begin(self) -> None:
        self.state = "running"

    def say(self, *lines: bytes) -> None:
        for line in lines:
            event = events.decode(line)
            assert event is not None
            self._hear(event)

    def end(self, outcome: events.Finished | events.Failed) -> None:
        self._end(outcome)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has said nothing yet."""
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


@pytest.fixture
def progress(qapp: object) -> Iterator[RunProgress]:
    """Follows nothing yet."""
    assert qapp is not None
    tasks = Tasks()
    yield RunProgress(tasks)
    tasks.wait()


def _lines() -> list[bytes]:
    return STREAM.read_bytes().splitlines(keepends=True)


def _write(run: Run, lines: list[bytes]) -> None:
    (run.folder / "events.jsonl").write_bytes(b"".join(lines))


def _settled(qtbot: QtBot, progress: RunProgress) -> None:
    qtbot.waitUntil(lambda: not progress.loading)


def _failed(code: str) -> events.Failed:
    return events.Failed(code=code, where="worker", why="it ended", fix="resume")


def test_a_recorded_run_is_replayed(qtbot: QtBot, progress: RunProgress, run: Run) -> None:
    shutil.copy(STREAM, run.folder / "events.jsonl")
    progress.follow(run)
    _settled(qtbot, progress)
    state = progress.state
    assert (progress.status, state.step, state.steps) == ("finished", 6, 6)
    assert [step for step, _ in state.losses] == [1, 2, 3, 4, 5, 6]
    assert [v.step for v in state.validations] == [0, 3, 6, 6]
    assert state.first_validation is not None
    assert state.first_validation.loss == pytest.approx(6.2556, abs=1e-3)
    assert (state.best_step, len(state.samples)) == (6, 1)
    assert progress.last_step is not None
    assert progress.last_step.step == 6
    assert progress.setup["trainable"] == 46240
    assert [n.code for n in progress.notices] == ["partial_epoch"]  # of the last worker alone


def test_live_and_replayed_are_the_same(qtbot: QtBot, progress: RunProgress, run: Run) -> None:
    job = Told(run)
    progress.follow(run, job)
    _settled(qtbot, progress)
    assert progress.status == "queued"
    job.begin()
    job.say(*_lines())
    job.end(events.Finished(reason="done"))
    _write(run, _lines())
    state, beside = read_past(run)
    assert progress.state == state
    assert (progress.beside.last_step, progress.setup) == (beside.last_step, beside.setup)
    assert list(progress.beside.recent) == list(beside.recent)


@pytest.mark.parametrize("written", range(20, 39, 2))
@pytest.mark.parametrize("behind", [0, 1, 3])
def test_events_that_are_on_disk_and_heard_count_once(
    qtbot: QtBot, progress: RunProgress, run: Run, written: int, behind: int
) -> None:
    """Followed while it trains: `written` lines are on disk, the last ones still on their way."""
    lines = _lines()
    second = [at for at, line in enumerate(lines) if b'"hello"' in line][-1]
    job = Told(run)
    job.begin()
    heard = max(second, written - behind)
    job.say(*lines[second:heard])  # before anybody followed it
    _write(run, lines[:written])
    progress.follow(run, job)
    if behind != 1:
        _settled(qtbot, progress)
    job.say(*lines[heard:])
    _settled(qtbot, progress)
    job.end(events.Finished(reason="done"))
    _write(run, lines)
    assert progress.state == read_past(run)[0]


def test_a_resumed_run_forgets_what_is_made_again(
    qtbot: QtBot, progress: RunProgress, run: Run
) -> None:
    lines = _lines()
    second = [at for at, line in enumerate(lines) if b'"hello"' in line][-1]
    step = next(line for line in lines if b'"step":5,' in line)
    _write(run, [*lines[: second - 1], step])  # killed after step 5, saved at step 4
    progress.follow(run)
    _settled(qtbot, progress)
    assert (progress.status, progress.state.step) == ("interrupted", 5)
    job = Told(run)
    progress.follow(run, job)
    assert progress.state.step == 5  # nothing flickers while the past is read again
    _settled(qtbot, progress)
    job.begin()
    resumed = next(at for at, line in enumerate(lines) if b'"resumed"' in line)
    job.say(*lines[second : resumed + 1])
    assert progress.state.step == 4
    job.say(*lines[resumed + 1 :])
    assert [s for s, _ in progress.state.losses] == [1, 2, 3, 4, 5, 6]


def test_a_killed_run_is_interrupted_after_reopening(
    qtbot: QtBot, progress: RunProgress, run: Run
) -> None:
    _write(run, [*_lines()[:14], b'{"type":"train_step","st'])  # torn in the middle of a line
    progress.follow(run)
    _settled(qtbot, progress)
    assert (progress.status, progress.state.step) == ("interrupted", 3)
    assert progress.usable


def test_a_run_another_understudy_works_on_is_not_interrupted(
    qtbot: QtBot, progress: RunProgress, run: Run
) -> None:
    _write(run, _lines()[:14])
    with run.lock():
        progress.follow(run)
        _settled(qtbot, progress)
    assert progress.status == "running"


@pytest.mark.parametrize("loading", [True, False])
def test_a_worker_that_is_killed_leaves_a_failure(
    qtbot: QtBot, progress: RunProgress, run: Run, loading: bool
) -> None:
    _write(run, _lines()[:14])
    job = Told(run)
    job.begin()
    job.say(*_lines()[:14])
    progress.follow(run, job)
    if not loading:
        _settled(qtbot, progress)
    ends: list[object] = []
    progress.ended.connect(ends.append)
    job.end(_failed("killed"))
    _settled(qtbot, progress)
    assert progress.status == "failed"
    assert progress.state.failure is not None
    assert (progress.state.failure.code, progress.state.step) == ("killed", 3)
    assert ends == [_failed("killed")]


def test_taken_out_of_the_queue_it_is_as_it_was(
    qtbot: QtBot, progress: RunProgress, run: Run
) -> None:
    job = Told(run)
    progress.follow(run, job)
    _settled(qtbot, progress)
    job.cancel()
    assert progress.status == "new"
    _write(run, _lines()[:19])
    again = Told(run)
    progress.follow(run, again)
    _settled(qtbot, progress)
    again.cancel()
    assert progress.status == "stopped"


def test_what_was_asked_is_known_until_it_is_done(
    qtbot: QtBot, progress: RunProgress, run: Run
) -> None:
    job = Told(run)
    progress.follow(run, job)
    _settled(qtbot, progress)
    job.begin()
    job.say(*_lines()[:10])
    assert (progress.status, progress.asked) == ("running", "")
    job.send(jobs.Command(type="pause"))
    assert (progress.status, progress.asked) == ("running", "pause")
    job.say(b'{"type":"phase","name":"paused"}')
    assert (progress.status, progress.asked) == ("paused", "")
    job.send(jobs.Command(type="resume"))
    assert progress.asked == "resume"
    job.say(b'{"type":"phase","name":"training"}')
    assert (progress.status, progress.asked) == ("running", "")
    job.send(jobs.Command(type="stop"))
    assert progress.asked == "stop"
    job.end(events.Finished(reason="stopped"))
    assert (progress.status, progress.asked) == ("stopped", "")


def test_it_tells_ten_times_a_second_at_most(qtbot: QtBot, progress: RunProgress, run: Run) -> None:
    job = Told(run)
    progress.follow(run, job)
    _settled(qtbot, progress)
    job.begin()
    told: list[int] = []
    progress.changed.connect(lambda: told.append(progress.state.step))
    lines = [line for line in _lines() if b"train_step" in line]
    for number in range(40):
        job.say(lines[0].replace(b'"step":1,', b'"step":%d,' % (number + 1)))
        qtbot.wait(10)
    qtbot.waitUntil(lambda: bool(told) and told[-1] == 40)
    assert 3 <= len(told) <= 8


def test_silence_is_told(qtbot: QtBot, progress: RunProgress, run: Run) -> None:
    job = Told(run)
    progress.follow(run, job)
    _settled(qtbot, progress)
    job.begin()
    job.silent.emit(True)
    assert progress.quiet
    job.silent.emit(False)
    assert not progress.quiet
