"""The composition root: the only file that knows them all."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QObject
from PySide6.QtGui import QGuiApplication, QIcon
from PySide6.QtWidgets import QApplication

from app import errors
from app.desk import Desk
from app.diagnostics import diagnostics, show_about
from app.jobs import JobQueue
from app.leaving import Leaving
from app.main_window import MainWindow
from app.menus import Menus
from app.models.downloads import Downloads
from app.models.inspection import Inspection
from app.models.run_progress import RunProgress
from app.problems import problem_of
from app.project import DataChoice, ModelChoice, ProjectStore, is_blank
from app.project_menu import ProjectMenu
from app.settings import SettingsStore
from app.steps import KEYS
from app.surroundings import Surroundings
from app.tasks import Tasks
from app.theme import prepare, theme
from app.training import Training
from app.tray import Tray
from app.widgets.welcome import Welcome
from mlx_lora import blas
from mlx_lora.demo import demo_settings
from mlx_lora.errors import UserError
from mlx_lora.machine import check_system, this_machine, this_system
from mlx_lora.models.library import assets
from mlx_lora.runs import RunStore, default_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.pages.page import Page
    from mlx_lora.machine import Machine, System

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

    def __init__(
        self, root: Path, machine: Machine | None = None, system: System | None = None
    ) -> None:
        super().__init__()
        self.settings, self.tasks = SettingsStore(root), Tasks()
        self.runs, self.queue = RunStore(root), JobQueue()
        self.project, self.progress = ProjectStore(root), RunProgress(self.tasks)
        self.training = Training(self.project, self.runs, self.queue, self.progress, self.tasks)
        self.inspection = Inspection(self.project, root, self.tasks)
        self.downloads = Downloads(root, self.tasks, self.queue.awake)
        theme.apply(self.settings.value.theme)
        self.desk = Desk(
            project=self.project, settings=self.settings, runs=self.runs, queue=self.queue,
            progress=self.progress, training=self.training, inspection=self.inspection,
            downloads=self.downloads, tasks=self.tasks,
            machine=machine or this_machine(),
        )  # fmt: skip
        self.window = MainWindow(self._make_page)
        self.leaving = Leaving(self.window, self.queue)
        icon = QIcon(str(assets() / "icons" / "understudy.svg"))
        QGuiApplication.setWindowIcon(icon)
        self.tray = Tray(icon, self.show, self.leaving.ask_to_quit)
        self.projects = ProjectMenu(self.window, self.project, self.settings)
        self.menus = Menus(self.window, self._acts())
        self._around = Surroundings(self.desk, self.window, self.menus, self.tray)
        self._connect()
        self._check(system or this_system())

    def start(self) -> None:
        """Show the window where it was left."""
        if self.settings.value.geometry:
            self.window.restoreGeometry(
                QByteArray.fromHex(QByteArray(self.settings.value.geometry.encode()))
            )
        self.training.show(self.project.value.run)
        self.inspection.begin()
        self._around.refresh()
        self.window.go(self._restored())
        self.window.show()
        self.window.build_ahead(lambda: self.queue.running is not None)
        if not self.settings.value.welcomed:
            self._welcome()

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

    def _check(self, system: System) -> None:
        """Say at once where MLX does not run at all, and not when training is to begin."""
        try:
            check_system(system)
        except UserError as error:
            problem = problem_of(error)
            text = f"{problem.text} You can look around; nothing can be trained or asked here."
            self.window.say_notice(problem.title, text)

    def _make_page(self, key: str) -> Page:
        module, name = _PAGES[key]
        page: Page = getattr(importlib.import_module(module), name)(self.desk)
        sample = getattr(page, "sample", None)
        if sample is not None:
            sample.connect(self.try_sample)
        return page

    def _connect(self) -> None:
        self.project.changed.connect(self._project_changed)
        self.progress.changed.connect(self._around.refresh)
        self.progress.ended.connect(self._run_ended)
        self.queue.changed.connect(self._around.refresh)
        self.downloads.changed.connect(self._around.say_work)
        self.settings.changed.connect(self._apply_settings)
        self.training.started.connect(lambda: self.window.go("train"))
        self.training.failed.connect(self._not_started)
        self.tasks.failed.connect(lambda error: errors.show_problem(problem_of(error)))
        self.window.dropped.connect(self._dropped)
        self.window.shown.connect(self._remember_step)
        self.leaving.hidden.connect(self.tray.hide_window)
        self.leaving.over.connect(self._end)
        self.projects.opened.connect(lambda: self.window.go(self._restored()))
        self.projects.attach(self.menus.recent)
        self.projects.attach(self.window.sidebar.menu, whole=True)
        self._apply_settings()

    def _welcome(self) -> None:
        """Three lines for the first minute, once."""
        sheet = Welcome(self.window, QGuiApplication.windowIcon())
        sheet.sample.connect(self.try_sample)
        sheet.model.connect(lambda: self.window.go("model"))
        sheet.finished.connect(lambda _: self.settings.update(welcomed=True))
        sheet.open()

    def _acts(self) -> dict[str, Callable[[], object]]:
        return {
            "new": self.projects.new, "rename": self.projects.rename,
            "data": lambda: self._on_page("dataset", "choose"),
            "export": lambda: self.window.go("export"), "close": self.window.close,
            "settings": lambda: self.window.go("settings"),
            "about": lambda: show_about(self.window), "quit": self.leaving.ask_to_quit,
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
        self._around.refresh()

    def _restored(self) -> str:
        step = self.project.value.step
        enabled = self.window.sidebar.stepper.steps
        return step if step in KEYS and enabled[step].isEnabled() else "model"

    def _remember_step(self, key: str) -> None:
        if key in KEYS:
            self.project.update(step=key)

    def _run_ended(self) -> None:
        name = self.project.value.name
        done = self.progress.state.status == "finished"
        words = "Training is done" if done else "It stopped"
        self.tray.notify(name, words)
        self._around.refresh()

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
        run = self.progress.run
        if self.progress.status == "paused":
            self.training.proceed()
        elif self.training.resumable and run is not None:
            self.training.resume(run)
            self._around.refresh()
        elif not self.progress.live:
            self.training.start()

    def _apply_settings(self) -> None:
        if self.settings.value.theme != theme.mode:
            theme.apply(self.settings.value.theme)
        self.queue.awake.wanted = self.settings.value.keep_awake
        if is_blank(self.project.value):
            self.project.update(preset=self.settings.value.preset)

    def _copy_diagnostics(self) -> None:
        QGuiApplication.clipboard().setText(diagnostics(self.desk))

    def _end(self) -> None:
        geometry = bytes(self.window.saveGeometry().toHex().data()).decode()
        self.settings.update(geometry=geometry)
        self.inspection.leave()
        self.downloads.leave()
        self.tray.leave()
        self.tasks.leave()
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
