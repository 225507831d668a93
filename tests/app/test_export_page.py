"""Export by its buttons: offered, ordered, replaced, stopped, retried; and once for real."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from bad_inputs.inline import InlineChild
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMessageBox
from scenes import export as scenes

from app.jobs import Job
from app.models.exports import Exports, Found
from app.problems import Problem
from app.project import DataChoice, ModelChoice
from app.widgets.button import Button
from mlx_lora import cli, events, jobs
from mlx_lora.cli import running

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.pages.export import ExportPage


class Silent(Job):
    """A worker that does what the test says of it."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def page(application: Application, monkeypatch: pytest.MonkeyPatch) -> ExportPage:
    """A trained run of a large model; no worker is a real one."""
    monkeypatch.setattr("app.models.makings.Job", Silent)
    monkeypatch.setattr("app.models.measurement.Job", Silent)
    application.start()
    made = scenes._planned(application)
    run: Any = application.desk.progress.run
    made.exports.show(Found(scenes.plan(), _trained(run.folder), 10**12))
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
    assert (first.format, first.quant) == ("gguf", "q8_0")
    assert (second.format, second.quant) == ("peft", "")
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
    page.exports.show(Found(scenes.plan(), None, 1_000_000_000))
    assert not page.primary().enabled
    assert page.hint() == "Not enough room: 1.5 GB more are needed"
    assert page.plan.missing.text() == "1.5 GB are missing on that disk."
    assert page.plan.missing.isVisible()
    assert application.queue.jobs == []


def test_what_cannot_be_says_why_and_what_can(page: ExportPage) -> None:
    why = "GGUF is not written for the family gemma3n"
    page.exports.show(Found(scenes.plan(why), None, 10**12))
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
    qtbot.waitUntil(lambda: page._makings[0][1].bar.value() == 250)
    [(_, card)] = page._makings
    marks = [words.accessibleName() for _, words in card._marks]
    assert marks[2:5] == ["Ask the adapted model, done", "Write, in work", "Read it back, to do"]
    job._end(events.Failed(code="broken_export", where="x", why="it answers wrongly", fix="-"))
    job.kill()
    assert page.state == "done"
    [(_, card)] = page._makings
    assert "was removed. It answers wrongly." in card.lines.text()
    retry = next(b for b in card.buttons if b.text() == "Retry")
    qtbot.mouseClick(retry, Qt.MouseButton.LeftButton)
    assert page.exports.makings.busy
    assert page.state == "running"
    assert _jobs(application)[-1].format == "gguf"
    assert len(page._makings) == 1


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
    assert page.exports.makings.shown[1].doing == "stopped"


def test_the_verdict_and_what_to_do_with_it(page: ExportPage, qtbot: QtBot) -> None:
    page.act()
    [made] = page.exports.makings.shown
    job = made.job
    assert job is not None
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


def _figures(step: int, best: int = 6) -> events.Report:
    lines = [
        {"bits": bits, "difference": {"top1": top1, "kl": 0.01}, "nbytes": 1}
        for bits, top1 in ((16, 1.0), (8, 0.994), (6, 0.981), (4, 0.942))
    ]
    return events.Report(kind="fuse_loss", data={"chosen": str(best), "step": step, "lines": lines})


def test_what_fewer_bits_cost_is_measured_on_demand(
    application: Application, page: ExportPage, qtbot: QtBot
) -> None:
    qtbot.mouseClick(page.table.measure, Qt.MouseButton.LeftButton)
    job = page.measurement.job
    assert job is not None
    assert isinstance(job.what, jobs.MeasureJob)
    assert not isinstance(job.what, jobs.ExportJob)
    job._hear(events.Phase("measuring_8", 10, 40))
    assert page.table.words.text() == "Measuring 8 bit…"
    assert not page.table.measure.isVisible()
    told = _figures(4300)
    (application.runs.root / "runs" / "support-tickets" / "events.jsonl").write_bytes(
        events.encode(told)
    )
    application.progress.state.fuse_loss = told.data
    job._hear(told)
    job._end(events.Finished(reason="done"))
    job.kill()
    cells = {width: cell.text() for width, cell in page.table._cells.items()}
    assert cells == {"16 bit": "100 %", "8 bit": "99.4 %", "6 bit": "98.1 %", "4 bit": "94.2 %"}
    assert page.exports.quants["mlx-fused"] == "6"
    assert "advised" in page.cards["mlx-fused"].combo.currentText()


