"""Runs: the library, what can be done with a past run, and the queue."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QMessageBox
from scenes.runs import fill, make_run, record_of

import app.archive
from app.jobs import Job
from app.models.run_row import read_row, thin
from app.models.runs_table import RunsTable
from app.pages.runs import RunsPage
from app.project import recipe_of
from app.recipes import command_of, project_of, settings_of
from app.steps import facts_of, marks
from app.trash import move_to_trash
from mlx_lora import events, jobs
from mlx_lora.config import PRESETS, build_config, merge
from mlx_lora.errors import UserError
from mlx_lora.runs import Run, RunStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.desk import Desk
    from mlx_lora.config import RunConfig

_DONE = events.Finished(reason="done", result={})
_STOPPED = events.Finished(reason="stopped", result={})


class FakeJob(Job):
    """A worker that says it is at it and stays until it is told to stop."""

    def __init__(self, run: Run, root: Path) -> None:
        what = jobs.TrainJob(run=str(run.folder), root=str(root))
        super().__init__(what, title=run.name)

    def command(self) -> list[str]:
        said = [
            events.Hello(pid=1),
            *(
                events.TrainStep(
                    step=step, steps=9, epoch=0.1, loss=3.0 - step / 10, learning_rate=1e-4,
                    grad_norm=1.0, tokens=1, tokens_per_second=1.0, peak_memory=1, eta=1.0,
                )
                for step in (1, 2, 3)
            ),
        ]  # fmt: skip
        lines = b"".join(events.encode(event) for event in said).decode()
        end = events.encode(_STOPPED).decode()
        code = (
            f"import sys; sys.stdout.write({lines!r}); sys.stdout.flush()\n"
            f"next((l for l in sys.stdin if 'stop' in l), 0); sys.stdout.write({end!r})"
        )
        return [sys.executable, "-c", code]


@pytest.fixture
def page(application: Application, qtbot: QtBot) -> Callable[..., RunsPage]:
    """The page, once it has read what is there."""

    def show() -> RunsPage:
        application.window.show()
        application.window.go("runs")
        found = application.window.page
        assert isinstance(found, RunsPage)
        found.leave.disconnect(application.window.go)  # where it leads is the window's business
        qtbot.waitUntil(lambda: found.table.ready and found.state != "loading")
        return found

    return show


def _choose(page: RunsPage, name: str) -> None:
    for at in range(page.shown.rowCount()):
        if page.shown.row(at).name == name:
            page.list.setCurrentIndex(page.shown.index(at, 0))
            return
    raise AssertionError(name)


def _titles(page: RunsPage) -> list[str]:
    return [page.shown.row(at).title for at in range(page.shown.rowCount())]


def _press(sheet: QMessageBox | None, text: str) -> None:
    assert sheet is not None
    next(button for button in sheet.buttons() if button.text() == text).click()


# -- the table


def test_a_row_says_what_a_run_is(root: Path) -> None:
    store = RunStore(root)
    export = events.Report(kind="export", data={"format": "gguf", "quant": "q8_0"})
    record = record_of("Qwen/Qwen3-0.6B", "~/Data/letters.jsonl")
    run = make_run(
        store, "20261107-091412-letters", record, steps=40, start=3.0, end=2.0, last=_DONE,
        before=(export, export), weight=1_000_000,
    )  # fmt: skip
    row = read_row(run)
    assert (row.title, row.base, row.data) == ("letters", "Qwen3-0.6B", "letters.jsonl")
    assert (row.date, row.status, row.step, row.steps) == ("7 Nov 2026, 09:14", "finished", 40, 40)
    assert (row.before, row.after) == (3.0, pytest.approx(2.06))
    assert row.exports == ("GGUF Q8_0",)
    assert 1_000_000 < row.size < 1_100_000
    assert row.usable
    assert not row.resumable


@pytest.mark.parametrize(
    ("last", "status"), [(_STOPPED, "stopped"), (None, "interrupted"), (_DONE, "finished")]
)
def test_a_row_says_how_a_run_ended(root: Path, last: events.Event | None, status: str) -> None:
    run = make_run(RunStore(root), "20261107-091412-a", steps=8, last=last)
    assert read_row(run).status == status


def test_a_run_somebody_works_on_is_running(root: Path) -> None:
    run = make_run(RunStore(root), "20261107-091412-a", steps=8)
    with run.lock():
        assert read_row(run).status == "running"


@pytest.mark.parametrize(
    "content",
    [b"config = [", b"", b"\xff\xfe", b"config = 3", b'created = "x"', b"[config]\nmodel = 3"],
)
def test_a_broken_run_is_damaged_and_raises_nothing(root: Path, content: bytes) -> None:
    run = make_run(RunStore(root), "20261107-091412-a", steps=8)
    (run.folder / "config.toml").write_bytes(content)
    row = read_row(run)
    assert row.status == "damaged"
    assert row.why
    assert row.date == "7 Nov 2026, 09:14"


def test_a_log_that_is_no_file_is_damaged_or_empty(root: Path) -> None:
    run = make_run(RunStore(root), "20261107-091412-a", steps=8)
    (run.folder / "events.jsonl").unlink()
    assert read_row(run).status == "new"
    (run.folder / "events.jsonl").write_bytes(b'\x00\xff{"type":"train_step"}\n[]\n{"ty')
    assert read_row(run).status == "new"


def test_an_odd_folder_name_has_its_record_s_day(root: Path) -> None:
    row = read_row(make_run(RunStore(root), "my-run", steps=8))
    assert (row.title, row.date) == ("my-run", "7 Nov 2026")


def test_points_are_few_and_keep_the_mean() -> None:
    values = [float(n) for n in range(1000)]
    few = thin(values, 96)
    assert len(few) == 96
    assert few[0] < 10
    assert few[-1] > 990
    assert thin([1.0, 2.0], 96) == (1.0, 2.0)


def test_only_what_changed_is_read_again(
    application: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(application)
    table = RunsTable(application.runs, application.queue, application.tasks)
    with qtbot.waitSignal(table.loaded):
        table.refresh()
    read: list[str] = []
    real = read_row
    monkeypatch.setattr(
        "app.models.runs_table.read_row", lambda run: read.append(run.name) or real(run)
    )
    name = "20261101-101500-demo-shakespeare"
    with (application.runs.runs / name / "events.jsonl").open("ab") as file:
        file.write(events.encode(_STOPPED))
    with qtbot.waitSignal(table.loaded):
        table.refresh()
    assert read == [name]
    found = table.find(name)
    assert found is not None
    assert found.status == "stopped"


def test_runs_come_and_go_and_the_chosen_one_stays(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    fill(application)
    shown = page()
    _choose(shown, "20261106-184030-llama-1b-recipes")
    make_run(application.runs, "20261108-000000-newer", steps=8, last=_DONE)
    gone = application.runs.find("20261107-091412-qwen3-4b-support-tickets")
    application.runs.delete(gone)
    with qtbot.waitSignal(shown.table.loaded):
        shown.table.refresh()
    assert _titles(shown)[0] == "newer"
    assert gone.name not in [row.name for row in shown.table.rows]
    assert shown.row is not None
    assert shown.row.name == "20261106-184030-llama-1b-recipes"


# -- the page


def test_nothing_yet_offers_the_sample(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    shown = page()
    shown.sample.disconnect(application.try_sample)
    assert shown.state == "empty"
    assert shown.primary().text == ""
    button = next(b for b in _buttons(shown) if b.text() == "Try with Sample")
    with qtbot.waitSignal(shown.sample):
        button.click()


def _buttons(page: RunsPage) -> list[Any]:
    from app.widgets.button import Button

    return [b for b in page.findChildren(Button) if b.isVisible()]


def test_search_and_order(application: Application, page: Callable[..., RunsPage]) -> None:
    fill(application)
    shown = page()
    assert shown.hint().startswith("6 runs, ")
    shown.library.search.setText("support done")
    assert _titles(shown) == ["qwen3-4b-support-tickets"]
    assert shown.hint() == "1 of 6 runs"
    shown.library.search.setText("haiku")
    assert shown.library.nothing.text() == "No run holds “haiku”."
    assert shown.library.nothing.isVisible()
    assert shown.row is None
    assert not shown.primary().enabled
    shown.library.search.clear()
    assert shown.row is not None
    shown.library.order.setCurrentIndex(1)
    assert _titles(shown) == sorted(_titles(shown))
    shown.library.order.setCurrentIndex(2)
    assert shown.shown.row(0).after == min(r.after for r in shown.table.rows if r.after)
    shown.library.order.setCurrentIndex(3)
    sizes = [shown.shown.row(at).size for at in range(shown.shown.rowCount())]
    assert sizes == sorted(sizes, reverse=True)


def test_the_chosen_run_is_told_in_full(
    application: Application, page: Callable[..., RunsPage]
) -> None:
    fill(application)
    shown = page()
    _choose(shown, "20261104-120000-qwen3-4b-support-tickets")
    assert shown.details.pill.text() == "Failed"
    assert shown.details.why.text() == "The disk is full (12 MB free)."
    assert shown.primary().shortcut == "Resume Training"
    _choose(shown, "20261030-080102-llama-1b-faq")
    assert shown.details.pill.text() == "Damaged"
    assert not shown.primary().enabled
    assert not shown.details.buttons["Copy as Command"].isEnabled()
    assert shown.details.buttons["Delete…"].isEnabled()
    assert "damaged" in shown.hint()
    QTest.keyClick(shown.list, Qt.Key.Key_Return)
    assert application.project.value.run is None


def test_every_run_is_spoken(application: Application, page: Callable[..., RunsPage]) -> None:
    fill(application)
    shown = page()
    first = QAccessible.queryAccessibleInterface(shown.list).child(0)
    text = first.text(QAccessible.Text.Name)
    assert text.startswith("qwen3-4b-support-tickets, Done, Qwen3-4B-Instruct")
    assert "held-out loss 2.310 → 1.300" in text


def test_arrows_return_and_delete(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    fill(application)
    shown = page()
    shown.list.setFocus()
    QTest.keyClick(shown.list, Qt.Key.Key_Down)
    assert shown.row is not None
    assert shown.row.title == "llama-1b-recipes"
    QTest.keyClick(shown.list, Qt.Key.Key_Delete)
    assert shown.sheet is not None
    assert "llama-1b-recipes" in shown.sheet.text()
    question = shown.sheet.findChild(QLabel, "qt_msgbox_label")
    assert question.font().pixelSize() == 15  # a headline, once it is seen
    QTest.keyClick(shown.sheet, Qt.Key.Key_Escape)
    assert (application.runs.runs / shown.row.name).is_dir()
    with qtbot.waitSignal(shown.leave) as left:
        QTest.keyClick(shown.list, Qt.Key.Key_Return)
    assert left.args == ["train"]


# -- opening


def _settled(application: Application, qtbot: QtBot) -> None:
    application.tasks.wait()
    qtbot.waitUntil(lambda: not application.progress.loading)


def test_an_opened_run_flags_no_step(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    fill(application)
    shown = page()
    with qtbot.waitSignal(shown.leave) as left:
        shown.act()
    assert left.args == ["compare"]
    project = application.project.value
    assert project.run == "20261107-091412-qwen3-4b-support-tickets"
    assert (project.preset, project.settings) == (
        "balanced", {"model": {"bits": "4"}, "adapter": {"rank": 16}},
    )  # fmt: skip
    assert project.model is not None
    assert (project.model.title, project.model.note) == ("Qwen3-4B-Instruct", "4-bit")
    _settled(application, qtbot)
    found = marks(project, facts_of(application.progress, valid=True))
    assert "attention" not in found.values()
    assert found["train"] == found["export"] == "done"


def test_a_run_is_opened_in_the_project_that_made_it(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    fill(application)
    run = application.runs.find("20261101-101500-demo-shakespeare")
    made = project_of(run.record(), {}, name="My Play", run=run.name)
    application.project.update(
        name=made.name, model=made.model, data=made.data, preset=made.preset,
        settings=made.settings, run=made.run, recipe=made.recipe, prompt="To be",
    )  # fmt: skip
    file = application.project.file
    application.project.new()
    shown = page()
    _choose(shown, run.name)
    with qtbot.waitSignal(shown.leave):
        shown.act()
    assert application.project.file == file
    assert application.project.value.prompt == "To be"
    application.project.update(settings={"adapter": {"rank": 4}})
    with qtbot.waitSignal(shown.leave):
        shown.act()
    assert application.project.file != file
    assert application.project.value.recipe == recipe_of(application.project.value)


def test_duplicate_is_a_new_project_without_a_run(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    fill(application)
    shown = page()
    with qtbot.waitSignal(shown.leave) as left:
        shown.details.buttons["Duplicate Settings"].click()
    assert left.args == ["configure"]
    project = application.project.value
    assert project.name == "qwen3-4b-support-tickets copy"
    assert (project.run, project.recipe) == (None, "")
    assert project.settings["adapter"] == {"rank": 16}


def test_resume_goes_on_with_the_run(
    application: Application,
    page: Callable[..., RunsPage],
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(application)
    shown = page()
    _choose(shown, "20261106-184030-llama-1b-recipes")
    monkeypatch.setattr(
        application.training, "_job", lambda run: FakeJob(run, application.runs.root)
    )
    monkeypatch.setattr(application.window, "go", lambda _: None)
    with qtbot.waitSignal(application.training.started):
        shown.act_shortcut()
    assert application.project.value.run == "20261106-184030-llama-1b-recipes"
    assert application.queue.running is not None
    qtbot.waitUntil(lambda: shown.row is not None and shown.row.status == "running")
    assert shown.primary().shortcut == ""


# -- what a run is made of


def _configs() -> dict[str, RunConfig]:
    sources = {"model": {"source": "~/a model"}, "data": {"source": "it's.jsonl"}}
    odd = {
        "model": {"bits": "8"},
        "data": {"max_length": 64, "train_on": "all", "val_fraction": 0.25},
        "adapter": {"rank": 3, "alpha": 5.5, "targets": ["q_proj", "v_proj"], "layers": 2},
        "training": {
            "steps": 7, "epochs": 9.0, "learning_rate": 3.3e-5, "grad_checkpoint": True,
            "patience": 3, "seed": 11, "eval_every": 2, "weight_decay": 0.01,
        },
        "samples": {"prompts": ["--odd", "two\nlines"]},
    }  # fmt: skip
    forms = {
        "data": {
            "long_rows": "split", "overlap": 4, "template": "chatml", "subset": "main",
            "split": "train", "columns": {"prompt": "question", "completion": "answer"},
        },
        "training": {"grad_checkpoint": True, "checkpoint_every": 2},
        "engine": {
            "batching": "pack", "loss": "full", "prefix_cache": "on", "compile": "off",
            "base": "plain",
        },
    }  # fmt: skip
    # thorough but for a patience that no option can take away
    most = {"adapter": {"rank": 16}, "training": {"epochs": 5.0}}
    trees = {**PRESETS, "odd": odd, "forms": forms, "no patience": most}
    return {name: build_config(merge(tree, sources)) for name, tree in trees.items()}


@pytest.mark.parametrize("name", sorted(_configs()))
def test_settings_lead_back_to_the_configuration(name: str) -> None:
    config = _configs()[name]
    preset, settings = settings_of(config)
    sources = {
        "model": {"source": config.model.source}, "data": {"source": config.data.source}
    }  # fmt: skip
    assert build_config(merge(merge(PRESETS[preset], settings), sources)) == config
    if name in PRESETS:
        assert (preset, settings) == (name, {})


@pytest.mark.parametrize("name", sorted(_configs()))
def test_the_command_makes_the_run_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_lora.cli import learning, main

    made: list[RunConfig] = []

    def keep(_store: object, config: RunConfig, _out: object) -> None:
        made.append(config)
        raise UserError("enough", "here", "the configuration is known", "")

    monkeypatch.setattr(learning, "create_run", keep)
    config = _configs()[name]
    words = shlex.split(command_of(config))
    assert words[:2] == ["understudy", "train"]
    assert main(words[1:]) == 2
    training = config.training
    if training.steps is not None:  # epochs are of no account then
        import msgspec

        given = msgspec.structs.replace(training, epochs=made[0].training.epochs)
        config = msgspec.structs.replace(config, training=given)
    assert made == [config]


def test_what_no_option_says_comes_from_the_file() -> None:
    config = build_config(
        {"model": {"source": "m"}, "data": {"source": "d"}, "training": {"keep": 9}}
    )
    assert command_of(config, "a b/config.toml") == "understudy train --config 'a b/config.toml'"


def test_copy_as_command(application: Application, page: Callable[..., RunsPage]) -> None:
    fill(application)
    shown = page()
    shown.details.buttons["Copy as Command"].click()
    assert QGuiApplication.clipboard().text() == (
        "understudy train --model Qwen/Qwen3-4B-Instruct "
        "--data '~/Data/support_tickets.jsonl' --bits 4 --rank 16"
    )
    assert shown.banner.isVisible()


# -- throwing away


def test_to_the_trash_and_the_project_forgets_it(
    application: Application,
    page: Callable[..., RunsPage],
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(application)
    thrown: list[str] = []
    monkeypatch.setattr(
        app.archive, "move_to_trash",
        lambda run: (thrown.append(run.name), application.runs.delete(run)),
    )  # fmt: skip
    shown = page()
    with qtbot.waitSignal(shown.leave):
        shown.act()
    assert application.project.value.run is not None
    application.window.go("runs")
    shown.details.buttons["Delete…"].click()
    assert thrown == []
    _press(shown.sheet, "Move to Trash")
    # done in a thread; the page, just gone to, may read the folders before that
    qtbot.waitUntil(lambda: bool(thrown))
    assert thrown == ["20261107-091412-qwen3-4b-support-tickets"]
    qtbot.waitUntil(lambda: len(shown.table.rows) == 5)
    assert "Trash" in shown.banner.title.text()
    assert application.project.value.run is None
    assert shown.row is not None


def test_without_a_trash_it_is_asked_again(
    application: Application,
    page: Callable[..., RunsPage],
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(application)

    def none(run: Run) -> None:
        raise UserError("no_trash", run.name, "there is no trash", "")

    monkeypatch.setattr(app.archive, "move_to_trash", none)
    shown = page()
    name = shown.table.rows[0].name
    shown.ask_to_delete()
    first = shown.sheet
    _press(first, "Move to Trash")
    qtbot.waitUntil(lambda: shown.sheet is not first)
    assert (application.runs.runs / name).is_dir()
    assert shown.sheet is not None
    assert "for good" in shown.sheet.text()
    _press(shown.sheet, "Delete for Good")
    qtbot.waitUntil(lambda: len(shown.table.rows) == 5)
    assert not (application.runs.runs / name).exists()


def test_a_run_in_the_queue_is_not_deleted(
    application: Application, page: Callable[..., RunsPage]
) -> None:
    fill(application)
    shown = page()
    assert shown.row is not None
    application.queue.add(FakeJob(shown.row.run, application.runs.root))
    shown.ask_to_delete()
    assert shown.sheet is None
    assert "being worked on" in shown.banner.title.text()


def test_a_run_another_program_works_on_is_not_deleted(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    fill(application)
    shown = page()
    assert shown.row is not None
    with shown.row.run.lock():
        shown.ask_to_delete()
        _press(shown.sheet, "Move to Trash")
        qtbot.waitUntil(lambda: shown.state == "error")
    assert shown.banner.isVisible()
    assert shown.row.run.folder.is_dir()


_TRASH = """
import sys; from pathlib import Path
from app.trash import move_to_trash; from mlx_lora.runs import Run
move_to_trash(Run(Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a trash of the test's own")
def test_the_real_trash_keeps_the_whole_run(root: Path, tmp_path: Path) -> None:
    run = make_run(RunStore(root), "20261107-091412-a", steps=8)
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "share")}
    command = [sys.executable, "-c", _TRASH, str(run.folder)]
    subprocess.run(command, env=environment, check=True, timeout=30)
    assert not run.folder.exists()
    assert (tmp_path / "share" / "Trash" / "files" / run.name / "config.toml").is_file()


