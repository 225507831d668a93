"""Settings, and the welcome of the first start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication

from app.pages.settings import unbroken
from app.widgets.welcome import Welcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application


def _show(application: Application) -> None:
    """The page; what differs from one machine to the next is written over."""
    application.window.go("settings")
    page = application.window.page
    page.data.say("~/Library/Application Support/Understudy")
    page.data.buttons[next(iter(page.data.buttons))].setText("Show in Finder")
    page.versions.text.setText(
        unbroken("Understudy 0.1.0 · MLX 0.32.4 · Qt 6.11.3 · Python 3.12.4")
    )


def _chosen(application: Application) -> None:
    application.settings.update(
        preset="thorough", memory_share=0.75, models_folder="/Volumes/Models/mlx",
        exports_folder="/Volumes/Models/exports",
    )  # fmt: skip
    _show(application)


def _reset(application: Application) -> None:
    _show(application)
    application.window.page.ask_to_reset()


def _welcome(application: Application) -> None:
    application.window.go("runs")
    Welcome(application.window, QGuiApplication.windowIcon()).open()


SCENES: dict[str, Callable[[Application], None]] = {
    "settings-general": _show,
    "settings-chosen": _chosen,
    "settings-reset": _reset,
    "settings-welcome": _welcome,
}