def test_measuring_is_given_up(page: ExportPage, qtbot: QtBot) -> None:
    qtbot.mouseClick(page.table.measure, Qt.MouseButton.LeftButton)
    job = page.measurement.job
    assert job is not None
    qtbot.mouseClick(page.table.stop, Qt.MouseButton.LeftButton)
    assert job.asked == "stop"
    job._end(events.Finished(reason="stopped"))
    job.kill()
    assert page.table.measure.isVisible()
    assert page.banner.isHidden()


def test_figures_of_another_adapter_are_not_shown(
    application: Application, page: ExportPage
) -> None:
    """They were measured after other steps of training than the adapter that would be exported."""
    application.progress.state.fuse_loss = _figures(1200).data
    page.refresh()
    assert page.table.measure.isVisible()
    application.progress.state.fuse_loss = _figures(4300).data
    page.refresh()
    assert not page.table.measure.isVisible()


def test_an_export_in_line_takes_what_the_run_keeps_when_it_begins(
    application: Application, page: ExportPage
) -> None:
    folder = application.runs.root / "runs" / "support-tickets"
    early = _trained(folder / "checkpoints" / "step-1")
    page.exports.show(Found(scenes.plan(), early, 10**12))
    first = Silent(jobs.LlamaJob(model=""))
    application.queue.add(first)
    page.act()
    assert "step-1" in _jobs(application)[0].adapter
    assert page.banner.title.text() == "Other work comes first"
    first._end(events.Finished(reason="done"))
    first.kill()
    [ordered] = _jobs(application)
    assert Path(ordered.adapter) == folder / "adapter"
    assert page.banner.isHidden()


def test_a_checkpoint_is_exported_as_itself(application: Application, page: ExportPage) -> None:
    application.project.update(checkpoint=1200)
    page.act()
    [ordered] = _jobs(application)
    assert ordered.out.endswith("gguf-q4_k_m-step-1200")
    assert application.queue.running is not None
    assert "adapter" not in Path(ordered.adapter).parts[-2:-1]


def test_another_project_meanwhile(application: Application, page: ExportPage) -> None:
    """The export goes on, and is there when the project is opened again."""
    page.act()
    job = application.queue.running
    assert job is not None
    run = application.progress.run
    application.progress.run = None
    job._hear(events.Phase("writing", 1, 2))
    assert page.exports.makings.shown == []
    application.progress.run = run
    page.refresh()
    assert page.exports.makings.shown[0].phase.name == "writing"
    assert page.state == "running"


def test_what_was_made_before(application: Application, page: ExportPage, tmp_path: Path) -> None:
    told = scenes.report("gguf", "q8_0", 0.998, 2e-4)
    application.progress.state.exports = [told]
    page.refresh()
    assert page.earlier.isVisible()
    assert page.earlier.findChildren(Button) == []
    found = page.exports.found
    assert found is not None
    page.exports.show(msgspec.structs.replace(found, present={tmp_path: told}))
    [button] = page.earlier.findChildren(Button)
    assert button.accessibleName().endswith("GGUF Model · Q8_0")


def test_what_cannot_be_read_can_be_tried_again(page: ExportPage) -> None:
    page.exports.found = None
    page.exports.problem = Problem("The model is not there any more", "Bring it back.")
    page.refresh()
    assert page.state == "error"
    assert page.banner.fix.text() == "Try Again"
    assert not page.primary().enabled
    assert not page.cards["gguf"].isVisible()


