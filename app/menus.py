"""The menu bar and its shortcuts, with the roles a Mac expects; the same actions on Linux."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QApplication

from app.steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QMenu, QMenuBar

    from app.main_window import MainWindow

Act = Any
_Role = QAction.MenuRole


class Menus:
    """Builds the menus; `actions` by name, for switching them on and off."""

    def __init__(self, window: MainWindow, acts: dict[str, Callable[[], object]]) -> None:
        self._window, self._acts = window, acts
        self.actions: dict[str, QAction] = {}
        bar = window.menuBar()
        self._file(bar)
        self._edit(bar)
        self._view(bar)
        self._train(bar)
        self._windows(bar)

    def say_training(
        self, *, can_start: bool, running: bool, paused: bool, resumable: bool
    ) -> None:
        """What Train can do now."""
        self.actions["start"].setEnabled(can_start or paused)
        self.actions["start"].setText("Resume" if paused or resumable else "Start Training")
        self.actions["pause"].setEnabled(running and not paused)
        self.actions["stop"].setEnabled(running)

    def _file(self, bar: QMenuBar) -> None:
        menu = bar.addMenu("File")
        self._add(menu, "new", "New Project", QKeySequence.StandardKey.New)
        self.recent = menu.addMenu("Open Project")
        self._add(menu, "rename", "Rename Project…")
        self._add(menu, "data", "Choose Dataset…", QKeySequence.StandardKey.Open)
        menu.addSeparator()
        self._add(menu, "export", "Export…", "Ctrl+E")
        menu.addSeparator()
        self._add(menu, "close", "Close Window", QKeySequence.StandardKey.Close)
        self._add(menu, "settings", "Settings…", "Ctrl+,", role=_Role.PreferencesRole)
        self._add(menu, "about", "About Understudy", role=_Role.AboutRole)
        self._add(menu, "quit", "Quit Understudy", "Ctrl+Q", role=_Role.QuitRole)

    def _edit(self, bar: QMenuBar) -> None:
        menu = bar.addMenu("Edit")
        keys = QKeySequence.StandardKey
        for name, text, key in (
            ("undo", "Undo", keys.Undo), ("redo", "Redo", keys.Redo), ("cut", "Cut", keys.Cut),
            ("copy", "Copy", keys.Copy), ("paste", "Paste", keys.Paste),
            ("selectAll", "Select All", keys.SelectAll),
        ):  # fmt: skip
            self._add(menu, name, text, key, act=partial(_on_focus, name))

    def _view(self, bar: QMenuBar) -> None:
        menu = bar.addMenu("View")
        for number, (key, title) in enumerate(STEPS, start=1):
            self._add(menu, key, title, f"Ctrl+{number}", act=partial(self._go, key))
        menu.addSeparator()
        self._add(menu, "runs", "Runs", "Ctrl+Shift+R", act=lambda: self._window.go("runs"))
        self._add(menu, "log", "Show Log", "Ctrl+L")
        menu.addSeparator()
        self._add(
            menu, "full", "Enter Full Screen", QKeySequence.StandardKey.FullScreen,
            act=self._toggle_full,
        )  # fmt: skip

    def _train(self, bar: QMenuBar) -> None:
        menu = bar.addMenu("Train")
        self._add(menu, "start", "Start Training", "Ctrl+R")
        self._add(menu, "pause", "Pause")
        self._add(menu, "stop", "Stop…", "Ctrl+.")
        menu.addSeparator()
        self._add(menu, "sample", "Try with Sample")

    def _windows(self, bar: QMenuBar) -> None:
        menu = bar.addMenu("Window")
        self._add(menu, "minimize", "Minimize", "Ctrl+M", act=self._window.showMinimized)
        self._add(menu, "zoom", "Zoom", act=self._window.showMaximized)
        menu = bar.addMenu("Help")
        self._add(menu, "diagnostics", "Copy Diagnostics")

    def _add(
        self,
        menu: QMenu,
        name: str,
        text: str,
        keys: Any = None,
        *,
        role: QAction.MenuRole = _Role.NoRole,
        act: Callable[[], object] | None = None,
    ) -> None:
        action = QAction(text, self._window)
        action.setMenuRole(role)
        if keys is not None:
            action.setShortcut(QKeySequence(keys))
        chosen = act or self._acts[name]
        action.triggered.connect(lambda _=False: chosen())
        menu.addAction(action)
        self.actions[name] = action

    def _go(self, key: str) -> None:
        if self._window.sidebar.stepper.steps[key].isEnabled():
            self._window.go(key)

    def _toggle_full(self) -> None:
        if self._window.isFullScreen():
            self._window.showNormal()
        else:
            self._window.showFullScreen()


def _on_focus(name: str) -> None:
    """Cut, copy, undo: what the widget with the focus can do of it."""
    act = getattr(QApplication.focusWidget(), name, None)
    if callable(act):
        act()
