"""A window for pictures: everything that differs from one machine to the next is fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect
from PySide6.QtGui import QColor, QCursor, QEnterEvent, QPainter
from PySide6.QtWidgets import QApplication, QDialog

from app.application import Application
from app.settings import SettingsStore
from app.theme import theme
from mlx_lora.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from PySide6.QtGui import QImage
    from scenes import Scene

MAC = Machine("Apple M3 Pro", 36 * 10**9, 27 * 10**9, True)
DEFAULT, SMALLEST = (1280, 800), (1080, 680)


def make(root: Path, mode: str = "light") -> Application:
    """The app on an empty data root."""
    SettingsStore(root).update(theme=mode, welcomed=True)
    return Application(root, MAC)


def play(application: Application, scene: Scene, size: tuple[int, int] = DEFAULT) -> None:
    """Bring the window into a scene's state and let it settle."""
    application.window.resize(*size)
    application.start()
    scene(application)
    QCursor.setPos(QPoint(0, 0))
    for _ in range(3):
        application.tasks.wait()
        QApplication.sendPostedEvents()
        QApplication.processEvents()
    focus = QApplication.focusWidget()
    if focus is not None:
        focus.clearFocus()
    away = QPointF(-10, -10)
    QApplication.sendEvent(application.window, QEnterEvent(away, away, away))
    QApplication.sendEvent(application.window, QEvent(QEvent.Type.Leave))
    QApplication.processEvents()


def picture(application: Application) -> QImage:
    """What is seen, at one pixel a point; a sheet lies over the middle of its window."""
    seen = application.window.grab().toImage()
    for sheet in application.window.findChildren(QDialog):
        if sheet.isVisible():
            over = sheet.grab()
            place = QRect(QPoint(0, 0), over.size())
            place.moveCenter(seen.rect().center())
            painter = QPainter(seen)
            painter.fillRect(seen.rect(), QColor(0, 0, 0, 60))
            painter.drawPixmap(place.topLeft(), over)
            painter.setPen(theme.tokens.color("strong"))  # the frame a system gives it
            painter.drawRect(place.adjusted(-1, -1, 0, 0))
            painter.end()
    return seen


def close(application: Application) -> None:
    """End what a scene left."""
    application.queue.leave()
    application.inspection.leave()
    application.downloads.leave()
    application.tray.leave()
    application.tasks.leave()
    application.window.hide()
    application.window.deleteLater()
    theme.apply("light")
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
