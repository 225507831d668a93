"""The composition root: the only file that knows them all."""

from __future__ import annotations

import importlib
import platform
import sys
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QObject
from PySide6.QtGui import QGuiApplication, QIcon
from PySide6.QtWidgets import QApplication, QInputDialog, QMessageBox

from app import errors
from app.desk import Desk
from app.jobs import JobQueue
from app.leaving import Leaving
from app.main_window import MainWindow
from app.menus import Menus
from app.models.inspection import Inspection
from app.models.run_progress import RunProgress
from app.models.run_row import named
from app.problems import problem_of
from app.project import DataChoice, ModelChoice, ProjectStore, build_run_config
from app.settings import SettingsStore
from app.steps import KEYS, facts_of, marks
from app.tasks import Tasks
from app.theme import prepare, theme
from app.training import Training
from app.tray import Tray
from app.words import summaries
from mlx_lora import __version__, blas
from mlx_lora.demo import demo_settings
from mlx_lora.errors import UserError
from mlx_lora.machine import this_machine
from mlx_lora.models.library import assets
from mlx_lora.runs import RunStore, default_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.pages.page import Page
    from mlx_lora.machine import Machine

# key -> (module, class); imported when first shown, so that the window is there at once
_PAGES = {
    "model": ("app.pages.model", "ModelPage"),
    "dataset": ("app.pages.dataset", "DatasetPage"),
    "configure": ("app.pages.configure", "ConfigurePage"),
    "train": ("app.pages.train", "TrainPage"),
    "compare": ("app.pages.compare", "ComparePage"),
    "export": ("app.pages.export", "ExportPage"),
    "runs": ("app.pages.runs", "RunsPage"),
    "settings": ("app.pages.settings", "SettingsPage"),
}


