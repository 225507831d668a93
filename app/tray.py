"""Signs outside the window: the Dock's badge, a word when training ends, the way back in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QMenu, QSystemTrayIcon

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QIcon


class Tray(QObject):
    """Brings the window back from the menu bar, the Dock, or a click on the icon."""

    def __init__(
        self, icon: QIcon, show: Callable[[], object], quit_app: Callable[[], object]
    ) -> None:
        super().__init__()
        self._show, self._percent, self._over = show, 0, False
        self._menu = QMenu()
        self._menu.addAction("Open Understudy").triggered.connect(show)
        self._menu.addAction("Quit").triggered.connect(quit_app)
        self._icon = QSystemTrayIcon(icon, self)
        self._icon.setContextMenu(self._menu)
        self._icon.activated.connect(lambda _: show())
        QGuiApplication.instance().applicationStateChanged.connect(self._activated)  # type: ignore[union-attr]

    def say_progress(self, done: int, total: int) -> None:
        """Percent on the Dock's icon; 0 takes it away."""
        percent = round(100 * done / total) if total else 0
        if percent != self._percent:
            self._percent = percent
            QGuiApplication.instance().setBadgeNumber(percent)  # type: ignore[union-attr]

    def hide_window(self) -> None:
        """The window went away while work goes on: leave a way back."""
        if QSystemTrayIcon.isSystemTrayAvailable():
            self._icon.show()

    def window_is_back(self) -> None:
        """No need for the icon any more."""
        self._icon.hide()

    def notify(self, title: str, text: str) -> None:
        """A word for somebody who does something else."""
        if QApplication.activeWindow() is None and QSystemTrayIcon.supportsMessages():
            self._icon.show()
            self._icon.showMessage(title, text)

    def leave(self) -> None:
        """The app ends: nothing is brought back any more."""
        self._over = True
        self._icon.hide()

    def _activated(self, state: Qt.ApplicationState) -> None:
        """A click on the Dock's icon activates an app that has no window."""
        if state == Qt.ApplicationState.ApplicationActive and not self._over:
            windows = [w for w in QApplication.topLevelWidgets() if w.isVisible()]
            if not windows:
                self._show()
