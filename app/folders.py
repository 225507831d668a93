"""Showing a file where it lies, in the system's own file browser."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from PySide6.QtCore import QProcess, QUrl
from PySide6.QtGui import QDesktopServices

if TYPE_CHECKING:
    from pathlib import Path

SHOW = "Show in Finder" if sys.platform == "darwin" else "Show in Folder"


def reveal(path: Path) -> None:
    """Open the folder a file or folder lies in, with it selected where the system can do that."""
    if sys.platform == "darwin":
        QProcess.startDetached("/usr/bin/open", ["-R", str(path)])
    else:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(path if path.is_dir() else path.parent)))
