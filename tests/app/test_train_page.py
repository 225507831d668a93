"""The Train page: every state, what each button does, and a real run from click to adapter."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from scenes import train as scene

from app.project import DataChoice, ModelChoice
from mlx_lora import events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.pages.train import TrainPage


def _play(application: Application, name: str) -> TrainPage:
    scene.SCENES[f"train-{name}"](application)
    page: Any = application.window.page
    return page  # type: ignore[no-any-return]


def _click(button: Any) -> None:
    assert button.isEnabled()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def _answer(page: TrainPage, words: str) -> None:
    sheet = page.steering.sheet
    assert sheet is not None
    assert sheet.windowModality() == Qt.WindowModality.WindowModal
    next(button for button in sheet.buttons() if button.text() == words).click()


def _started(application: Application) -> list[dict[str, Any]]:
    """Settings under which a run was asked for, in place of starting it."""
    asked: list[dict[str, Any]] = []
    application.training.start = lambda: asked.append(application.project.value.settings)  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize(
    ("name", "seen", "compare"),
    [
        ("empty", ("empty", "", ""), False),
        ("loading", ("loading", "", ""), True),
        ("checking", ("running", "Preparing", ""), False),
        ("queued", ("running", "Queued", "Cancel"), False),
        ("preparing", ("running", "Preparing", "Pause Stop…"), False),
        ("first-steps", ("running", "Training", "Pause Stop…"), False),
        ("running", ("running", "Training", "Pause Stop…"), True),
        ("validating", ("running", "Validating", "Pause Stop…"), True),
        ("paused", ("running", "Paused", "Resume Stop…"), True),
        ("stopping", ("running", "Stopping", "Stop…"), True),
        ("silent", ("running", "Training", "Pause Stop…"), True),
        ("diverged", ("error", "Stopped by an Error", ""), True),
        ("out-of-memory", ("error", "Stopped by an Error", "Resume"), True),
        ("killed", ("error", "Stopped by an Error", "Resume"), True),
        ("interrupted", ("ready", "Interrupted", "Resume"), True),
        ("stopped", ("ready", "Stopped", "Resume"), True),
        ("done", ("done", "Done", ""), True),
        ("early", ("done", "Done", ""), True),
    ],
)
def test_every_state(
    application: Application, name: str, seen: tuple[str, str, str], compare: bool
) -> None:
    application.start()
    page = _play(application, name)
    state, word, buttons = seen
    assert page.state == state
    if word:
        assert page.status.pill.text() == word
    shown = [b.text() for b in (page.pause, page.stop) if not b.isHidden() and b.isEnabled()]
    assert " ".join(shown) == buttons
    assert application.window.primary.text() == "Continue to Compare"
    assert application.window.primary.isEnabled() == compare


def test_the_numbers_of_a_run(application: Application) -> None:
    page = _play(application, "running")
    said = {key: metric.value.text() for key, metric in page.status.metrics.items()}
    assert said["held_out"] == "0.936"
    assert said["memory"] == "6.1 GB"
    assert said["time"] == "15:04"
    assert said["train"] == f"{page.chart.plot.raw.smoothed[-1]:.3f}"
    assert page.status.metrics["held_out"].caption.text() == "held-out loss, 65 % below base"
    assert page.status.words.text() == "Epoch 2 of 2 · step 2,610 of 4,332"
    assert (page.status.share.text(), page.status.bar.value()) == ("60 %", 2610)
    assert page.hint() == "Saved at step 2,600. Next save at step 2,800."
    assert len(page.chart.plot.raw) == 2610
    assert page.chart.plot.best == 2600


def test_compare_opens_with_the_first_save(application: Application) -> None:
    page = _play(application, "first-steps")
    assert page.hint() == "The first save is at step 200. Compare opens then."
    job = application.progress.job
    assert isinstance(job, scene.Told)
    job.say(events.CheckpointSaved(step=15, path="", best=True))
    application.progress.refresh()
    assert application.window.primary.isEnabled()
    left: list[str] = []
    page.leave.connect(left.append)
    page.leave.disconnect(application.window.go)
    page.act()
    assert left == ["compare"]


def _commands(application: Application) -> list[str]:
    """What the worker is told, by kind."""
    job = application.progress.job
    assert job is not None
    told: list[str] = []
    send = job.send

    def hear(command: Any) -> None:
        told.append(command.type)
        send(command)

    job.send = hear  # type: ignore[method-assign]
    return told


def test_pause_resume_and_stop_reach_the_worker(application: Application) -> None:
    page = _play(application, "running")
    told, job = _commands(application), application.progress.job
    assert isinstance(job, scene.Told)
    _click(page.pause)
    assert (told, page.status.pill.text(), page.pause.text()) == (["pause"], "Pausing", "Resume")
    job.say(events.Phase("paused", 2610, 4332))
    application.progress.refresh()
    assert page.status.pill.text() == "Paused"
    _click(page.pause)
    assert told == ["pause", "resume"]
    job.say(events.Phase("training", 2610, 4332))
    application.progress.refresh()
    assert (page.status.pill.text(), page.pause.text()) == ("Training", "Pause")
    _click(page.stop)
    _answer(page, "Keep Training")
    assert told == ["pause", "resume"]
    page.ask_to_stop()
    _answer(page, "Stop and Save")
    assert told == ["pause", "resume", "stop"]
    assert page.status.pill.text() == "Stopping"
    assert not page.pause.isEnabled()
    job.end(events.Finished(reason="stopped"))
    assert page.status.pill.text() == "Stopped"


def test_escape_keeps_training_and_one_sheet_is_enough(application: Application) -> None:
    application.window.show()
    page = _play(application, "running")
    told = _commands(application)
    page.ask_to_stop()
    sheet = page.steering.sheet
    page.ask_to_stop()
    assert page.steering.sheet is sheet
    assert sheet is not None
    assert sheet.defaultButton().text() == "Keep Training"
    QTest.keyClick(sheet, Qt.Key.Key_Escape)
    assert (told, page.steering.sheet) == ([], None)


def test_a_stop_that_takes_long_can_be_forced(application: Application) -> None:
    page = _play(application, "stopping")
    killed: list[bool] = []
    application.training.force_stop = lambda: killed.append(True)  # type: ignore[method-assign]
    page.ask_to_stop()
    _answer(page, "Keep Waiting")
    assert killed == []
    page.ask_to_stop()
    _answer(page, "Force Stop")
    assert killed == [True]


def test_a_silent_worker_is_ended_by_a_person_only(application: Application) -> None:
    page = _play(application, "silent")
    assert page.banner.title.text() == "Not Responding"
    killed: list[bool] = []
    application.training.force_stop = lambda: killed.append(True)  # type: ignore[method-assign]
    _click(page.banner.fix)
    _answer(page, "Force Stop")
    assert killed == [True]
    assert application.progress.job is not None
    application.progress.job.silent.emit(False)
    assert page.banner.isHidden()


def test_waiting_in_line_and_leaving_it(application: Application) -> None:
    page = _play(application, "queued")
    assert page.status.words.text() == "Next in line, after llama-1b-recipes"
    _click(page.stop)
    assert (page.status.pill.text(), page.pause.text()) == ("Ready", "Start")
    assert application.queue.waiting == []


def test_a_killed_worker_leaves_resume_and_details(application: Application) -> None:
    page = _play(application, "killed")
    banner = page.banner
    assert "Kept: everything up to step 2,600." in banner.text.text()
    assert banner.fix.text() == "Resume"
    resumed: list[str] = []
    application.training.resume = lambda run: resumed.append(run.name)  # type: ignore[method-assign]
    _click(banner.fix)
    _click(page.pause)
    assert resumed == [scene.NAME, scene.NAME]
    _click(banner.more)
    assert not banner.details.isHidden()
    words = banner.details.toPlainText()
    assert "killed worker" in words
    assert "step   2,610" in words
    assert "fast tokenizer" in words  # what the worker printed last


def test_nothing_saved_is_said(application: Application) -> None:
    job = scene.live(application, scene.training(14))
    job.end(events.Failed(code="killed", where="worker", why="it was ended", fix=""))
    page: Any = application.window.page
    assert "Nothing was saved yet" in page.banner.text.text()


def test_diverged_starts_again_with_a_lower_rate(application: Application) -> None:
    asked = _started(application)
    page = _play(application, "diverged")
    assert page.banner.fix.text() == "Start Again at 4e-4"
    assert "loss rose from 2.71" in page.banner.text.text()
    _click(page.banner.fix)
    assert [settings["training"]["learning_rate"] for settings in asked] == [4e-4]
    assert application.project.value.run == scene.NAME  # the run before stays


def test_out_of_memory_offers_resume_and_a_smaller_start(application: Application) -> None:
    asked = _started(application)
    page = _play(application, "out-of-memory")
    assert (page.banner.fix.text(), page.pause.text()) == ("Start Again With Batch 1", "Resume")
    _click(page.banner.fix)
    assert asked == [{"training": {"batch_size": 1, "grad_accumulation": 4}}]


def test_data_that_changed_starts_again(application: Application) -> None:
    asked = _started(application)
    job = scene.live(application, scene.training(14))
    why = "the data is not what this run began with"
    job.end(events.Failed(code="data_changed", where="rows", why=why, fix="start a new run"))
    page: Any = application.window.page
    assert page.pause.isHidden()
    assert page.banner.fix.text() == "Start Again"
    _click(page.banner.fix)
    assert asked == [{}]


def test_overfitting_offers_the_best_step(application: Application) -> None:
    page = _play(application, "overfitting")
    (row,) = page.hints.rows
    assert row.button is not None
    page.leave.disconnect(application.window.go)
    left: list[str] = []
    page.leave.connect(left.append)
    _click(row.button)
    assert (application.project.value.checkpoint, left) == (1800, ["compare"])


def test_slow_learning_starts_again_once_it_stands(application: Application) -> None:
    asked = _started(application)
    page = _play(application, "slow")
    (row,) = page.hints.rows
    assert row.button is not None
    _click(row.button)
    assert asked == [{"training": {"learning_rate": 5e-4}}]


def test_a_hint_while_it_trains_lines_up_no_second_run(application: Application) -> None:
    said = [scene.step(n, loss=2.7) for n in range(1, 1000)]
    scene.live(application, [*scene.opening(), *said])
    page: Any = application.window.page
    (row,) = page.hints.rows
    assert (row.title.text(), row.button) == ("It learns very slowly", None)


def test_other_choices_are_said_and_a_new_run_is_offered(application: Application) -> None:
    asked = _started(application)
    page = _play(application, "other")
    (row,) = page.hints.rows
    assert row.button is not None
    assert row.button.text() == "Start New Run"
    _click(row.button)
    assert len(asked) == 1
    application.project.update(preset="balanced")
    assert page.hints.isHidden()


def test_done_says_which_step_is_kept(application: Application) -> None:
    page = _play(application, "done")
    assert page.banner.title.text() == "Training is done"
    assert page.banner.text.text().startswith("Step 4,200 is kept: loss on held-out rows is 0.941")
    assert page.status.metrics["time"].value.text() == "4,200"
    assert page.status.metrics["time"].caption.text() == "step kept"


def test_samples_go_back_in_time_and_stay_there(application: Application) -> None:
    page = _play(application, "running")
    strip = page.samples
    assert (strip.prompts[0][:5], strip.steps, strip.step) == ("Draft", [800, 1600, 2400], 2400)
    assert strip.now.text.toPlainText().startswith("Hi Sam, I’m sorry your parcel is late.")
    strip.slider.setFocus()
    QTest.keyClick(strip.slider, Qt.Key.Key_Home)
    assert (strip.step, strip.now.title.text()) == (800, "Step 800")
    assert strip.now.text.toPlainText().startswith("We are sorry")
    assert strip.base.text.toPlainText().startswith("Dear Customer")
    job = application.progress.job
    assert isinstance(job, scene.Told)
    later = events.Sample(step=3200, prompt=strip.prompts[0], base="base", text="newest")
    job.say(later)
    application.progress.refresh()
    assert strip.step == 800  # somebody looks at it
    QTest.keyClick(strip.slider, Qt.Key.Key_End)
    assert strip.now.text.toPlainText() == "newest"
    job.say(events.Sample(step=4000, prompt=strip.prompts[0], base="base", text="newer"))
    application.progress.refresh()
    assert strip.now.text.toPlainText() == "newer"  # who looks at now keeps looking at now
    _click(strip.next)
    assert strip.prompt.text() == "“Which plan includes phone support? ⏎ Answer:”"
    assert not strip.next.isEnabled()


def test_the_log_follows_and_is_not_written_twice(application: Application) -> None:
    page = _play(application, "running")
    page.show_log()
    log = page.record.log
    assert page.record.view == "log"
    before = log.blockCount()
    assert log.toPlainText().splitlines()[-1].startswith("step   2,610   loss")
    job = application.progress.job
    assert isinstance(job, scene.Told)
    job.say(scene.step(2611), scene.step(2612))
    application.progress.refresh()
    application.progress.refresh()
    assert log.blockCount() == before + 2
    assert log.toPlainText().splitlines()[-1].startswith("step   2,612   loss")
    log.verticalScrollBar().setValue(0)
    job.say(scene.step(2613))
    application.progress.refresh()
    assert log.verticalScrollBar().value() == 0  # somebody reads
    _click(page.record.tabs.buttons["samples"])
    assert page.record.view == "samples"


def test_what_was_printed_is_read_from_the_run(application: Application, qtbot: QtBot) -> None:
    page = _play(application, "stopped")
    run = application.progress.run
    assert run is not None
    page.record.turn("output")
    qtbot.waitUntil(lambda: page.record.output.toPlainText() == "Nothing was printed.")
    (run.folder / "worker.log").write_text("one\ntwo\n", encoding="utf-8")
    page.record.turn("output")
    qtbot.waitUntil(lambda: page.record.output.toPlainText() == "one\ntwo")


@pytest.mark.parametrize("kind", ["png", "svg", "csv"])
def test_the_chart_is_exported(
    application: Application, qtbot: QtBot, tmp_path: Path, kind: str
) -> None:
    page, file = _play(application, "running"), tmp_path / f"loss.{kind}"
    action = next(a for a in page.loss.menu.actions() if kind.upper() in a.text())
    action.trigger()
    dialog = page.export.dialog
    assert dialog is not None
    assert dialog.selectedFiles()[0].endswith(f"qwen3-4b-support-tickets-loss.{kind}")
    dialog.fileSelected.emit(str(file))
    dialog.close()
    qtbot.waitUntil(file.exists)
    content = file.read_bytes()
    if kind == "png":
        assert QImage.fromData(content).width() == 1920
    elif kind == "svg":
        assert b"<svg" in content
    else:
        assert len(content.splitlines()) == 2612  # heading, base, 2,610 steps


def test_a_chart_that_cannot_be_written_says_so(
    application: Application, qtbot: QtBot, tmp_path: Path
) -> None:
    page = _play(application, "running")
    page.export.write("csv", str(tmp_path / "not" / "there.csv"))
    qtbot.waitUntil(lambda: not page.banner.isHidden())
    assert page.state == "running"
    _click(page.banner.close_button)
    assert page.banner.isHidden()


def test_nothing_is_drawn_while_another_page_is_shown(application: Application) -> None:
    page = _play(application, "running")
    application.window.go("configure")
    job = application.progress.job
    assert isinstance(job, scene.Told)
    job.say(scene.step(2611))
    application.progress.refresh()
    assert len(page.chart.plot.raw) == 2610
    application.window.go("train")
    assert len(page.chart.plot.raw) == 2611


def test_the_empty_page_says_what_is_missing(application: Application) -> None:
    application.window.go("train")
    page: Any = application.window.page
    assert page.hint() == "First choose a model."
    application.project.update(model=ModelChoice("demo", "Storybook"))
    assert page.hint() == "First choose a dataset."
    application.project.update(data=DataChoice("demo", "Shakespeare sample"))
    assert page.hint() == "The dataset needs a look."
    scene.choose(application)
    assert page.hint() == "Everything is chosen: start it from Configure."
    left: list[str] = []
    page.leave.disconnect(application.window.go)
    page.leave.connect(left.append)
    button = next(b for b in page.findChildren(type(page.pause)) if b.text() == "Configure")
    button.click()
    assert left == ["configure"]


# -- the real worker


def _choose_demo(application: Application, text: Path, **training: Any) -> None:
    application.project.update(
        model=ModelChoice("demo", "Storybook"),
        data=DataChoice(str(text), "A small play"),
        preset="demo",
        settings={"training": training, "data": {"max_length": 64}, "samples": {"tokens": 8}},
    )


def _until(qtbot: QtBot, check: Callable[[], bool]) -> None:
    qtbot.waitUntil(check, timeout=30_000)


@pytest.mark.slow  # in the fast suite the wizard makes a real run
def test_a_real_run_paused_stopped_resumed_and_done(
    application: Application, qtbot: QtBot, tiny_text: Path
) -> None:
    application.window.show()
    progress, training = application.progress, application.training
    _choose_demo(application, tiny_text, steps=30, eval_every=15, sample_every=30, eval_rows=2)
    training.start()
    _until(qtbot, lambda: progress.state.step >= 2)
    page: Any = application.window.page
    assert application.window.current == "train"
    _click(page.pause)
    _until(qtbot, lambda: progress.status == "paused")
    at = progress.state.step
    assert (at < 30, progress.saved) == (True, at)
    qtbot.wait(150)
    assert (progress.state.step, page.status.pill.text()) == (at, "Paused")
    _click(page.pause)
    _until(qtbot, lambda: progress.state.step > at)
    page.ask_to_stop()
    _answer(page, "Stop and Save")
    _until(qtbot, lambda: not progress.live)
    stopped = progress.state.step
    assert (progress.status, stopped < 30) == ("stopped", True)
    _click(page.pause)
    assert page.pause.text() in {"Pause", "Resume"}
    _until(qtbot, lambda: progress.status == "finished")
    assert [step for step, _ in progress.state.losses] == list(range(1, 31))
    assert [step for step, _ in progress.state.losses] == list(page.chart.plot.raw.steps)
    assert progress.run is not None
    assert progress.run.adapter.is_dir()
    assert page.state == "done"
    assert application.window.primary.isEnabled()
    assert len(page.samples.prompts) >= 1


@pytest.mark.slow
def test_a_real_worker_killed_and_the_app_reopened(
    application: Application, qtbot: QtBot, root: Path, tiny_text: Path
) -> None:
    from stage import make

    application.window.show()
    progress = application.progress
    _choose_demo(application, tiny_text, steps=200, eval_every=100, save_every=5, eval_rows=2)
    application.training.start()
    _until(qtbot, lambda: progress.saved >= 5)
    page: Any = application.window.page
    assert progress.job is not None
    began = time.monotonic()
    os.kill(progress.job.pid, signal.SIGKILL)
    _until(qtbot, lambda: page.state == "error" and not page.banner.isHidden())
    assert time.monotonic() - began < 2.0
    assert page.banner.fix.text() == "Resume"
    saved = progress.saved
    again = make(root)
    qtbot.addWidget(again.window)
    again.start()
    _until(qtbot, lambda: again.progress.status == "interrupted")
    assert again.window.current == "train"
    shown: Any = again.window.page
    assert (shown.banner.fix.text(), again.progress.saved) == ("Resume", saved)
    _click(shown.banner.fix)
    _until(qtbot, lambda: again.progress.live and again.progress.state.step > saved)
    assert [step for step, _ in again.progress.state.losses][:saved] == list(range(1, saved + 1))
    again.training.stop()
    _until(qtbot, lambda: again.progress.status == "stopped")
    again.tasks.wait()
