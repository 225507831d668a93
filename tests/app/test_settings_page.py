"""Settings: every one has an effect, is kept, and can be taken back; the welcome comes once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QProcess, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMessageBox

import app.pages.settings
from app.application import Application
from app.jobs import KeepAwake
from app.pages.settings import SettingsPage
from app.project import DataChoice, ModelChoice, ProjectStore
from app.settings import Settings, SettingsStore
from app.theme import theme
from app.widgets.welcome import Welcome

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot


@pytest.fixture
def page(application: Application) -> SettingsPage:
    application.window.show()
    application.window.go("settings")
    found = application.window.page
    assert isinstance(found, SettingsPage)
    found.leave.disconnect(application.window.go)  # where it leads is the window's business
    return found


def test_the_theme_changes_at_once(
    application: Application, page: SettingsPage, root: Path
) -> None:
    page.themes.buttons["dark"].click()
    assert theme.dark
    assert SettingsStore(root).value.theme == "dark"
    page.themes.buttons["light"].click()
    assert not theme.dark
    page.themes.buttons["system"].click()
    assert (theme.mode, application.settings.value.theme) == ("system", "system")


def test_staying_awake_reaches_the_queue(
    application: Application, page: SettingsPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.awake.setEnabled(True)
    page.awake.click()
    assert not application.settings.value.keep_awake
    started: list[str] = []
    monkeypatch.setattr(
        QProcess, "startDetached", lambda program, _arguments: started.append(program)
    )
    monkeypatch.setattr("app.jobs.sys.platform", "darwin")
    application.queue.awake.hold(1)
    assert started == []
    page.awake.click()
    application.queue.awake.hold(1)
    assert started == ["/usr/bin/caffeinate"]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can be kept awake")
def test_a_switch_that_could_do_nothing_is_off(page: SettingsPage) -> None:
    assert not page.awake.isEnabled()
    assert KeepAwake().wanted


def test_new_projects_begin_with_the_chosen_preset(
    application: Application, page: SettingsPage
) -> None:
    page.presets.buttons["thorough"].click()
    assert application.project.value.preset == "thorough"  # nothing was chosen in it yet
    application.project.update(model=ModelChoice("demo", "Storybook"))
    page.presets.buttons["quick"].click()
    assert application.project.value.preset == "thorough"
    application.menus.actions["new"].trigger()
    assert application.project.value.preset == "quick"


def test_the_first_project_of_a_start_has_it_too(root: Path, qtbot: QtBot) -> None:
    SettingsStore(root).update(preset="quick")
    made = Application(root)
    qtbot.addWidget(made.window)
    assert made.project.value.preset == "quick"


def test_the_memory_limit_is_what_the_forecast_takes(
    application: Application, page: SettingsPage, qtbot: QtBot
) -> None:
    assert page.share.text() == "27.0 of 27.0 GB"
    assert application.desk.memory_limit == 27 * 10**9
    page.memory.setFocus()
    for _ in range(5):
        QTest.keyClick(page.memory, Qt.Key.Key_Left)
    assert page.share.text() == "20.2 of 27.0 GB"
    qtbot.waitUntil(lambda: application.settings.value.memory_share == 0.75)
    assert application.desk.memory_limit == round(20.25 * 10**9)
    page.memory.setValue(0)
    assert page.memory.value() == 50


def test_the_forecast_says_another_verdict_with_another_limit(
    application: Application, page: SettingsPage
) -> None:
    """A card of the Model page that fits all of the memory is tight, or too large, for half."""
    from app.widgets.model_card import ModelCard

    application.window.go("model")
    application.tasks.wait()
    model = application.window.page

    def fits() -> list[str]:
        return [card.accessibleDescription() for card in model.findChildren(ModelCard)]

    before = fits()
    application.window.go("settings")
    page.memory.setValue(50)
    application.window.go("model")
    assert fits() != before
    assert before


def test_a_hand_on_the_slider_is_not_lost_by_another_change(
    application: Application, page: SettingsPage, root: Path
) -> None:
    page.memory.setValue(60)
    page.presets.buttons["quick"].click()
    assert page.memory.value() == 60
    assert SettingsStore(root).value.memory_share == 0.6
    page.memory.setValue(70)
    application.window.hide()
    assert SettingsStore(root).value.memory_share == 0.7


@pytest.mark.parametrize(
    ("name", "row", "none"),
    [
        ("models_folder", "models", "Only the Hugging Face cache"),
        ("exports_folder", "exports", "In the run’s own folder"),
    ],
)
def test_a_folder_is_chosen_and_cleared(
    page: SettingsPage, tmp_path: Path, name: str, row: str, none: str
) -> None:
    shown, settings = getattr(page, row), page.desk.settings
    assert shown.path.text() == none
    assert not shown.buttons["Clear"].isEnabled()
    shown.buttons["Choose…"].click()
    assert page.dialog is not None
    page.dialog.fileSelected.emit(str(tmp_path))
    page.dialog.close()
    assert getattr(settings.value, name) == str(tmp_path)
    assert shown.path.text().endswith(tmp_path.name)
    shown.buttons["Clear"].click()
    assert getattr(settings.value, name) == ""
    assert shown.path.text() == none


def test_the_data_folder_is_shown(
    page: SettingsPage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(app.pages.settings, "reveal", opened.append)
    assert page.data.path.text().endswith("home")
    next(iter(page.data.buttons.values())).click()
    assert opened == [root]


def test_reset_asks_and_takes_everything_back(application: Application, page: SettingsPage) -> None:
    application.settings.update(
        theme="dark", preset="quick", memory_share=0.5, keep_awake=False, models_folder="m",
        exports_folder="e", geometry="00", welcomed=True,
    )  # fmt: skip
    page.reset.click()
    assert isinstance(page.sheet, QMessageBox)
    QTest.keyClick(page.sheet, Qt.Key.Key_Escape)
    assert application.settings.value.preset == "quick"
    page.reset.click()
    next(b for b in page.sheet.buttons() if b.text() == "Reset Settings").click()
    assert application.settings.value == Settings(geometry="00", welcomed=True)
    assert page.memory.value() == 100
    assert page.share.text() == "27.0 of 27.0 GB"
    assert page.awake.isChecked()
    assert page.presets.buttons["balanced"].isChecked()
    assert theme.mode == "system"


def test_diagnostics_name_nobody(
    application: Application, page: SettingsPage, tmp_path: Path
) -> None:
    application.project.update(name="Secret", data=DataChoice(str(tmp_path), "Secret"))
    page.copy.click()
    text = QGuiApplication.clipboard().text()
    assert "Understudy" in text
    assert "Apple M3 Pro, 36 GB" in text
    assert "MLX" in text
    assert "Secret" not in text
    assert str(tmp_path) not in text
    assert page.banner.isVisible()


def test_done_leads_back(page: SettingsPage, qtbot: QtBot) -> None:
    assert page.primary().text == "Done"
    with qtbot.waitSignal(page.leave) as left:
        page.act()
    assert left.args == [""]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"theme": "pink"}', b'{"memory_share": 7}', b"\xff"]
)
def test_damaged_settings_are_those_of_the_first_day(root: Path, content: bytes) -> None:
    root.mkdir(parents=True)
    (root / "settings.json").write_bytes(content)
    assert SettingsStore(root).value == Settings()


# -- the welcome


@pytest.fixture
def fresh(root: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Application:
    """A first start; where the window goes is written down."""
    made = Application(root)
    qtbot.addWidget(made.window)
    monkeypatch.setattr(made, "_restored", lambda: "settings")
    return made


def _sheets(application: Application) -> list[Welcome]:
    return [w for w in application.window.findChildren(Welcome) if w.isVisible()]


def test_the_welcome_comes_once(fresh: Application, root: Path) -> None:
    fresh.start()
    (sheet,) = _sheets(fresh)
    QTest.keyClick(sheet, Qt.Key.Key_Escape)
    assert fresh.settings.value.welcomed
    assert SettingsStore(root).value.welcomed
    fresh.start()
    assert _sheets(fresh) == []


def test_the_welcome_s_buttons(fresh: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.start()
    did: list[str] = []
    monkeypatch.setattr(fresh.window, "go", did.append)
    (sheet,) = _sheets(fresh)
    sheet.begin.click()
    assert did == ["model"]
    assert fresh.settings.value.welcomed


def test_the_welcome_s_default_is_the_sample(fresh: Application) -> None:
    fresh.start()
    (sheet,) = _sheets(fresh)
    assert sheet.trial.isDefault()
    sheet.sample.disconnect(fresh.try_sample)
    did: list[bool] = []
    sheet.sample.connect(lambda: did.append(True))
    QTest.keyClick(sheet, Qt.Key.Key_Return)
    assert did == [True]
    assert _sheets(fresh) == []


def test_a_project_that_holds_something_keeps_its_preset(root: Path, qtbot: QtBot) -> None:
    ProjectStore(root).update(model=ModelChoice("demo", "Storybook"), preset="thorough")
    made = Application(root)
    qtbot.addWidget(made.window)
    made.settings.update(preset="quick")
    assert made.project.value.preset == "thorough"
