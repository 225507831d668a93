"""Runs: folders, the fold of their events, and who may work on them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trial

from mlx_lora import events, runs
from mlx_lora.config import DataConfig, ModelConfig, RunConfig
from mlx_lora.errors import UserError
from mlx_lora.events import CheckpointSaved, Failed, Finished, Hello, Phase, TrainStep, Validation
from mlx_lora.runs import Run, RunRecord, RunState, RunStore, fold

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "home")


def record() -> RunRecord:
    config = RunConfig(model=ModelConfig(source="demo"), data=DataConfig(source="demo"))
    return RunRecord(
        config=config,
        versions={"mlx": "1"},
        data_sha256="d",
        base_fingerprint="b",
        model_name="demo",
    )


def step(number: int, loss: float = 1.0) -> TrainStep:
    return TrainStep(
        step=number,
        steps=9,
        epoch=0.1,
        loss=loss,
        learning_rate=1e-4,
        grad_norm=1.0,
        tokens=3,
        tokens_per_second=1.0,
        peak_memory=1,
        eta=1.0,
    )


def validation(number: int) -> Validation:
    return Validation(step=number, loss=1.0, accuracy=0.5, rows=2)


def folded(*said: events.Event) -> RunState:
    state = RunState()
    for event in said:
        fold(state, event)
    return state


def log(run: Run, *said: events.Event) -> None:
    with run.append_log() as file:
        for event in said:
            file.write(events.encode(event))


def test_a_run_comes_back_as_it_was_made(store: RunStore) -> None:
    run = store.create(record(), "Demo & Play")
    assert run.name.endswith("-demo-play")
    assert run.record() == record()
    assert run.state() == RunState()
    assert [found.folder for found in store.list()] == [run.folder]
    assert store.find(run.name).folder == store.find(str(run.folder)).folder == run.folder
    second = store.create(record(), "Demo & Play")
    assert second.folder != run.folder


def test_a_folder_that_is_there_is_refused(store: RunStore, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "novel.txt").write_text("chapter one")
    with pytest.raises(UserError) as caught:
        store.create(record(), "x", tmp_path / "mine")
    assert caught.value.code == "exists"
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["novel.txt"]


def test_a_name_nobody_has(store: RunStore) -> None:
    run = store.create(record(), "x")
    with pytest.raises(UserError) as caught:
        store.find("~nobody-of-this-name/run")
    assert caught.value.code == "no_such_run"
    assert run.name in caught.value.fix


@pytest.mark.parametrize("content", ["", "= 3", "[config]\n", "model_name = 3\n", "\x00\xff"])
def test_a_damaged_record_is_said(content: str, store: RunStore) -> None:
    run = store.create(record(), "x")
    (run.folder / "config.toml").write_text(content, encoding="latin-1")
    with pytest.raises(UserError) as caught:
        run.record()
    assert caught.value.code in {"damaged_run", "bad_option"}


def test_what_a_resumed_run_makes_again_is_forgotten() -> None:
    told = [
        *(Hello(pid=1), validation(0), step(1), step(2), validation(2)),
        *(CheckpointSaved(step=2, path="x", best=True), step(3), step(4), validation(4)),
        *(CheckpointSaved(step=4, path="x", best=True), Hello(pid=2)),
    ]
    state = folded(*told, Phase("resumed", 3, 9))
    assert [at for at, _ in state.losses] == [1, 2, 3]
    assert [v.step for v in state.validations] == [0, 2]
    assert (state.step, state.best_step, state.status) == (3, None, "running")
    done = Finished(reason="done", result={"adapter": "adapter", "step": 8})
    assert folded(*told, Phase("resumed", 3, 9), done).best_step == 8
    afresh = folded(*told, Phase("resumed", 0, 9))
    assert (afresh.losses, afresh.validations, afresh.step) == ([], [], 0)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Finished(reason="done"), "finished"),
        (Finished(reason="early_stop"), "finished"),
        (Finished(reason="stopped"), "stopped"),
        (Failed(code="disk_full", where="x", why="y", fix="z"), "failed"),
        (Phase("training"), "interrupted"),
    ],
)
def test_the_status_is_the_last_word(end: events.Event, status: str, store: RunStore) -> None:
    run = store.create(record(), "x")
    log(run, Hello(pid=1), step(1), end)
    state = run.state()
    assert state.status == status
    assert (state.failure is not None) == (status == "failed")
    log(run, Hello(pid=2))
    assert run.state().failure is None


def test_unknown_and_torn_lines_are_skipped(store: RunStore) -> None:
    run = store.create(record(), "x")
    log(run, Hello(pid=1), step(1))
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"type":"telepathy","x":1}\n\x00\x00\n{"type":"train_step","step":2,"st')
    log(run, Hello(pid=2), step(3))
    assert [at for at, _ in run.state().losses] == [1, 3]
    assert len(trial.log_lines(run.folder)) == 7


@pytest.fixture
def holder(store: RunStore) -> Iterator[tuple[Run, subprocess.Popen[bytes]]]:
    """A run that another process works on, engine and all."""
    run = store.create(record(), "x")
    code = (
        "import sys, time; from pathlib import Path; from mlx_lora.runs import Run, RunStore\n"
        "with RunStore(Path(sys.argv[1])).engine(), Run(Path(sys.argv[2])).lock():\n"
        "    print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root), str(run.folder)],
        cwd=trial.ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield run, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_worker_a_run_and_one_a_data_root(
    holder: tuple[Run, object], store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = holder
    log(run, Hello(pid=1), step(1))
    assert run.state().status == "running"
    with pytest.raises(UserError) as caught, run.lock():
        raise AssertionError
    assert caught.value.code == "busy"
    with pytest.raises(UserError) as caught:
        store.delete(run)
    assert caught.value.code == "busy"
    assert run.record() == record()
    # the engine is waited for; here, less long
    take, waited = runs._take, []
    monkeypatch.setattr(runs, "_take", lambda file, wait: waited.append(wait) or take(file, 0.1))
    with pytest.raises(UserError) as caught, store.engine():
        raise AssertionError
    assert caught.value.code == "busy"
    assert waited == [10.0]


def test_looking_does_not_disturb_the_one_who_works(store: RunStore) -> None:
    """A list that is read all the time never takes a lock from a worker that starts."""
    run = store.create(record(), "x")
    log(run, Hello(pid=1))
    code = (
        "import sys; from pathlib import Path; from mlx_lora.runs import Run\n"
        "run = Run(Path(sys.argv[1])); print(flush=True)\n"
        "while True: run.state()"
    )
    looker = subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder)], cwd=trial.ROOT, stdout=subprocess.PIPE
    )
    assert looker.stdout is not None
    looker.stdout.readline()
    for _ in range(50):
        with run.lock():
            time.sleep(0.001)
    assert looker.poll() is None
    looker.kill()
    looker.wait()
    looker.stdout.close()


def test_a_lock_is_gone_with_its_process(
    holder: tuple[Run, subprocess.Popen[bytes]], store: RunStore
) -> None:
    run, process = holder
    assert run.is_locked()
    process.kill()
    process.wait()
    with store.engine(), run.lock():
        pass
    assert not run.is_locked()
    store.delete(run)
    assert store.list() == []
    assert trial.leftovers(store.root) == []


def test_what_a_killed_process_half_made_is_no_run_and_goes(store: RunStore) -> None:
    run = store.create(record(), "x")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    half = store.runs / f".incomplete-{child.pid}-20260101-x"
    half.mkdir()
    (half / "config.toml").write_text((run.folder / "config.toml").read_text())
    assert [found.folder for found in store.list()] == [run.folder]
    store.create(record(), "y")
    assert not half.exists()


def test_a_run_on_a_read_only_disk_can_be_looked_at(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.create(record(), "x")
    log(run, Hello(pid=1), step(1))
    real = Path.open

    def refuse(path: Path, mode: str = "r", *arguments: object, **named: object) -> object:
        if "a" in mode or "w" in mode:
            raise PermissionError(13, "Permission denied")
        return real(path, mode, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert run.state().status == "interrupted"
    with pytest.raises(UserError) as caught, run.append_log():
        raise AssertionError
    assert caught.value.code == "no_permission"
    with pytest.raises(UserError) as caught, run.lock():
        raise AssertionError
    assert caught.value.code == "no_permission"


def test_where_runs_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", "~/x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runs.default_root() == tmp_path / "x"
    monkeypatch.delenv("UNDERSTUDY_HOME")
    assert runs.default_root().name == "Understudy"
