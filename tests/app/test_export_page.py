"""Export by its buttons: offered, ordered, replaced, stopped, retried; and once for real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMessageBox
from scenes import export as scenes

from app.jobs import Job
from app.project import DataChoice, ModelChoice
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.pages.export import ExportPage

ROOT = Path(__file__).parents[2]


class Silent(Job):
    """A worker that does what the test says of it."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def page(application: Application, monkeypatch: pytest.MonkeyPatch) -> ExportPage:
    """A trained run of a large model; no worker is a real one."""
    monkeypatch.setattr("app.models.exports.Job", Silent)
    application.start()
    made = scenes._planned(application)
    trained: Any = application.desk.progress
    made.exports.trained = _trained(trained.run.folder)
    return made


def _trained(folder: Path) -> Any:
    from mlx_lora.config import ModelConfig
    from mlx_lora.trained import Trained

    return Trained(ModelConfig(source="demo"), str(folder / "adapter"), None)


def _jobs(application: Application) -> list[jobs.ExportJob]:
    return [job.what for job in application.queue.jobs if isinstance(job.what, jobs.ExportJob)]


def test_one_click_makes_the_advised_file(
    application: Application, page: ExportPage, qtbot: QtBot, tmp_path: Path
) -> None:
    application.settings.update(exports_folder=str(tmp_path / "out"))
    assert page.exports.chosen == {"gguf"}
    qtbot.mouseClick(application.window.primary, Qt.MouseButton.LeftButton)
    [ordered] = _jobs(application)
    assert (ordered.format, ordered.quant) == ("gguf", "q4_k_m")
    assert Path(ordered.out) == tmp_path / "out" / "support-tickets" / "gguf-q4_k_m"
    assert not ordered.overwrite
    assert page.state == "running"
    assert not application.window.primary.isEnabled()


def test_several_go_one_after_the_other(
    application: Application, page: ExportPage, qtbot: QtBot
) -> None:
    qtbot.mouseClick(page.cards["peft"].box, Qt.MouseButton.LeftButton)
    assert application.window.primary.text() == "Export 2 Formats"
    combo = page.cards["gguf"].combo
    combo.setCurrentIndex(combo.findData("q8_0"))
    combo.activated.emit(combo.currentIndex())
    page.act()
    first, second = _jobs(application)
    assert (first.format, first.quant, second.format) == ("peft", "", "gguf")
    assert second.quant == "q8_0"
    assert [job.state for job in application.queue.jobs] == ["running", "waiting"]


def test_what_is_there_is_replaced_only_when_that_is_wanted(
    application: Application, page: ExportPage, tmp_path: Path
) -> None:
    application.settings.update(exports_folder=str(tmp_path))
    (tmp_path / "support-tickets" / "gguf-q4_k_m").mkdir(parents=True)
    page.act()
    assert _jobs(application) == []
    sheet = application.window.findChild(QMessageBox)
    assert sheet is not None
    next(b for b in sheet.buttons() if b.text() == "Replace").click()
    [ordered] = _jobs(application)
    assert ordered.overwrite


def test_no_room_is_said_and_nothing_starts(application: Application, page: ExportPage) -> None:
    page.exports.show_plan(scenes.plan(), 1_000_000)
    assert not page.primary().enabled
    assert "more are needed" in page.hint()
    assert "only 1.0 MB are free" in page.plan_words.text()
    assert application.queue.jobs == []


def test_what_cannot_be_says_why_and_what_can(page: ExportPage) -> None:
    page.exports.show_plan(scenes.plan("GGUF is not written for the family gemma3n"), 10**12)
    card = page.cards["gguf"]
    assert not card.box.isEnabled()
    assert "gemma3n" in card.note.text()
    assert "MLX Adapter" in card.note.text()
    assert page.exports.chosen == {"mlx"}


