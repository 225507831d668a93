"""What helps somebody else to find a fault: versions and states; no path, no name, no row."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import TYPE_CHECKING

import PySide6
from PySide6.QtWidgets import QMessageBox

from app.models.engine_report import line
from mlx_lora import __version__

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.desk import Desk


def versions() -> str:
    """In one line: ours, the engine's, the window's, the language's."""
    try:
        engine = f"MLX {importlib.metadata.version('mlx')}"
    except importlib.metadata.PackageNotFoundError:
        engine = "MLX is missing"
    python = sys.version.split()[0]
    return f"Understudy {__version__} · {engine} · Qt {PySide6.__version__} · Python {python}"


def diagnostics(desk: Desk) -> str:
    """The lines of Copy Diagnostics."""
    machine, progress = desk.machine, desk.progress
    lines = (
        versions(), platform.platform(),
        f"{machine.name}, {machine.memory / 1e9:.0f} GB, Metal: {machine.metal}",
        f"run: {progress.status}, step {progress.state.step}",
        *(f"engine: {forms}" for forms in (line(progress.beside.engine),) if forms),
        *(f"{notice.level} {notice.code}" for notice in progress.notices),
    )  # fmt: skip
    return "\n".join(lines)


def show_about(parent: QWidget) -> None:
    """What this is, in three lines."""
    words = "Teach a small language model a new part on your own Mac. Nothing leaves it."
    QMessageBox.about(parent, "About Understudy", f"{versions()}\n\n{words}\n\nApache-2.0")
