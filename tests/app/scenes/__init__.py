"""Scenes: the window brought into one state, with invented data, the same on every machine.

One module a page; each has `SCENES`, name -> function of the application. A scene starts no worker
and reads no clock: what jobs would say is fed in as events. Rendered by `render.py`, compared with
the pictures in `golden/`, and walked through for names, clipped words and the keyboard.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application

    Scene = Callable[[Application], None]

_PAGES = ("model", "hub", "dataset", "configure", "train", "compare", "export", "runs", "settings")


def _collect() -> dict[str, Scene]:
    found: dict[str, Scene] = {}
    for page in _PAGES:
        if importlib.util.find_spec(f"scenes.{page}") is not None:
            found.update(importlib.import_module(f"scenes.{page}").SCENES)
    return found


SCENES = _collect()