def test_a_trash_that_fails_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(RunStore(root), "20261107-091412-a", steps=8)

    def fail(_path: object) -> None:
        raise PermissionError(13, "no trash on this disk")

    monkeypatch.setattr("send2trash.send2trash", fail)
    with pytest.raises(UserError, match="no trash"):
        move_to_trash(run)
    assert run.folder.is_dir()


# -- the queue


@pytest.fixture
def lined_up(application: Application) -> list[Job]:
    """One at work, two that wait."""
    names = ("20261107-090000-one", "20261107-090100-two", "20261107-090200-three")
    line: list[Job] = []
    for name in names:
        run = make_run(application.runs, name, steps=8, done=0)
        line.append(FakeJob(run, application.runs.root))
        application.queue.add(line[-1])
    return line


def _line(page: RunsPage) -> list[str]:
    return [row.title.text() for row in page.queue.rows]


def test_the_queue_is_shown_in_order(
    lined_up: list[Job], page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    shown = page()
    assert lined_up[0].state == "running"
    assert shown.queue.isVisible()
    assert shown.state == "running"
    assert _line(shown) == ["one", "two", "three"]
    first = shown.queue.rows[0]
    qtbot.waitUntil(lambda: first.kind.text() == "Training · Step 3 of 9")
    assert (first.bar.value(), first.bar.maximum()) == (3, 9)
    qtbot.waitUntil(lambda: shown.table.find("20261107-090000-one").step == 3)
    assert shown.table.find("20261107-090100-two").status == "queued"


def test_the_queue_is_reordered_by_button_and_by_key(
    lined_up: list[Job], page: Callable[..., RunsPage], application: Application
) -> None:
    shown = page()
    second, third = shown.queue.rows[1:]
    assert not second.up.isEnabled()
    assert not third.down.isEnabled()
    third.up.setFocus()
    third.up.click()
    assert _line(shown) == ["one", "three", "two"]
    assert application.queue.waiting == [lined_up[2], lined_up[1]]
    assert QApplication.focusWidget() is third.down
    QTest.keyClick(third.down, Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier)
    assert _line(shown) == ["one", "two", "three"]
    QTest.keyClick(third.up, Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier)
    assert _line(shown) == ["one", "two", "three"]


def test_a_waiting_run_is_cancelled_and_the_running_one_stopped(
    lined_up: list[Job], page: Callable[..., RunsPage], application: Application, qtbot: QtBot
) -> None:
    shown = page()
    shown.queue.rows[2].end.click()
    assert _line(shown) == ["one", "two"]
    first = shown.queue.rows[0]
    assert first.end.text() == "Stop"
    first.end.click()
    assert first.end.text() == "Stopping…"
    assert not first.end.isEnabled()
    qtbot.waitUntil(lambda: lined_up[1].state == "running")
    assert _line(shown) == ["two"]
    shown.queue.rows[0].end.click()
    qtbot.waitUntil(lambda: not application.queue.jobs)
    assert not shown.queue.isVisible()
    assert shown.state == "ready"


def test_a_job_of_the_queue_without_a_run_is_named(desk: Desk) -> None:
    from app.models.queue_line import QueueLine

    what = jobs.EvaluateJob(
        model=record_of().config.model, data=record_of().config.data, seed=0, root=""
    )
    job = Job(what, title="My Play")
    desk.queue.jobs.append(job)
    entry = QueueLine(desk.queue).entries[0]
    assert (entry.title, entry.kind, entry.running) == ("My Play", "Measuring", False)


@pytest.mark.slow
def test_two_real_runs_one_after_the_other(
    application: Application, page: Callable[..., RunsPage], qtbot: QtBot
) -> None:
    from mlx_lora.preflight import make_record

    settings = {"training": {"steps": 2, "eval_every": 2, "sample_every": 2}}
    sources = {"model": {"source": "demo"}, "data": {"source": "demo", "max_length": 32}}
    config = build_config(merge(settings, sources))
    runs = []
    for name in ("20261107-090000-one", "20261107-090100-two"):
        record, _ = make_record(config, application.runs.root)
        run = application.runs.create(record, "", application.runs.runs / name)
        runs.append(run)
        what = jobs.TrainJob(run=str(run.folder), root=str(application.runs.root))
        application.queue.add(Job(what, title=run.name))
    shown = page()
    assert _line(shown) == ["one", "two"]
    working: list[int] = []
    application.queue.changed.connect(
        lambda: working.append(sum(job.state == "running" for job in application.queue.jobs))
    )
    qtbot.waitUntil(lambda: not application.queue.jobs, timeout=120_000)
    assert max(working) == 1
    qtbot.waitUntil(lambda: [row.status for row in shown.table.rows] == ["finished"] * 2)
    assert all(run.adapter.is_dir() for run in runs)
    assert shown.table.rows[0].after is not None
