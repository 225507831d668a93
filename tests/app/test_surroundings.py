"""Around the page: sidebar, title, strip, menus, badge; projects in menus; a hidden window."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from PySide6.QtWidgets import QApplication, QInputDialog, QMenu, QMessageBox, QSystemTrayIcon

from app.jobs import Job
from app.project import DataChoice, ModelChoice, recipe_of
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application

MODEL = ModelChoice("demo", "Storybook")
DATA = DataChoice("demo", "Sample", {"model": "demo", "training_rows": 9, "validation_rows": 1})


class Sleeper(Job):
    """A worker that works until it is told to stop or its owner is gone."""

    def command(self) -> list[str]:
        """Nothing of the engine."""
        code = (
            'import sys\nprint(\'{"type":"hello","pid":1}\', flush=True)\nsys.stdin.readline()\n'
            "for line in sys.stdin:\n    if 'stop' in line: break\n"
            'print(\'{"type":"finished","reason":"stopped"}\', flush=True)'
        )
        return [sys.executable, "-c", code]


@pytest.fixture
def ready(application: Application) -> Application:
    application.start()
    application.project.update(name="Poems", model=MODEL, data=DATA)
    return application


@pytest.fixture
def at_work(ready: Application, root: Path, qtbot: QtBot) -> Job:
    """The project's own run, training."""
    job = Sleeper(jobs.TrainJob(run=str(root / "runs" / "one"), root=str(root)), title="one")
    with qtbot.waitSignal(job.said, timeout=5000):
        ready.queue.add(job)
    ready.project.update(run="one", recipe=recipe_of(ready.project.value))
    ready.progress.follow(None, job)
    return job


def _enabled(application: Application) -> dict[str, bool]:
    actions = application.menus.actions
    return {name: actions[name].isEnabled() for name in ("start", "pause", "stop")}


def test_the_title_and_the_sidebar_name_the_project(ready: Application) -> None:
    assert ready.window.windowTitle() == "Poems – Understudy"
    assert ready.window.sidebar.project.text() == "Poems"
    ready.project.update(name="Verses")
    assert ready.window.windowTitle() == "Verses – Understudy"


def test_training_can_be_started_when_everything_is_chosen(ready: Application) -> None:
    assert _enabled(ready) == {"start": True, "pause": False, "stop": False}
    ready.project.update(settings={"adapter": {"rank": 0}})
    assert not ready.menus.actions["start"].isEnabled()
    assert ready.window.sidebar.stepper.steps["configure"].mark == "attention"
    ready.project.update(settings={}, data=None)
    assert not ready.menus.actions["start"].isEnabled()


def test_while_it_trains(ready: Application, at_work: Job, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: _enabled(ready) == {"start": False, "pause": True, "stop": True})
    assert ready.window.sidebar.work.text() == "Training"
    at_work.said.emit(events.Phase("paused"))
    qtbot.waitUntil(lambda: ready.window.sidebar.work.text() == "Paused")
    assert _enabled(ready) == {"start": True, "pause": False, "stop": True}
    assert ready.menus.actions["start"].text() == "Resume"
    ready.queue.add(Sleeper(at_work.what, title="two"))
    assert ready.window.sidebar.work.text() == "Paused · 1 waiting"


def test_another_project_s_run_is_named(ready: Application, root: Path, qtbot: QtBot) -> None:
    job = Sleeper(jobs.TrainJob(run=str(root / "runs" / "x"), root=str(root)), title="Elsewhere")
    with qtbot.waitSignal(job.said, timeout=5000):
        ready.queue.add(job)
    assert ready.window.sidebar.work.text() == "At work: Elsewhere"
    job.kill()
    qtbot.waitUntil(lambda: "Elsewhere" not in ready.window.sidebar.work.text())


# -- projects in the menus


def _names(menu: QMenu) -> list[str]:
    menu.aboutToShow.emit()
    return [action.text() for action in menu.actions() if not action.isSeparator()]


def test_the_menu_lists_projects_and_opens_them(ready: Application, qtbot: QtBot) -> None:
    ready.menus.actions["new"].trigger()
    ready.project.update(name="Letters", model=MODEL)
    assert set(_names(ready.menus.recent)) == {"Poems", "Letters"}
    checked = [a.text() for a in ready.menus.recent.actions() if a.isChecked()]
    assert checked == ["Letters"]
    poems = next(a for a in ready.menus.recent.actions() if a.text() == "Poems")
    with qtbot.waitSignal(ready.projects.opened):
        poems.trigger()
    assert ready.project.value.name == "Poems"
    whole = _names(ready.window.sidebar.menu)
    assert whole[-2:] == ["New Project", "Rename…"]


def test_a_new_project_begins_at_the_first_step(ready: Application) -> None:
    ready.settings.update(preset="quick")
    ready.window.go("dataset")
    ready.menus.actions["new"].trigger()
    assert ready.window.current == "model"
    assert (ready.project.value.name, ready.project.value.preset) == ("Untitled", "quick")


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (("  Verses ", True), "Verses"), (("Verses", False), "Poems"), (("   ", True), "Poems"),
        (("x" * 99, True), "x" * 60),
    ],
)  # fmt: skip
def test_renaming(
    ready: Application, monkeypatch: pytest.MonkeyPatch, answer: tuple[str, bool], name: str
) -> None:
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: answer)
    ready.menus.actions["rename"].trigger()
    assert ready.project.value.name == name


# -- a window that went away


def _icon(application: Application) -> QSystemTrayIcon:
    icon = application.tray.findChild(QSystemTrayIcon)
    assert icon is not None
    return icon


def test_a_hidden_window_leaves_a_way_back(
    ready: Application, at_work: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", staticmethod(lambda: True))
    ready.window.close()
    sheet = ready.leaving.sheet
    assert isinstance(sheet, QMessageBox)
    assert not _icon(ready).isVisible()
    next(b for b in sheet.buttons() if b.text() == "Keep Training").click()
    assert not ready.window.isVisible()
    assert _icon(ready).isVisible()
    assert at_work.state == "running"
    _icon(ready).contextMenu().actions()[0].trigger()
    assert ready.window.isVisible()
    assert not _icon(ready).isVisible()


def test_the_badge_counts_percent(ready: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    monkeypatch.setattr(
        type(QApplication.instance()), "setBadgeNumber", lambda _, n: shown.append(n)
    )
    for done in (0, 50, 50, 100):
        ready.tray.say_progress(done, 200)
    ready.tray.say_progress(0, 0)
    assert shown == [25, 50, 0]


def test_start_means_resume_only_while_nothing_else_was_chosen(ready: Application) -> None:
    ready.project.update(run="one", recipe=recipe_of(ready.project.value))
    ready.progress.state.status = "stopped"
    ready.progress.refresh()
    start = ready.menus.actions["start"]
    assert start.text() == "Resume"
    ready.project.update(settings={"adapter": {"rank": 4}})
    assert start.text() == "Start Training"
