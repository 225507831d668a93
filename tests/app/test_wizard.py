"""The whole path by clicks, on the real worker and the demo model, to a verified export; and the
four clicks with a person's own things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QFileDialog

from mlx_lora.config import build_config
from mlx_lora.demo import PROMPTS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from PySide6.QtWidgets import QWidget
    from pytestqt.qtbot import QtBot

    from app.application import Application

_LONG = 90_000


class Person:
    """Somebody with a mouse: presses what can be seen and pressed, and counts."""

    def __init__(self, application: Application, qtbot: QtBot) -> None:
        self.window, self._qtbot, self.clicks = application.window, qtbot, 0

    def press(self, text: str, inside: QWidget | None = None) -> None:
        """The button of this text."""
        self._qtbot.waitUntil(lambda: self._find(text, inside) is not None, timeout=_LONG)
        button = self._find(text, inside)
        assert button is not None
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        self.clicks += 1

    def _find(self, text: str, inside: QWidget | None) -> QAbstractButton | None:
        found = (inside or self.window).findChildren(QAbstractButton)
        return next(
            (
                b
                for b in found
                if b.isVisible() and b.isEnabled()
                and text in (b.text(), b.accessibleName().split(",")[0])
            ),
            None,
        )  # fmt: skip


def test_from_sample_to_a_verified_file(
    application: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {
        "samples": {"prompts": list(PROMPTS[:1]), "tokens": 12},
        "training": {"steps": 12, "eval_every": 6, "sample_every": 6, "eval_rows": 8},
        "data": {"max_length": 64},
    }
    monkeypatch.setattr("app.application.demo_settings", lambda _: short)
    application.start()
    person = Person(application, qtbot)
    person.press("Try with Sample")
    person.press("Continue to Compare")
    assert application.progress.run is not None
    qtbot.waitUntil(lambda: application.progress.status == "finished", timeout=_LONG)
    state = application.progress.state
    assert state.step == 12
    assert len(state.samples) == 2
    assert state.validations[-1].loss < state.validations[0].loss

    page = application.window.page_of("compare")
    with qtbot.waitSignal(page.talk.answered, timeout=_LONG) as heard:
        person.press("Ask")
    exchange = heard.args[0]
    assert exchange.base.text
    assert exchange.adapted.text
    assert exchange.base.stop == exchange.adapted.stop == "length"
    person.press("Continue to Export")
    person.press("Export", application.window.centralWidget())
    qtbot.waitUntil(lambda: bool(application.progress.state.exports), timeout=_LONG)
    made = application.progress.state.exports[-1]
    assert made["format"] == "gguf"
    assert made["by"] == "llama.cpp"
    assert made["difference"]["top1"] > 0.9
    exported = list((application.progress.run.folder / "exports").rglob("*.gguf"))
    assert len(exported) == 1


def test_four_clicks_with_ones_own_things(
    application: Application, tiny_text: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model, Continue, the file, Train: every setting is filled in."""
    monkeypatch.setattr(QFileDialog, "open", lambda self: self.fileSelected.emit(str(tiny_text)))
    application.start()
    person = Person(application, qtbot)
    person.press("Storybook")
    person.press("Continue")
    person.press("Choose File…")
    person.press("Train Now")
    assert person.clicks == 4
    qtbot.waitUntil(lambda: application.progress.live, timeout=_LONG)
    assert application.window.current == "train"
    run = application.progress.run
    assert run is not None
    wanted = {"model": {"source": "demo"}, "data": {"source": run.record().config.data.source}}
    assert run.record().config == build_config(wanted)


def test_the_same_by_keyboard_alone(
    application: Application, tiny_text: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tab until it is there, Space to press it."""
    monkeypatch.setattr(QFileDialog, "open", lambda self: self.fileSelected.emit(str(tiny_text)))
    application.start()
    application.window.activateWindow()
    for name in ("Storybook", "Continue", "Choose File…", "Train Now"):
        qtbot.waitUntil(lambda name=name: _tab_to(application.window, name), timeout=_LONG)
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: application.progress.live, timeout=_LONG)
    assert application.window.current == "train"


def _tab_to(window: QWidget, name: str) -> bool:
    """Press Tab until the focus is on what is called so; False where it comes round without."""
    for _ in range(80):
        focus = QApplication.focusWidget()
        if focus is not None and focus.accessibleName().split(",")[0] == name:
            return True
        QTest.keyClick(focus or window, Qt.Key.Key_Tab)
    return False
