"""The window without a screen: one theme, one font, no blinking cursor, a machine that is always
the same, and a data root of the test's own."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["QT_SCALE_FACTOR"] = "1"

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from app import errors
from app.theme import prepare, theme

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.desk import Desk


@pytest.fixture(scope="session", autouse=True)
def _look(qapp: object) -> None:
    """As on every machine."""
    prepare(qapp)  # type: ignore[arg-type]
    QGuiApplication.styleHints().setCursorFlashTime(0)
    QGuiApplication.styleHints().setTabFocusBehavior(Qt.TabFocusBehavior.TabFocusAllControls)
    theme.apply("light")


@pytest.fixture(scope="module", autouse=True)
def _garbage() -> Iterator[None]:
    """Tests without a window collect garbage as Python does, not as `Tasks` does."""
    yield
    gc.collect()
    gc.enable()


@pytest.fixture(autouse=True)
def _clean(_look: None) -> Iterator[None]:
    """What a test closed is deleted, which Qt leaves to an event loop: a style sheet set anew
    is worked out for every widget there is, and it took 10 s with those of a hundred tests."""
    yield
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    theme.apply("light")


@pytest.fixture
def application(qtbot: QtBot, root: Path) -> Application:
    """The whole app on an empty data root, in light colours, not shown yet."""
    from stage import make

    made = make(root)
    # whatever could still speak is silenced while the window is there to hear it
    qtbot.addWidget(made.window, before_close_func=lambda _: _end(made))
    return made


def _end(made: Application) -> None:
    for box in list(errors._open):
        box.done(0)
    made.inspection.leave()
    made.downloads.leave()
    made.tray.leave()
    for job in list(made.queue.jobs):
        job.kill()
        job.wait(5)
    made.tasks.leave()


@pytest.fixture
def desk(application: Application) -> Desk:
    """What a page works with."""
    return application.desk
