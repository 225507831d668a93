"""Render scenes into a folder, to look at:  python tests/app/render.py OUT [NAME...] [--small]

Every scene whose name contains one of the NAMEs (all without one), light and dark.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_SCALE_FACTOR"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

from PySide6.QtWidgets import QApplication
from scenes import SCENES
from stage import DEFAULT, SMALLEST, close, make, picture, play

from app.theme import prepare


def main(arguments: list[str]) -> None:
    """Render."""
    size = SMALLEST if "--small" in arguments else DEFAULT
    out, *names = [a for a in arguments if not a.startswith("--")]
    app = QApplication([])
    prepare(app)
    app.setQuitOnLastWindowClosed(False)
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, scene in SCENES.items():
        if names and not any(part in name for part in names):
            continue
        for mode in ("light", "dark"):
            with tempfile.TemporaryDirectory() as folder:
                application = make(Path(folder), mode)
                play(application, scene, size)
                picture(application).save(str(Path(out) / f"{name}-{mode}.png"))
                close(application)
                sys.stdout.write(f"{name}-{mode}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
