"""The last resort: an error nobody handled is said with Details and Copy, and the app goes on."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QMessageBox

from app.problems import Problem, internal_problem, problem_of
from mlx_lora.errors import UserError
from mlx_lora.storage import hide_home

if TYPE_CHECKING:
    from types import TracebackType

_open: list[QMessageBox] = []


def install() -> None:
    """Show what would otherwise end in a terminal nobody looks at."""
    sys.excepthook = _unhandled


def show_problem(problem: Problem) -> QMessageBox:
    """A dialog with Details and Copy; one at a time."""
    for box in _open:
        box.raise_()
        return box
    box = QMessageBox(QApplication.activeWindow())
    box.setIcon(QMessageBox.Icon.Warning)
    box.setText(problem.title)
    box.setInformativeText(problem.text)
    box.setDetailedText(problem.details)
    copy = box.addButton("Copy Details", QMessageBox.ButtonRole.ActionRole)
    copy.clicked.disconnect()
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(problem.details))
    box.addButton(QMessageBox.StandardButton.Ok)
    box.finished.connect(lambda _: _open.remove(box))
    _open.append(box)
    box.open()
    return box


def _unhandled(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        QApplication.quit()
        return
    text = hide_home("".join(traceback.format_exception(kind, error, trace)))
    sys.stderr.write(text)
    if QApplication.instance() is not None:
        found = problem_of(error) if isinstance(error, UserError) else internal_problem(text)
        show_problem(found)