def test_nothing_can_be_chosen_while_it_works(page: ExportPage) -> None:
    page.act()
    assert not page.cards["peft"].box.isEnabled()
    assert not page.cards["gguf"].combo.isEnabled()


def test_the_whole_card_can_be_pressed(page: ExportPage, qtbot: QtBot) -> None:
    qtbot.mouseClick(page.cards["hf"], Qt.MouseButton.LeftButton)
    assert "hf" in page.exports.chosen
    qtbot.mouseClick(page.cards["hf"], Qt.MouseButton.LeftButton)
    assert "hf" not in page.exports.chosen


def test_a_failure_says_what_to_do(page: ExportPage, qtbot: QtBot) -> None:
    page.act()
    [made] = page.exports.makings.shown
    job = made.job
    assert job is not None
    why, fix = "the disk is full (12 MB free)", "free some space, or choose another disk"
    job._end(events.Failed(code="disk_full", where="x", why=why, fix=fix))
    job.kill()
    [(_, card)] = page._makings
    assert "Free some space, or choose another disk." in card.lines.text()
    details = next(b for b in card.buttons if b.text() == "Copy Details")
    qtbot.mouseClick(details, Qt.MouseButton.LeftButton)
    assert "disk_full" in QGuiApplication.clipboard().text()


def _train(out: Path, root: Path) -> None:
    """A run of two steps of the demo model, in this process."""
    options = ["--steps", "2", "--max-length", "32", "--eval-rows", "4", "--eval-every", "2"]
    sources = ["--model", "demo", "--data", "demo", "--val-fraction", "0.05"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Child", InlineChild)
        words = ["--data-dir", str(root), "train", *sources, "--out", str(out), *options, "--json"]
        assert cli.main(words) == 0


@pytest.mark.usefixtures("page")
def test_a_place_that_refuses_is_said_and_is_not_our_mistake(
    application: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "closed")

    run = application.progress.run
    assert run is not None
    trained, plan = _trained(run.folder), scenes.plan()
    monkeypatch.setattr("app.models.exports.trained_run", lambda *_: trained)
    monkeypatch.setattr("app.models.exports.plan_exports", lambda *_: plan)
    # of that module alone: other threads ask for the room on a disk, too
    monkeypatch.setattr("app.models.exports.shutil", SimpleNamespace(disk_usage=refuse))
    exports = Exports(application.desk)
    exports.look()
    application.tasks.wait()  # however long a busy machine takes
    qtbot.waitUntil(lambda: exports.problem is not None)
    assert exports.problem is not None
    assert exports.problem.code == "no_permission"
    assert exports.plan is None


@pytest.mark.slow
def test_one_for_real(application: Application, root: Path, qtbot: QtBot) -> None:
    """A short run of the demo model: a click, and a file that ran in llama.cpp."""
    out = root / "runs" / "20261124-120000-demo"
    _train(out, root)
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
    assert [made.doing for made in page.exports.makings.shown] == ["done", "done"]
    [file] = (out / "exports").rglob("*.gguf")
    planned = page.exports.plan.formats["gguf"].choice("f16").nbytes  # advised at the demo's size
    assert file.stat().st_size == pytest.approx(planned, rel=0.02)
    qtbot.waitUntil(lambda: len(application.progress.state.exports) == 2, timeout=5000)
    assert {e["by"] for e in application.progress.state.exports} == {"llama.cpp", "re-read"}
    # what is there now was read anew, and is not listed twice
    qtbot.waitUntil(lambda: len(page.exports.found.present) == 2, timeout=5000)
    assert page.earlier.isHidden()
    page.exports.makings.clear()
    page.refresh()
    assert not page.earlier.isHidden()
    assert json.loads((file.parent / "export.json").read_text())["by"] == "llama.cpp"
    shutil.rmtree(out)