class Application(QObject):
    """Puts everything together below one data root, and connects it."""

    def __init__(self, root: Path, machine: Machine | None = None) -> None:
        super().__init__()
        self.settings, self.tasks = SettingsStore(root), Tasks()
        self.runs, self.queue = RunStore(root), JobQueue()
        self.project, self.progress = ProjectStore(root), RunProgress(self.tasks)
        self.training = Training(self.project, self.runs, self.queue, self.progress, self.tasks)
        self.inspection = Inspection(self.project, root, self.tasks)
        theme.apply(self.settings.value.theme)
        self.desk = Desk(
            project=self.project, settings=self.settings, runs=self.runs, queue=self.queue,
            progress=self.progress, training=self.training, inspection=self.inspection,
            tasks=self.tasks,
            machine=machine or this_machine(),
        )  # fmt: skip
        self.window = MainWindow(self._make_page)
        self.leaving = Leaving(self.window, self.queue)
        icon = QIcon(str(assets() / "icons" / "understudy.svg"))
        QGuiApplication.setWindowIcon(icon)
        self.tray = Tray(icon, self.show, self.leaving.ask_to_quit)
        self.menus = Menus(self.window, self._acts())
        self._run = self.project.value.run
        self._connect()

    def start(self) -> None:
        """Show the window where it was left."""
        if self.settings.value.geometry:
            self.window.restoreGeometry(
                QByteArray.fromHex(QByteArray(self.settings.value.geometry.encode()))
            )
        self.training.show(self.project.value.run)
        self.inspection.begin()
        self._refresh()
        self.window.go(self._restored())
        self.window.show()

    def show(self) -> None:
        """Bring the window back."""
        self.tray.window_is_back()
        self.window.show()
        self.window.raise_()
        self.window.activateWindow()

    def try_sample(self) -> None:
        """The whole path on what is bundled: no file, no network, two minutes."""
        if self.project.value.data or self.project.value.model:
            self.project.new("Sample")
        self.project.update(
            name="Sample",
            model=ModelChoice("demo", "Storybook", "bundled"),
            data=DataChoice("demo", "Shakespeare sample"),
            preset="demo",
            settings=demo_settings(blas.expected()),
        )
        self.training.start()

    def _make_page(self, key: str) -> Page:
        module, name = _PAGES[key]
        page: Page = getattr(importlib.import_module(module), name)(self.desk)
        sample = getattr(page, "sample", None)
        if sample is not None:
            sample.connect(self.try_sample)
        return page

    def _connect(self) -> None:
        self.project.changed.connect(self._project_changed)
        self.progress.changed.connect(self._refresh)
        self.progress.ended.connect(self._run_ended)
        self.queue.changed.connect(self._refresh)
        self.settings.changed.connect(self._apply_settings)
        self.training.started.connect(lambda: self.window.go("train"))
        self.training.failed.connect(self._not_started)
        self.tasks.failed.connect(lambda error: errors.show_problem(problem_of(error)))
        self.window.dropped.connect(self._dropped)
        self.window.shown.connect(self._remember_step)
        self.leaving.over.connect(self._end)
        self.menus.recent.aboutToShow.connect(self._list_projects)
        self.window.sidebar.menu.aboutToShow.connect(self._list_projects)
        self.queue.awake.wanted = self.settings.value.keep_awake

    def _acts(self) -> dict[str, Callable[[], object]]:
        return {
            "new": self._new_project, "rename": self._rename,
            "data": lambda: self._on_page("dataset", "choose"),
            "export": lambda: self.window.go("export"), "close": self.window.close,
            "settings": lambda: self.window.go("settings"), "about": self._about,
            "quit": self.leaving.ask_to_quit,
            "log": lambda: self._on_page("train", "show_log"),
            "start": self._start_or_proceed, "pause": self.training.pause,
            "stop": lambda: self._on_page("train", "ask_to_stop"),
            "sample": self.try_sample, "diagnostics": self._copy_diagnostics,
        }  # fmt: skip

    def _project_changed(self) -> None:
        project = self.project.value
        running = self.progress.run.name if self.progress.run else None
        if project.run != running:
            self.training.show(project.run)
        self._refresh()

    def _refresh(self) -> None:
        """Everything around the page, from the project and its run."""
        project, progress = self.project.value, self.progress
        facts = facts_of(progress, valid=self._valid())
        found = marks(project, facts)
        self.window.sidebar.project.setText(project.name)
        self.window.setWindowTitle(f"{project.name} – Understudy")
        self.window.say_steps(found, summaries(project, progress))
        running, status = self.queue.running, progress.status
        done, total = progress.state.step, progress.state.steps
        text = ("Paused" if status == "paused" else "Training") if progress.live else ""
        if running is not None and not text:
            text, done, total = f"At work: {named(running.title)[1]}", 0, 0
        waiting = len(self.queue.waiting)
        more = f" · {waiting} waiting" if waiting else ""
        self.window.sidebar.say_work(f"{text}{more}" if text else "", done, total)
        self.tray.say_progress(done if progress.live else 0, total)
        self.menus.say_training(
            can_start=found["configure"] in {"open", "done"},
            running=progress.live, paused=status == "paused",
        )  # fmt: skip

    def _valid(self) -> bool:
        project = self.project.value
        if project.model is None or project.data is None:
            return False
        try:
            build_run_config(project)
        except UserError:
            return False
        return True

    def _restored(self) -> str:
        step = self.project.value.step
        enabled = self.window.sidebar.stepper.steps
        return step if step in KEYS and enabled[step].isEnabled() else "model"

    def _remember_step(self, key: str) -> None:
        if key in KEYS:
            self.project.update(step=key)

    def _run_ended(self) -> None:
        name = self.project.value.name
        words = "Training is done" if self.progress.state.status == "finished" else "It stopped"
        self.tray.notify(name, words)
        self._refresh()

    def _not_started(self, error: UserError) -> None:
        self.window.page.show_error(problem_of(error))

    def _dropped(self, path: Path) -> None:
        self.window.go("dataset")
        self.window.page.take(path)  # type: ignore[attr-defined]

    def _on_page(self, key: str, act: str) -> None:
        """Go to a step and do something there, where the step is open."""
        if self.window.sidebar.stepper.steps[key].isEnabled():
            self.window.go(key)
            getattr(self.window.page, act)()

    def _start_or_proceed(self) -> None:
        status = self.progress.status
        if status == "paused":
            self.training.proceed()
        elif status in {"stopped", "interrupted"} and self.progress.run is not None:
            self.training.resume(self.progress.run)
            self._refresh()
        elif not self.progress.live:
            self.training.start()

    def _new_project(self) -> None:
        self.project.new(preset=self.settings.value.preset)
        self.window.go("model")

    def _rename(self) -> None:
        before = self.project.value.name
        name, good = QInputDialog.getText(self.window, "Rename Project", "Name:", text=before)
        if good and name.strip():
            self.project.update(name=name.strip()[:60])

    def _list_projects(self) -> None:
        for menu in (self.menus.recent, self.window.sidebar.menu):
            menu.clear()
            for file, project in self.project.list()[:12]:
                action = menu.addAction(project.name)
                action.setCheckable(True)
                action.setChecked(file == self.project.file)
                action.triggered.connect(lambda _=False, file=file: self._open_project(file))
        menu = self.window.sidebar.menu
        menu.addSeparator()
        menu.addAction("New Project").triggered.connect(self._new_project)
        menu.addAction("Rename…").triggered.connect(self._rename)

    def _open_project(self, file: Path) -> None:
        self.project.open(file)
        self.window.go(self._restored())

    def _apply_settings(self) -> None:
        if self.settings.value.theme != theme.mode:
            theme.apply(self.settings.value.theme)
        self.queue.awake.wanted = self.settings.value.keep_awake

    def _about(self) -> None:
        QMessageBox.about(
            self.window, "About Understudy",
            f"Understudy {__version__}\n\nTeach a small language model a new part on your own "
            "Mac. Nothing leaves it.\n\nApache-2.0",
        )  # fmt: skip

    def _copy_diagnostics(self) -> None:
        """Versions and states; no path, no name of a person, no row of data."""
        machine = self.desk.machine
        lines = (
            f"Understudy {__version__}", platform.platform(), f"Python {sys.version.split()[0]}",
            f"{machine.name}, {machine.memory / 1e9:.0f} GB, Metal: {machine.metal}",
            f"run: {self.progress.status}, step {self.progress.state.step}",
            *(f"{n.level} {n.code}" for n in self.progress.notices),
        )  # fmt: skip
        QGuiApplication.clipboard().setText("\n".join(lines))

    def _end(self) -> None:
        geometry = bytes(self.window.saveGeometry().toHex().data()).decode()
        self.settings.update(geometry=geometry)
        self.inspection.leave()
        self.tasks.wait()
        QApplication.quit()


def run() -> int:
    """Open the window; returns when the person is gone."""
    app = QApplication(sys.argv[:1])
    app.setApplicationName("Understudy")
    app.setApplicationDisplayName("Understudy")
    app.setQuitOnLastWindowClosed(False)
    prepare(app)
    errors.install()
    root = default_root()
    root.mkdir(parents=True, exist_ok=True)
    application = Application(root)
    application.start()
    return app.exec()
