"""How a run computes, in the window: the fold of the report, and where its sentences stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from scenes import runs as runs_scene
from scenes import train as scene

from app.diagnostics import diagnostics
from app.models.engine_report import line, sentences
from app.models.run_progress import Beside, note, read_past
from app.models.run_row import read_row
from app.models.stage import stage_of
from mlx_lora import events

if TYPE_CHECKING:
    from app.application import Application
    from app.pages.runs import RunsPage
    from app.pages.train import TrainPage

_WORDS = "Each step goes through MLX’s compiler."


def _train(application: Application, name: str) -> TrainPage:
    application.start()
    scene.SCENES[f"train-{name}"](application)
    page: Any = application.window.page
    return page  # type: ignore[no-any-return]


def _runs(application: Application, name: str) -> RunsPage:
    application.start()
    runs_scene.SCENES[f"runs-{name}"](application)
    scene.settle(application)
    page: Any = application.window.page
    return page  # type: ignore[no-any-return]


def test_sentences_and_what_was_tried() -> None:
    said = sentences(scene.ENGINE)
    assert said[0].startswith("Short rows of yours share rows of 512 tokens")
    assert said[4] == _WORDS
    assert said[-1] == (
        "Tried here: packed rows with the compiler 1,235 tokens a second; like lengths with the "
        "compiler 1,020 tokens a second; packed rows 980 tokens a second; like lengths 855 tokens "
        "a second."
    )
    assert sentences(scene.ENGINE | {"measured": []}) == said[:-1]
    assert line(scene.ENGINE) == (
        "batching pack, loss chunked, base packed, recompute 2, prefix True, compiled True, "
        "source measured"
    )


@pytest.mark.parametrize(
    "report",
    [{}, {"words": None}, {"words": [3], "measured": 5}, {"measured": [{"batching": "pack"}, 7]},
     {"measured": [{"batching": "pack", "seconds_per_token": 0.0}]}],
)  # fmt: skip
def test_another_version_s_report_says_what_can_be_read(report: dict[str, Any]) -> None:
    assert sentences(report) == ()


def test_the_newest_report_counts_and_outlives_a_resume() -> None:
    beside = Beside()
    note(beside, events.Report(kind="engine", data=scene.ENGINE))
    note(beside, events.Hello(pid=2))
    assert beside.engine == scene.ENGINE
    again = scene.ENGINE | {"batching": "rows"}
    note(beside, events.Report(kind="engine", data=again))
    note(beside, events.Report(kind="setup", data={"steps": 3}))
    assert beside.engine == again


def test_train_has_a_view_of_it(application: Application) -> None:
    page = _train(application, "told")
    tab = page.record.tabs.buttons["engine"]
    assert not tab.isHidden()
    assert page.record.view == "samples"  # it opens when somebody wants it
    QTest.mouseClick(tab, Qt.MouseButton.LeftButton)
    assert page.record.engine.isVisible()
    lines = page.record.engine.toPlainText().splitlines()
    assert lines == list(sentences(scene.ENGINE))
    bar = page.record.engine.verticalScrollBar()
    bar.setValue(bar.maximum())
    assert bar.value() > 0
    application.progress.refresh()
    assert bar.value() == bar.maximum()  # somebody reads


def test_a_run_from_before_shows_nothing(application: Application) -> None:
    page = _train(application, "computing")
    assert page.record.view == "engine"
    old = scene.make_run(application, scene.training(20), "20261101-101010-old")
    scene.adopt(application, old)
    scene.settle(application)
    assert page.record.tabs.buttons["engine"].isHidden()
    assert page.record.view == "samples"
    assert page.record.tabs.buttons["samples"].isChecked()
    assert "engine:" not in diagnostics(application.desk)


def test_diagnostics_name_the_forms(application: Application) -> None:
    _train(application, "told")
    said = diagnostics(application.desk)
    assert f"engine: {line(scene.ENGINE)}\n" in f"{said}\n"


def test_memory_of_mlx_and_of_the_whole_process(application: Application) -> None:
    page = _train(application, "told")
    memory = page.status.metrics["memory"]
    assert memory.value.text() == "6.1 GB"
    assert memory.caption.text() == "peak by MLX, 7.4 GB in all"
    job: Any = application.progress.job
    job.say(msgspec.structs.replace(scene.step(2611), footprint=0))
    application.progress.refresh()
    assert memory.caption.text() == "peak memory"


@pytest.mark.parametrize(
    ("phase", "words"),
    [("measuring_forms", "Measuring ways to compute…"),
     ("frozen_layers", "Computing the frozen layers once…"),
     ("meeting", "Waiting for the other processes…")],
)  # fmt: skip
def test_what_comes_before_the_first_step_is_said(
    application: Application, phase: str, words: str
) -> None:
    scene.live(application, [*scene.opening()[:3], events.Phase(phase, 1, 4)])
    assert stage_of(application.progress).text == words


def test_a_past_run_tells_it_folded_away(application: Application) -> None:
    page = _runs(application, "computing")
    assert page.row is not None
    assert page.row.engine == sentences(scene.ENGINE)
    details = page.details
    shown = [label.text() for label in details.engine.labels if label.isVisible()]
    assert shown == list(sentences(scene.ENGINE))
    QTest.mouseClick(details.how, Qt.MouseButton.LeftButton)
    assert details.engine.isHidden()
    assert details.how.accessibleDescription() == "Hidden"
    QTest.mouseClick(details.how, Qt.MouseButton.LeftButton)
    assert details.engine.isVisible()
    page.list.setCurrentIndex(page.shown.index(1, 0))  # of another version
    assert details.how.isHidden()
    assert details.engine.isHidden()
    page.list.setCurrentIndex(page.shown.index(0, 0))
    assert details.engine.isVisible()


def test_row_and_progress_read_the_same(application: Application) -> None:
    run = scene.make_run(application, scene.computing(20))
    _, beside = read_past(run)
    assert read_row(run).engine == sentences(beside.engine) == sentences(scene.ENGINE)
