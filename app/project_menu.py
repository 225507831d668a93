"""Projects in the menus: another one, a new one, another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QInputDialog

if TYPE_CHECKING:
    from pathlib import Path

    from PySide6.QtWidgets import QMenu

    from app.main_window import MainWindow
    from app.project import ProjectStore
    from app.settings import SettingsStore

_LISTED, _LONGEST = 12, 60


class ProjectMenu(QObject):
    """Fills menus with the saved projects; `opened` when another one is the open one."""

    opened = Signal()

    def __init__(self, window: MainWindow, project: ProjectStore, settings: SettingsStore) -> None:
        super().__init__()
        self._window, self._project, self._settings = window, project, settings

    def attach(self, menu: QMenu, *, whole: bool = False) -> None:
        """List the projects whenever the menu opens; `whole` with New and Rename."""
        menu.aboutToShow.connect(lambda: self._fill(menu, whole=whole))

    def new(self) -> None:
        """Begin another project; the one before stays as it is."""
        self._project.new(preset=self._settings.value.preset)
        self.opened.emit()

    def rename(self) -> None:
        """Ask for another name."""
        before = self._project.value.name
        name, good = QInputDialog.getText(self._window, "Rename Project", "Name:", text=before)
        if good and name.strip():
            self._project.update(name=name.strip()[:_LONGEST])

    def _fill(self, menu: QMenu, *, whole: bool) -> None:
        menu.clear()
        for file, project in self._project.list()[:_LISTED]:
            action = menu.addAction(project.name)
            action.setCheckable(True)
            action.setChecked(file == self._project.file)
            action.triggered.connect(lambda _=False, file=file: self._open(file))
        if whole:
            menu.addSeparator()
            menu.addAction("New Project").triggered.connect(self.new)
            menu.addAction("Rename…").triggered.connect(self.rename)

    def _open(self, file: Path) -> None:
        self._project.open(file)
        self.opened.emit()