def test_steps_end_and_retry(application: Application, page: ExportPage, qtbot: QtBot) -> None:
    page.act()
    job = application.queue.running
    assert job is not None
    for phase in ("planning", "loading_model", "base", "adapted"):
        job._hear(events.Phase(phase))
    job._hear(events.Phase("writing", 10, 40))
    [(_, card)] = page._makings
    marks = [words.accessibleName() for _, words in card._marks]
    assert marks[2:5] == ["Ask the adapted model, done", "Write, in work", "Read it back, to do"]
    assert card.bar.value() == 250
    job._end(events.Failed(code="broken_export", where="x", why="it answers wrongly", fix="-"))
    job.kill()
    assert page.state == "done"
    [(_, card)] = page._makings
    assert "was removed. It answers wrongly." in card.lines.text()
    retry = next(b for b in card.buttons if b.text() == "Retry")
    qtbot.mouseClick(retry, Qt.MouseButton.LeftButton)
    assert page.exports.makings[0].doing == "waiting" or page.exports.busy
    assert _jobs(application)[-1].overwrite


def test_stop_ends_the_running_and_the_waiting(
    application: Application, page: ExportPage, qtbot: QtBot
) -> None:
    page.exports.choose("peft", wanted=True)
    page.act()
    running = application.queue.running
    assert running is not None
    told: list[object] = []
    running.send = told.append  # type: ignore[method-assign]
    qtbot.mouseClick(page.stop, Qt.MouseButton.LeftButton)
    assert jobs.Command(type="stop") in told
    assert page.exports.makings[1].doing == "stopped"


def test_the_verdict_and_what_to_do_with_it(page: ExportPage, qtbot: QtBot) -> None:
    page.act()
    job = next(iter(page.exports._jobs))
    job._hear(events.Report(kind="export", data=scenes.report("gguf", "q4_k_m", 0.962, 9e-3)))
    job._end(events.Finished(reason="done"))
    job.kill()
    [(_, card)] = page._makings
    assert card.pill.text() == "Ran in llama.cpp"
    assert "Same next token 96.2 %" in card.lines.text()
    copy = next(b for b in card.buttons if b.text() == "Copy Run Command")
    qtbot.mouseClick(copy, Qt.MouseButton.LeftButton)
    assert "llama-cli -m" in QGuiApplication.clipboard().text()
    handle: Any = card.buttons[0]
    assert handle.files().urls()[0].toLocalFile().endswith("Qwen3-4B-q4_k_m.gguf")


def test_measured_widths_stand_beside_the_choice(
    application: Application, page: ExportPage
) -> None:
    line = {"bits": 8, "difference": {"top1": 0.994, "kl": 0.01}, "nbytes": 1}
    application.progress.state.fuse_loss = {"chosen": "8", "lines": [line]}
    page.refresh()
    combo = page.cards["mlx-fused"].combo
    assert "99.4 %" in combo.itemText(combo.findData("8"))
    assert not page.measure.isVisible()


def test_one_for_real(application: Application, root: Path, qtbot: QtBot) -> None:
    """A short run of the demo model: a click, and a file that ran in llama.cpp."""
    out = root / "runs" / "20261124-120000-demo"
    options = ["--steps", "2", "--max-length", "32", "--eval-rows", "4", "--eval-every", "2"]
    sources = ["--model", "demo", "--data", "demo", "--val-fraction", "0.05"]
    subprocess.run(
        [sys.executable, "-m", "app", "train", *sources, "--out", str(out), *options, "--json"],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    facts = {"model": "demo", "training_rows": 9}
    application.project.update(
        model=ModelChoice("demo", "Storybook"), data=DataChoice("demo", "Sample", facts),
        run=out.name,
    )  # fmt: skip
    application.start()
    qtbot.waitUntil(lambda: application.progress.usable, timeout=5000)
    application.window.go("export")
    page: Any = application.window.page
    qtbot.waitUntil(lambda: page.exports.plan is not None, timeout=5000)
    page.exports.choose("mlx", wanted=True)
    qtbot.mouseClick(application.window.primary, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.state == "done", timeout=60_000)
    assert [made.doing for made in page.exports.makings] == ["done", "done"]
    [file] = (out / "exports").rglob("*.gguf")
    planned = page.exports.plan.formats["gguf"].choice("q8_0").nbytes
    assert file.stat().st_size == pytest.approx(planned, rel=0.02)
    qtbot.waitUntil(lambda: len(application.progress.state.exports) == 2, timeout=5000)
    assert {e["by"] for e in application.progress.state.exports} == {"llama.cpp", "re-read"}
    assert json.loads((file.parent / "export.json").read_text())["by"] == "llama.cpp"
    shutil.rmtree(out)
