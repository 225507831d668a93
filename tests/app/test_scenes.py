"""Every scene: as its picture, nothing clipped, everything named, all of it by keyboard.

`GOLDEN=write pytest -m 'slow or not slow' -k looks tests/app/test_scenes.py` makes the pictures
anew, after somebody looked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QByteArray, QSize, Qt
from PySide6.QtGui import QAccessible, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QScrollBar,
    QTextEdit,
    QWidget,
)
from scenes import SCENES
from stage import SMALLEST, close, make, picture, play

from app.widgets.label import ElidedLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.application import Application

    Play = Callable[..., Application]

GOLDEN = Path(__file__).with_name("golden")
# one or two of each page are kept as pictures, in the fast suite light and dark in turns; the
# others are looked at with render.py
KEPT = (
    "model-first", "model-chosen", "model-results", "model-downloading", "model-gated",
    "model-broken", "model-offline", "dataset-empty", "dataset-ready", "dataset-tokens",
    "dataset-broken", "dataset-columns", "dataset-figures",
    "configure-ready", "train-running", "train-killed", "train-done", "compare-done",
    "export-ready", "export-done", "runs-library", "settings-general",
)  # fmt: skip
_SHARE, _STEP = 0.001, 8
_INTERACTIVE = (
    QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit,
    QTextEdit, QAbstractItemView, QProgressBar,
)  # fmt: skip


@pytest.fixture
def on_stage(root: Path) -> Iterator[Play]:
    """Play a scene; whatever it left is cleared away."""
    made: list[Application] = []

    def show(name: str, mode: str = "light", size: tuple[int, int] = (1280, 800)) -> Application:
        application = make(root, mode)
        made.append(application)
        play(application, SCENES[name], size)
        return application

    yield show
    for application in made:
        close(application)


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac has its own font")
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=() if (number + at) % 2 == 0 else pytest.mark.slow)
        for number, name in enumerate(KEPT)
        for at, mode in enumerate(("light", "dark"))
    ],
)
def test_looks_as_it_was_seen(on_stage: Play, name: str, mode: str, tmp_path: Path) -> None:
    seen, file = picture(on_stage(name, mode)), GOLDEN / f"{name}-{mode}.png"
    if os.environ.get("GOLDEN") == "write":
        plain = seen.convertToFormat(QImage.Format.Format_RGB888)
        assert plain.save(str(file), "PNG", 0)  # 0: smallest
        return
    wanted = QImage(str(file))
    assert not wanted.isNull(), f"there is no {file.name}: render it, look at it, keep it"
    share = difference(seen, wanted)
    if share > _SHARE:
        seen.save(str(tmp_path / "seen.png"))
    assert share <= _SHARE, f"{share:.2%} of the pixels are others: {tmp_path / 'seen.png'}"


def difference(one: QImage, other: QImage) -> float:
    """Share of pixels that differ by more than 8 of 255 in a channel."""
    if one.size() != other.size():
        return 1.0
    a, b = (_bytes(image) for image in (one, other))
    if a == b:
        return 0.0
    pixels, width = 0, 3
    for at in range(0, len(a), width * 4096):
        left, right = a[at : at + width * 4096], b[at : at + width * 4096]
        if left != right:
            pixels += sum(
                any(abs(left[i + c] - right[i + c]) > _STEP for c in range(width))
                for i in range(0, len(left), width)
            )
    return pixels / (len(a) / width)


def _bytes(image: QImage) -> bytes:
    plain = image.convertToFormat(QImage.Format.Format_RGB888)
    return bytes(QByteArray(bytes(plain.constBits())).data())


def test_another_picture_is_noticed() -> None:
    one = QImage(QSize(64, 64), QImage.Format.Format_RGB888)
    one.fill(Qt.GlobalColor.white)
    other = one.copy()
    assert difference(one, other) == 0.0
    other.setPixelColor(3, 3, Qt.GlobalColor.black)
    assert difference(one, other) == pytest.approx(1 / 4096)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in KEPT else pytest.mark.slow) for name in sorted(SCENES)],
)
def test_everything_at_the_smallest_size(on_stage: Play, name: str) -> None:
    """No word is clipped, everything one can act on has a name, Tab reaches it and comes round."""
    window: QWidget = on_stage(name, "light", SMALLEST).window
    window = QApplication.activeModalWidget() or window  # a sheet keeps the keyboard to itself
    widgets = [w for w in window.findChildren(QWidget) if w.isVisible()]
    assert [_where(w) for w in widgets if _is_clipped(w)] == []
    assert [_where(w) for w in widgets if _is_nameless(w)] == []
    reached = _walk(window)
    wanted = {w for w in widgets if _takes_tab(w)}
    assert sorted(_where(w) for w in wanted - reached) == []


def _is_clipped(widget: QWidget) -> bool:
    if not isinstance(widget, QLabel) or isinstance(widget, ElidedLabel) or not widget.text():
        return False
    if widget.wordWrap():
        return widget.height() < widget.heightForWidth(widget.width())
    return widget.width() < widget.minimumSizeHint().width()


def _is_nameless(widget: QWidget) -> bool:
    if not isinstance(widget, _INTERACTIVE) or isinstance(widget, QScrollBar):
        return False
    if widget.objectName().startswith("qt_") or isinstance(widget.parent(), QAbstractSpinBox):
        return False
    interface = QAccessible.queryAccessibleInterface(widget)
    return not interface.text(QAccessible.Text.Name).strip()


def _takes_tab(widget: QWidget) -> bool:
    takes = bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) and widget.isEnabled()
    return takes and isinstance(widget, _INTERACTIVE) and widget.focusProxy() is None


def _walk(window: QWidget) -> set[QWidget]:
    """Everything Tab comes to, once round."""
    window.activateWindow()
    window.setFocus()
    seen: list[QWidget] = []
    QTest.keyClick(window, Qt.Key.Key_Tab)
    for _ in range(400):
        focus = QApplication.focusWidget()
        if focus is None or focus in seen:
            break
        seen.append(focus)
        QTest.keyClick(focus, Qt.Key.Key_Tab)
    return set(seen)


def _where(widget: QWidget) -> str:
    name = widget.accessibleName() or (widget.text() if isinstance(widget, QLabel) else "")
    return f"{type(widget).__name__} {name or widget.objectName()}".strip()
