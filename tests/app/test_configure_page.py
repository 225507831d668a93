"""The Configure page at its seams: what a change does to the project, every state, starting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from scenes.configure import facts_of

from app.jobs import Job
from app.models.fields import FIELDS, PLACES, limits, sentence
from app.models.outlook import Given, look_ahead
from app.models.recipe import (
    baseline,
    changed,
    find_errors,
    parse,
    reset,
    value_of,
    with_preset,
    with_values,
    written,
)
from app.pages.configure import ConfigurePage
from app.project import DataChoice, ModelChoice, Project, build_run_config, recipe_of
from app.widgets.field_row import ChoiceField, FlagField, LinesField, TextField
from mlx_lora import jobs
from mlx_lora.batches import rows_of
from mlx_lora.config import build_config
from mlx_lora.demo import demo_settings
from mlx_lora.errors import UserError
from mlx_lora.events import Failed, Finished, Report
from mlx_lora.forecast import base_of
from mlx_lora.jobs import ProbeJob
from mlx_lora.models.catalog import find_entry
from mlx_lora.pace import Speed

if TYPE_CHECKING:
    from pathlib import Path

    from PySide6.QtWidgets import QLineEdit
    from pytestqt.qtbot import QtBot

    from app.application import Application

EPOCHS, RATE, RANK = ("training", "epochs"), ("training", "learning_rate"), ("adapter", "rank")
BATCH, SAVING = ("training", "batch_size"), ("training", "grad_checkpoint")
LLAMA = "mlx-community/Llama-3.2-1B-Instruct-4bit"
GB = 10**9


@pytest.fixture
def page(application: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> ConfigurePage:
    """The page with the demo model and data that was read; no worker starts by itself."""
    monkeypatch.setattr(application.inspection, "refresh", lambda: None)
    application.project.update(
        model=ModelChoice("demo", "Storybook"), data=DataChoice("demo", "Sample", facts_of("demo"))
    )
    application.start()
    application.window.go("configure")
    found = application.window.page
    assert isinstance(found, ConfigurePage)
    qtbot.waitUntil(lambda: found.outlook is not None)
    return found


def text(page: ConfigurePage, place: tuple[str, str]) -> QLineEdit:
    row = page.form.rows[place]
    assert isinstance(row, TextField)
    return row.line


def type_in(qtbot: QtBot, page: ConfigurePage, place: tuple[str, str], said: str) -> None:
    line = text(page, place)
    line.setFocus()
    line.selectAll()
    qtbot.keyClick(line, Qt.Key.Key_Delete)
    qtbot.keyClicks(line, said)
    page.flush()


def settings(page: ConfigurePage) -> dict[str, dict[str, Any]]:
    return page.desk.chosen.settings


def test_typing_changes_the_project_by_its_difference_only(
    page: ConfigurePage, qtbot: QtBot
) -> None:
    assert settings(page) == {}
    type_in(qtbot, page, RANK, "32")
    type_in(qtbot, page, RATE, "2e-4")
    assert settings(page) == {"adapter": {"rank": 32}, "training": {"learning_rate": 2e-4}}
    assert not page.form.rows[RANK].mark.isHidden()
    assert page.form.rows[EPOCHS].mark.isHidden()
    assert page.presets.buttons["custom"].isChecked()
    type_in(qtbot, page, RATE, "0.0001")
    assert settings(page) == {"adapter": {"rank": 32}}
    qtbot.mouseClick(page.form.rows[RANK].back, Qt.MouseButton.LeftButton)
    assert settings(page) == {}
    assert page.presets.buttons["balanced"].isChecked()
    text(page, RATE).clearFocus()
    assert text(page, RANK).text() == "8"


def test_what_is_typed_rests_a_moment_before_it_counts(page: ConfigurePage, qtbot: QtBot) -> None:
    line = text(page, EPOCHS)
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, "12")
    assert settings(page) == {}
    qtbot.waitUntil(lambda: settings(page) == {"training": {"epochs": 12.0}})
    assert line.text() == "12"


def test_presets_and_custom_and_back(page: ConfigurePage, qtbot: QtBot) -> None:
    type_in(qtbot, page, RANK, "24")
    qtbot.mouseClick(page.presets.buttons["thorough"], Qt.MouseButton.LeftButton)
    assert (page.desk.chosen.preset, settings(page)) == ("thorough", {})
    assert text(page, EPOCHS).text() == "5"
    qtbot.mouseClick(page.presets.buttons["custom"], Qt.MouseButton.LeftButton)
    assert (page.desk.chosen.preset, settings(page)) == ("balanced", {"adapter": {"rank": 24}})
    qtbot.mouseClick(page.form.reset_all, Qt.MouseButton.LeftButton)
    assert settings(page) == {}
    assert page.form.reset_all.isHidden()


def test_custom_without_a_past_opens_the_other_fields(page: ConfigurePage, qtbot: QtBot) -> None:
    assert page.form.advanced.isHidden()
    qtbot.mouseClick(page.presets.buttons["custom"], Qt.MouseButton.LeftButton)
    assert not page.form.advanced.isHidden()
    assert page.presets.buttons["balanced"].isChecked()
    qtbot.mouseClick(page.form.toggle, Qt.MouseButton.LeftButton)
    assert page.form.advanced.isHidden()


def test_choices_flags_and_lines(page: ConfigurePage, qtbot: QtBot) -> None:
    bits, saving = page.form.rows["model", "bits"], page.form.rows[SAVING]
    assert isinstance(bits, ChoiceField)
    assert isinstance(saving, FlagField)
    bits.box.setFocus()
    qtbot.keyClick(bits.box, Qt.Key.Key_Down)
    saving.box.setFocus()
    qtbot.keyClick(saving.box, Qt.Key.Key_Space)
    prompts = page.form.rows["samples", "prompts"]
    assert isinstance(prompts, LinesField)
    QGuiApplication.clipboard().setText("HAMLET:⏎")
    prompts.lines[1].paste()
    targets = page.form.rows["adapter", "targets"]
    assert isinstance(targets, ChoiceField)
    targets.edited.emit(["attention"])
    assert settings(page) == {
        "model": {"bits": "4"}, "training": {"grad_checkpoint": True},
        "samples": {"prompts": ["HAMLET:\n"]}, "adapter": {"targets": ["attention"]},
    }  # fmt: skip
    assert targets.box.currentText() == "Attention"
    config = build_run_config(page.desk.chosen)
    assert config.samples.prompts == ("HAMLET:\n",)


def _pick(qtbot: QtBot, page: ConfigurePage, place: tuple[str, str], words: str) -> None:
    """Choose by the keyboard what a person reads."""
    row = page.form.rows[place]
    assert isinstance(row, ChoiceField)
    row.box.setFocus()
    qtbot.keyClick(row.box, Qt.Key.Key_Home)
    for _ in range(row.box.findText(words)):
        qtbot.keyClick(row.box, Qt.Key.Key_Down)
    assert row.box.currentText() == words
    page.flush()


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("batching", "Packed Rows", "pack"), ("batching", "Like Lengths", "buckets"),
        ("batching", "Exact Batch Size", "rows"), ("loss", "A Few Tokens at a Time", "chunked"),
        ("loss", "All at Once", "full"), ("prefix_cache", "Keep What They Make", "on"),
        ("prefix_cache", "Compute Each Time", "off"), ("compile", "On", "on"),
        ("compile", "Off", "off"), ("base", "Packed", "packed"), ("base", "As Floats", "plain"),
    ],
)  # fmt: skip
def test_how_it_computes_is_switched_by_the_curious(
    page: ConfigurePage, qtbot: QtBot, name: str, words: str, value: str
) -> None:
    before = {"adapter": {"layers": 2}, "model": {"bits": "4"}}  # some are frozen, some quantized
    page.desk.project.update(settings=before)
    page.form.unfold()
    _pick(qtbot, page, ("engine", name), words)
    assert settings(page) == before | {"engine": {name: value}}
    assert getattr(build_run_config(page.desk.chosen).engine, name) == value
    assert page.errors == {}
    _pick(qtbot, page, ("engine", name), "Automatic")
    assert settings(page) == before


def test_what_would_change_nothing_cannot_be_switched(page: ConfigurePage, qtbot: QtBot) -> None:
    page.form.unfold()
    frozen, weights = page.form.rows["engine", "prefix_cache"], page.form.rows["engine", "base"]
    assert not frozen.inputs()[0].isEnabled()
    assert "every layer is adapted" in frozen.text.text()
    assert not weights.inputs()[0].isEnabled()  # the demo model is no quantized one
    assert "not quantized" in weights.text.text()
    type_in(qtbot, page, ("adapter", "layers"), "2")
    page.desk.project.update(settings=settings(page) | {"model": {"bits": "4"}})
    assert frozen.inputs()[0].isEnabled()
    assert weights.inputs()[0].isEnabled()
    assert "not quantized" not in weights.text.text()
    type_in(qtbot, page, ("adapter", "layers"), "4")  # as many as it has
    assert not frozen.inputs()[0].isEnabled()


def test_frozen_layers_cannot_be_kept_where_none_is(page: ConfigurePage, qtbot: QtBot) -> None:
    place = ("engine", "prefix_cache")
    page.desk.project.update(settings={"engine": {"prefix_cache": "on"}})
    assert list(page.errors) == [place]
    assert page.errors[place].startswith("Every layer is adapted")
    assert not page.form.engine.isHidden()
    assert not page.primary().enabled
    assert page.form.rows[place].inputs()[0].isEnabled()
    type_in(qtbot, page, ("adapter", "layers"), "2")
    assert page.errors == {}
    assert page.primary().enabled


def test_memory_is_saved_in_every_layer_or_every_second(page: ConfigurePage, qtbot: QtBot) -> None:
    every, saving = page.form.rows["training", "checkpoint_every"], page.form.rows[SAVING]
    assert isinstance(saving, FlagField)
    assert every.isHidden()
    saving.box.click()
    assert not every.isHidden()
    all_layers = page.outlook
    _pick(qtbot, page, ("training", "checkpoint_every"), "Every Second")
    assert settings(page) == {"training": {"grad_checkpoint": True, "checkpoint_every": 2}}
    assert build_run_config(page.desk.chosen).training.checkpoint_every == 2
    half = page.outlook
    assert half is not None
    assert all_layers is not None
    assert half.memory.activations > all_layers.memory.activations
    assert half.pace is not None
    assert all_layers.pace is not None
    assert half.pace.seconds < all_layers.pace.seconds
    saving.box.click()
    assert not every.isHidden()  # so that it can be put back
    qtbot.mouseClick(every.back, Qt.MouseButton.LeftButton)
    assert every.isHidden()
    assert settings(page) == {}


def test_an_emptied_field_is_the_presets_where_it_may_be(page: ConfigurePage, qtbot: QtBot) -> None:
    page.form.unfold()
    type_in(qtbot, page, ("adapter", "layers"), "2")
    assert settings(page) == {"adapter": {"layers": 2}}
    type_in(qtbot, page, ("adapter", "layers"), "")
    assert settings(page) == {}
    type_in(qtbot, page, RANK, "")
    assert page.errors[RANK] == "Choose a whole number."


@pytest.mark.parametrize(
    ("place", "said", "words"),
    [
        (EPOCHS, "0", "more than 0 and at most 10,000"),
        (RATE, "fast", "Choose a number"),
        (RANK, "5000", "at most 4,096"),
        (RANK, "2.5", "whole number"),
        (BATCH, "-1", "at least 1"),
        (("training", "epochs"), "1e999", "Choose a number"),
        (("adapter", "layers"), "99", "at most 4, or all"),
    ],
)
def test_a_wrong_value_is_said_beside_its_field(
    page: ConfigurePage, qtbot: QtBot, place: tuple[str, str], said: str, words: str
) -> None:
    type_in(qtbot, page, place, said)
    row = page.form.rows[place]
    assert words in row.error.text()
    assert not row.error.isHidden()
    assert list(page.errors) == [place]
    assert words in text(page, place).accessibleDescription()
    assert text(page, place).text() == said
    primary = page.primary()
    assert (primary.text, primary.enabled) == ("Start Training", False)
    assert page.hint() == "One value needs to be changed"
    page.act()
    assert not page.desk.training.checking


def test_a_fault_among_the_folded_fields_unfolds_them(page: ConfigurePage, qtbot: QtBot) -> None:
    page.desk.project.update(settings={"training": {"steps": 1, "grad_accumulation": 4096}})
    page.desk.project.update(settings={"training": {"grad_accumulation": 0}})
    assert ("training", "grad_accumulation") in page.errors
    qtbot.waitUntil(lambda: not page.form.advanced.isHidden())


def test_memory_and_time_follow_every_change(page: ConfigurePage, qtbot: QtBot) -> None:
    before = page.outlook
    assert before is not None
    type_in(qtbot, page, BATCH, "8")
    after = page.outlook
    assert after is not None
    # 4 and 8 rows of 181.4 tokens; 0.9 % is what a layer keeps whatever the batch
    ratio = after.memory.activations / before.memory.activations
    assert ratio == pytest.approx(0.9911 * 1451 / 726, rel=1e-3)
    assert before.pace is not None
    assert after.pace is not None
    assert (before.pace.plan.steps, after.pace.plan.steps) == (3249, 1626)
    assert page.rail.steps.value.text() == "≈ 1,626"  # rows are laid out by their lengths
    page.desk.project.update(settings={"engine": {"batching": "rows"}})
    assert page.rail.steps.value.text() == "3,249"
    page.desk.project.update(settings={})
    assert "guess" in page.rail.source.text()
    type_in(qtbot, page, EPOCHS, "0")
    assert page.rail.memory.pill.text() == "Not Known"


def test_too_large_is_helped_by_one_press(
    application: Application, page: ConfigurePage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(application.desk), "memory_limit", property(lambda _: 1.2 * GB))
    application.project.update(
        settings={"training": {"batch_size": 64}, "data": {"max_length": 500}}
    )
    assert page.outlook is not None
    assert page.outlook.verdict == "large"
    primary = page.primary()
    assert (primary.enabled, primary.shortcut) == (False, "Start Anyway")
    names = [button.text().partition(" · ")[0] for button in page.rail.memory.remedies]
    assert names == ["Save Memory", "Batch 1", "4-bit Base", "Shorter Rows", "Smaller Model…"]
    qtbot.mouseClick(page.rail.memory.remedies[1], Qt.MouseButton.LeftButton)
    assert settings(page)["training"] == {"batch_size": 1, "grad_accumulation": 64}
    assert page.outlook.verdict == "fits"
    assert page.rail.memory.remedies == []
    assert page.primary().enabled


def test_a_smaller_model_leads_back(
    application: Application, page: ConfigurePage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(application.desk), "memory_limit", property(lambda _: 1000))
    application.project.update(name="Other")
    with qtbot.waitSignal(page.leave) as left:
        qtbot.mouseClick(page.rail.memory.remedies[-1], Qt.MouseButton.LeftButton)
    assert left.args == ["model"]


def test_a_preset_keeps_what_the_model_needs(
    application: Application, page: ConfigurePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = find_entry(LLAMA)
    assert entry is not None
    page.foresight.base = base_of(entry)
    monkeypatch.setattr(type(application.desk), "memory_limit", property(lambda _: 5 * GB))
    page._choose_preset("quick")
    assert settings(page) == {"training": {"grad_checkpoint": True}}
    assert page.presets.buttons["quick"].isChecked()
    assert not page.form.rows[SAVING].mark.isHidden()


def test_start_makes_a_run_and_tells_what_it_checks(
    application: Application, page: ConfigurePage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application.queue, "add", application.queue.jobs.append)
    page.act()
    assert page.state == "loading"
    assert not page.primary().enabled
    with qtbot.waitSignal(application.training.started):
        pass
    assert application.project.value.run is not None
    assert page.state == "ready"
    assert page.primary().text == "Continue"
    with qtbot.waitSignal(page.leave) as left:
        page.act()
    assert left.args == ["train"]
    application.project.update(settings={"adapter": {"rank": 4}})
    assert page.primary().text == "Start Training"


def test_a_refused_start_is_said_above_the_form(
    application: Application, page: ConfigurePage, qtbot: QtBot, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.jsonl")
    application.project.update(data=DataChoice(gone, "gone", facts_of("demo")))
    page.act()
    qtbot.waitUntil(lambda: page.state == "error")
    assert page.banner.title.text() == "The data is not there any more"
    assert page.primary().enabled


def test_another_run_at_work_makes_it_a_queue(
    application: Application, page: ConfigurePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(application.queue), "running", property(lambda _: object()))
    assert page.primary().text == "Add to Queue"


def test_data_that_is_not_read_holds_it_back(application: Application, page: ConfigurePage) -> None:
    data = application.project.value.data
    assert data is not None
    application.project.update(data=msgspec.structs.replace(data, facts={}))
    assert not page.primary().enabled
    assert page.hint() == "The data is being read with this model"
    assert page.rail.steps.value.text() == "–"


def test_a_model_that_is_gone_is_said(
    application: Application, page: ConfigurePage, qtbot: QtBot
) -> None:
    application.project.update(
        model=ModelChoice("maker/gone", "gone"), data=DataChoice("x", "x", facts_of("maker/gone"))
    )
    qtbot.waitUntil(lambda: page.state == "error")
    assert not page.primary().enabled
    with qtbot.waitSignal(page.leave) as left:
        qtbot.mouseClick(page.banner.fix, Qt.MouseButton.LeftButton)
    assert left.args == ["model"]


def test_the_sample_counts_steps_and_is_not_called_custom(
    application: Application, page: ConfigurePage
) -> None:
    assert page.presets.buttons["demo"].isHidden()
    for kind in ("", "reference"):
        application.project.update(preset="demo", settings=demo_settings(kind))
        assert page.presets.buttons["demo"].isChecked()
        assert not page.presets.buttons["demo"].isHidden()
        assert page.form.rows[EPOCHS].isHidden()
        assert not page.form.rows["training", "steps"].isHidden()
        assert page.form.reset_all.isHidden()


def test_every_field_says_what_it_means() -> None:
    assert len(PLACES) == len(set(PLACES)) == 9 + 15 + 5
    for field in FIELDS:
        assert sentence(field).endswith(".")
        assert sentence(field)[0].isupper()
    rank = next(field for field in FIELDS if field.place == RANK)
    assert limits(rank) == "From 1 to 4,096."


@pytest.mark.parametrize(
    ("said", "kind", "value"),
    [
        ("3", "number", 3.0), ("1,024", "whole", 1024), ("1e-4", "number", 1e-4),
        ("2.5", "whole", "2.5"), ("nan", "number", "nan"), ("", "whole", None),
        ("x", "number", "x"), ("-7", "whole", -7),
    ],
)  # fmt: skip
def test_what_is_typed_is_read(said: str, kind: str, value: Any) -> None:
    assert parse(said, kind) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.05, "0.05"), (1024, "1,024"), (None, ""),
     (0.0, "0"), ("fast", "fast"), (1.5, "1.5"), (True, "on")],
)  # fmt: skip
def test_values_are_written_as_they_can_be_typed(value: Any, text: str) -> None:
    assert written(value) == text


def test_every_value_that_is_written_is_read_as_itself() -> None:
    for value in (1e-4, 3e-5, 0.3, 5.0, 123456.0, 1e-7, 0.1 + 0.2):
        assert parse(written(value), "number") == pytest.approx(value, rel=1e-6)


def test_differences_are_kept_and_nothing_else() -> None:
    project = Project(preset="thorough", settings={"data": {"val_fraction": 0.2}})
    made = with_values(project, {RANK: 16, EPOCHS: 9.0, ("training", "patience"): None})
    assert made == {
        "data": {"val_fraction": 0.2}, "training": {"epochs": 9.0, "patience": None},
    }  # fmt: skip
    mine = msgspec.structs.replace(project, settings=made)
    assert changed(mine, PLACES) == {EPOCHS, ("training", "patience")}
    assert reset(mine, PLACES) == {"data": {"val_fraction": 0.2}}
    assert with_preset(mine, "quick", PLACES) == {"data": {"val_fraction": 0.2}}
    assert value_of(baseline(mine), EPOCHS) == 5.0


def test_several_faults_are_all_found() -> None:
    project = Project(
        settings={"training": {"epochs": 0, "batch_size": "x"}, "adapter": {"rank": 3}}
    )
    assert set(find_errors(project, PLACES)) == {EPOCHS, BATCH}
    both = Project(settings={"training": {"steps": 1, "grad_accumulation": 4096}})
    assert find_errors(both, PLACES) == {}
    apart = Project(settings={"samples": {"tokens": 0}})
    assert find_errors(apart, PLACES) == {
        ("samples", "tokens"): "Choose a number of at least 1 and at most 4,096."
    }


def test_remedies_are_those_that_help() -> None:
    entry = find_entry(LLAMA)
    assert entry is not None
    base = base_of(entry)
    assert base is not None
    given = Given(base, rows_of(facts_of(LLAMA)), Speed(1e12, "assumed"), True, 3_700_000_000)
    config = build_config({"model": {"source": "m"}, "data": {"source": "d"}})
    tight = look_ahead(config, given)
    assert tight.verdict == "tight"
    assert [fix.name for fix in tight.fixes] == ["Save Memory", "Batch 1", "Shorter Rows"]
    assert all(fix.need < tight.memory.total for fix in tight.fixes)
    assert tight.fixes[1].changes == {BATCH: 1, ("training", "grad_accumulation"): 4}
    assert _helping(given, {"engine": {"loss": "full", "batching": "rows"}})[0] == (
        "Computed Automatically"
    )
    every = {"grad_checkpoint": True, "checkpoint_every": 2}
    close = msgspec.structs.replace(given, limit=2 * GB)
    assert _helping(close, {"training": every})[0] == "Save Memory"
    slow = msgspec.structs.replace(given, metal=False, limit=7 * GB, memory=24 * GB)
    assert "Packed Weights" in _helping(slow, {})
    less = msgspec.structs.replace(slow, memory=8 * GB)  # there they stay packed by themselves
    assert "Packed Weights" not in _helping(less, {})
    assert look_ahead(config, less).memory.total < look_ahead(config, slow).memory.total
    easy = look_ahead(config, msgspec.structs.replace(given, limit=100 * GB))
    assert (easy.verdict, easy.fixes) == ("fits", ())
    adapter = msgspec.structs.replace(config.adapter, layers=17)
    with pytest.raises(UserError):
        look_ahead(msgspec.structs.replace(config, adapter=adapter), given)


class Probe(Job):
    """A probe that says what it is told to."""

    def start(self) -> None:
        self.state = "running"

    def say(self, need: int, **more: Any) -> None:
        """It came to its end."""
        data = {
            "need": need, "held": 100, "runtime": 0, "limit": GB, "documents": 400, "seconds": 0.25,
            "operations": 2e9, "steps": 9, "peak": need, "kept": 0,
        } | more  # fmt: skip
        self.said.emit(Report(kind="probe", data=data))
        self._end(Finished(reason="done"))


def measuring(page: ConfigurePage, qtbot: QtBot) -> Probe:
    """The button was pressed, and the first probe is at work."""
    page.probing.worker = Probe
    qtbot.mouseClick(page.rail.memory.measuring.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.probing.job is not None)
    assert isinstance(page.probing.job, Probe)
    return page.probing.job


def test_measured_on_this_machine_replaces_the_forecast(page: ConfigurePage, qtbot: QtBot) -> None:
    part, steps = page.rail.memory.measuring, page.rail.steps.value.text()
    assert part.button.text().startswith("Measure on This ")
    assert part.use.isHidden()
    job = measuring(page, qtbot)
    assert part.button.text() == "Stop Measuring"
    assert part.words.text() == "Three steps at batch 4…"
    job.say(300_000_000)
    assert page.rail.memory.need.text() == "300 MB"
    assert page.rail.source.text().startswith("At the speed of the steps measured")
    assert page.rail.steps.value.text() == steps
    assert page.outlook is not None
    assert page.outlook.memory.total == page.outlook.need == 300_000_000
    wider = page.probing.job
    assert isinstance(wider, Probe)
    assert isinstance(wider.what, ProbeJob)
    assert wider.what.record.config.training.batch_size == 8
    wider._end(jobs.judge(None, -9, []))
    assert page.probing.doing == ""
    assert part.words.text() == (
        "Measured: 300 MB at the peak, 0.25 s a step. The largest batch that fits: 4."
    )
    assert part.use.isHidden()  # it is set already
    assert part.button.text() == "Measure Again"
    page.desk.project.update(settings={"training": {"batch_size": 8}})
    assert page.rail.memory.pill.text() == "Too Large"
    assert "the system ended the worker" in part.words.text()
    qtbot.mouseClick(part.use, Qt.MouseButton.LeftButton)
    page.flush()
    assert settings(page) == {}
    page.desk.project.update(settings={"adapter": {"rank": 9}})  # another run
    assert part.words.isHidden()


def test_measuring_can_be_left_and_says_what_kept_it(page: ConfigurePage, qtbot: QtBot) -> None:
    part = page.rail.memory.measuring
    job = measuring(page, qtbot)
    qtbot.mouseClick(part.button, Qt.MouseButton.LeftButton)
    assert job.asked == "stop"
    assert part.words.text() == "Stopping…"
    job._end(Finished(reason="stopped"))
    assert part.words.isHidden()
    again = measuring(page, qtbot)
    again._end(Failed(code="bad_data", where="rows", why="no row is left", fix="choose others"))
    assert "No row is left" in part.words.text()
    assert part.button.text().startswith("Measure on This ")


def _helping(given: Given, settings: dict[str, Any]) -> list[str]:
    sources = {"model": {"source": "m"}, "data": {"source": "d"}}
    return [fix.name for fix in look_ahead(build_config(sources | settings), given).fixes]


def test_a_run_of_another_recipe_is_not_taken_for_this_one(
    application: Application, page: ConfigurePage
) -> None:
    project = application.project.value
    application.project.update(run="one", recipe=recipe_of(project))
    assert page.primary().text == "Continue"
    application.project.update(settings={"adapter": {"rank": 4}})
    assert page.primary().text == "Start Training"
