"""The window around the pages: colours, font, start, steps, closing, quitting, what it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QColor, QDropEvent, QFontInfo
from PySide6.QtWidgets import QApplication, QMessageBox

from app.jobs import Job
from app.project import DataChoice, ModelChoice
from app.theme import DARK, LIGHT, PAIRS, Tokens, theme
from mlx_lora import jobs

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from app.application import Application


def _luminance(color: QColor) -> float:
    parts = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (color.redF(), color.greenF(), color.blueF())
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: QColor, other: QColor) -> float:
    """As WCAG 2 has it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_measured_right() -> None:
    assert contrast(QColor("white"), QColor("black")) == pytest.approx(21.0)
    assert contrast(QColor("#777777"), QColor("white")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("tokens", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("pair", PAIRS, ids=" on ".join)
def test_every_pair_can_be_read(tokens: Tokens, pair: tuple[str, str]) -> None:
    assert contrast(tokens.color(pair[0]), tokens.color(pair[1])) >= 4.5


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac keeps its own font")
def test_the_bundled_font_is_in_use(application: Application) -> None:
    assert QFontInfo(application.window.font()).family() == "Inter"


def test_starts_on_the_first_step(application: Application) -> None:
    application.start()
    steps = application.window.sidebar.stepper.steps
    assert application.window.current == "model"
    assert [s.isEnabled() for s in steps.values()] == [True, False, False, False, False, False]
    assert not application.window.back.isVisibleTo(application.window)


@pytest.mark.slow
def test_pages_are_made_ahead_while_nothing_happens(application: Application, qtbot: QtBot) -> None:
    application.start()
    assert list(application.window.pages) == ["model"]
    qtbot.waitUntil(lambda: len(application.window.pages) == 6, timeout=10_000)
    assert application.window.current == "model"


def test_a_step_unlocks_when_the_one_before_is_valid(application: Application) -> None:
    application.start()
    steps = application.window.sidebar.stepper.steps
    application.project.update(model=ModelChoice("demo", "Storybook"))
    assert steps["dataset"].isEnabled()
    assert not steps["configure"].isEnabled()
    facts = {"model": "demo", "training_rows": 9, "validation_rows": 1}
    application.project.update(data=DataChoice("demo", "Sample", facts))
    assert steps["configure"].isEnabled()
    assert "10 rows" in steps["dataset"].summary
    application.project.update(model=ModelChoice("other", "Another"))
    assert steps["dataset"].mark == "attention"
    assert application.project.value.data is not None  # nothing is deleted


def test_the_project_is_there_again(application: Application, root: Path, qtbot: QtBot) -> None:
    from stage import make

    application.start()
    application.project.update(name="Poems", model=ModelChoice("demo", "Storybook"))
    application.window.go("dataset")
    again = make(root)
    qtbot.addWidget(again.window)
    again.start()
    assert again.project.value.name == "Poems"
    assert again.window.current == "dataset"
    again.tasks.wait()


def test_a_file_dropped_anywhere_becomes_the_dataset(
    application: Application, tiny_text: Path, qtbot: QtBot
) -> None:
    application.project.update(model=ModelChoice("demo", "Storybook"))
    application.start()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tiny_text))])
    event = QDropEvent(
        QPoint(600, 300), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    application.window.dropEvent(event)
    assert application.window.current == "dataset"
    chosen = application.project.value.data
    qtbot.waitUntil(lambda: application.project.value.data is not None, timeout=5000)
    chosen = application.project.value.data
    assert chosen is not None
    assert chosen.source.endswith("play.txt")


def test_the_theme_changes_live(application: Application) -> None:
    application.start()
    application.settings.update(theme="dark")
    assert theme.tokens is DARK
    color = application.window.grab().toImage().pixelColor(700, 790)
    assert color.lightnessF() < 0.2
    application.settings.update(theme="light")
    assert application.window.grab().toImage().pixelColor(700, 790).lightnessF() > 0.8


class Sleeper(Job):
    """A worker that says hello and works until it is told to stop."""

    def command(self) -> list[str]:
        """Nothing of the engine."""
        code = (
            'import sys\nprint(\'{"type":"hello","pid":1}\', flush=True)\nsys.stdin.readline()\n'
            "for line in sys.stdin:\n    if 'stop' in line: break\n"
            'print(\'{"type":"finished","reason":"stopped"}\', flush=True)'
        )
        return [sys.executable, "-c", code]


@pytest.fixture
def at_work(application: Application, root: Path, qtbot: QtBot) -> Job:
    application.start()
    job = Sleeper(jobs.TrainJob(run=str(root / "runs" / "x"), root=str(root)), title="x")
    with qtbot.waitSignal(job.said, timeout=5000):
        application.queue.add(job)
    return job


def _answer(application: Application, text: str) -> None:
    sheet = application.leaving.sheet
    assert sheet is not None
    button = next(b for b in sheet.buttons() if b.text() == text)
    button.click()


def test_closing_while_it_trains_asks_and_keeps_training(
    application: Application, at_work: Job
) -> None:
    application.window.close()
    assert application.window.isVisible()
    _answer(application, "Keep Training")
    assert not application.window.isVisible()
    assert at_work.state == "running"
    application.show()
    assert application.window.isVisible()


def test_closing_can_be_thought_better_of(application: Application, at_work: Job) -> None:
    application.window.close()
    _answer(application, "Cancel")
    assert application.window.isVisible()
    assert at_work.state == "running"


def test_quitting_stops_and_saves_first(
    application: Application, at_work: Job, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(QApplication, "quit", lambda: ended.append(at_work.state))
    application.leaving.ask_to_quit()
    assert ended == []
    _answer(application, "Stop and Save")
    qtbot.waitUntil(lambda: ended == ["ended"], timeout=5000)
    assert isinstance(application.leaving.sheet, QMessageBox | None)


def test_quitting_with_nothing_at_work_asks_nothing(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(QApplication, "quit", lambda: ended.append(1))
    application.start()
    application.window.close()
    assert ended == [1]


def test_an_unhandled_error_is_shown_with_details(application: Application) -> None:
    from app import errors

    application.start()
    error = KeyError("lost")
    errors._unhandled(type(error), error, error.__traceback__)
    [box] = errors._open
    assert "KeyError" in box.detailedText()
    assert "untouched" in box.informativeText()
    box.done(0)


def test_diagnostics_name_nobody(application: Application, root: Path) -> None:
    application.start()
    application.menus.actions["diagnostics"].trigger()
    text = QApplication.clipboard().text()
    assert "Understudy" in text
    assert str(root) not in text


def _loaded(code: str, root: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={"QT_QPA_PLATFORM": "offscreen", "UNDERSTUDY_HOME": str(root), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    found: Any = json.loads(done.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in found}


def test_the_window_loads_no_engine(root: Path) -> None:
    """Started as a person starts it, every page shown once."""
    pages = ("model", "dataset", "configure", "train", "compare", "export", "runs", "settings")
    code = (
        "import sys, json\nfrom PySide6.QtCore import QTimer\n"
        "from PySide6.QtWidgets import QApplication\nfrom app import application as a\n"
        "start = a.Application.start\n"
        "def begin(self):\n    start(self)\n"
        f"    [self.window.go(key) for key in {pages!r}]\n"
        "    QTimer.singleShot(300, QApplication.quit)\n"
        "a.Application.start = begin\na.run()\nprint(json.dumps(sorted(sys.modules)))"
    )
    heavy = {"mlx", "mlx_lm", "transformers", "numpy", "tokenizers", "torch", "huggingface_hub"}
    assert not _loaded(code, root) & heavy


def test_a_project_of_another_version_is_left_alone(application: Application) -> None:
    application.project.update(name="One")
    file = application.project.file
    file.write_bytes(b'{"name": 3}')
    assert application.project.list() == []
    assert msgspec.json.decode(file.read_bytes()) == {"name": 3}


def test_without_a_screen_one_line_says_so(root: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("a Mac has a screen")
    environment = {"UNDERSTUDY_HOME": str(root), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app"], capture_output=True, text=True, timeout=60,
        check=False,
        env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error[no_screen]")
    assert len(done.stderr.splitlines()) == 1
