"""The Dataset page beyond its figures: rows before them, findings, columns, choices, ways in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from scenes.dataset import (
    DONE,
    FAQ,
    TICKETS,
    SilentJob,
    faq_rows,
    feed,
    issue,
    open_page,
    pieces,
    refuse_columns,
    report,
    rows,
    unmapped,
)  # fmt: skip
from test_dataset_page import ready, real

from app.issues import file_words, format_words, json_words
from app.models.cleaning import copy_path
from app.project import DataChoice
from app.steps import data_fits
from app.widgets.clean_sheet import CleanSheet
from app.widgets.data_figures import longer_limit
from app.widgets.hub_sheet import HubSheet
from app.widgets.token_text import is_control
from mlx_lora import events
from mlx_lora.data.findings import CODES
from mlx_lora.data.samples import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.pages.dataset import DatasetPage


def test_a_table_with_names_of_its_own_is_mapped(
    application: Application, tmp_path: Path, qtbot: QtBot
) -> None:
    """With real workers: no row is understood, two columns are chosen, and it is ready."""
    path = tmp_path / "faq.csv"
    lines = [f"{n},What is {n} and {n}?,It is {2 * n}." for n in range(40)]
    path.write_text("\n".join(["nr,the customer says,we say", *lines]))
    page = real(application)
    page.take(path)
    qtbot.waitUntil(lambda: page.state == "error", timeout=20_000)
    form = page.view.columns
    assert page.view.tab == "columns"
    assert not page.primary().enabled
    form.boxes["prompt"].setCurrentText("None")
    assert not form.use.isEnabled()
    form.boxes["prompt"].setCurrentText("the customer says")
    form.boxes["completion"].setCurrentText("we say")
    assert form.preview.item(0, 0).text() == "What is 0 and 0?"
    assert form.preview.item(1, 1).text() == "It is 2."
    form.use.click()
    qtbot.waitUntil(lambda: page.primary().enabled, timeout=20_000)
    wanted = {"prompt": "the customer says", "completion": "we say"}
    assert application.project.value.settings["data"]["columns"] == wanted
    assert page.view.tab == "rows"
    page.take(path)
    assert "columns" not in application.project.value.settings.get("data", {})


def test_columns_are_asked_for_where_no_row_is_understood(application: Application) -> None:
    page = open_page(application, data=FAQ)
    refuse_columns(application)
    form = page.view.columns
    assert (page.state, page.view.tab) == ("error", "columns")
    assert form.fields() == {"prompt": "customer_says", "completion": "we_say"}
    assert form.preview.item(1, 0).text() == "Can I bring my dog?"
    form.close_button.click()
    assert page.view.tab == "rows"
    assert page.view.table.model().index(0, 5).data() == "unclear"
    page.banner.fix.click()
    form.kind.buttons["texts"].click()
    assert not form.use.isEnabled()
    form.boxes["text"].setCurrentText("topic")
    form.use.click()
    assert application.project.value.settings["data"]["columns"] == {"text": "topic"}
    feed(application, faq_rows(), unmapped(training_rows=48, mapping={
        "needed": False, "columns": unmapped().data["mapping"]["columns"], "suggested": {},
    }, issues=[]), end=DONE)  # fmt: skip
    page.view.rail.format_card.columns.click()
    assert form.fields() == {"text": "topic"}
    form.forget.click()
    assert application.project.value.settings["data"]["columns"] == {}


def test_one_column_cannot_be_two_things(application: Application) -> None:
    page = open_page(application, data=FAQ)
    refuse_columns(application)
    page.view.columns.boxes["system"].setCurrentText("we_say")
    assert not page.view.columns.use.isEnabled()
    page.view.columns.boxes["system"].setCurrentText("topic")
    assert page.view.columns.use.isEnabled()


def test_rows_are_there_before_the_figures(application: Application) -> None:
    page = open_page(application)
    feed(application, rows(200), pieces(3), events.Phase("checking", 412_000_000, 1_000_000_000))
    assert page.state == "running"
    assert page.view.table.model().rowCount() == 200
    assert page.view.header.rows.value.text() == "\u2013"
    assert not page.primary().enabled
    assert page.view.progress.isHidden()
    page._late.timeout.emit()
    assert page.view.progress.text.text() == "Checking\u2026 412 MB of 1.0 GB"
    page.view.open_text(3)
    assert page.view.text.text.exact_text().startswith("<|im_start|>user")
    feed(application, report(), end=DONE)
    assert page.state == "ready"
    assert page.view.progress.isHidden()
    assert page.primary().enabled
    assert page.view.tab == "text"


def test_a_check_that_is_given_up_leaves_no_data(application: Application) -> None:
    page = open_page(application)
    feed(application, rows(), events.Phase("checking", 1, 4))
    page._late.timeout.emit()
    page.view.progress.cancel.click()
    assert application.project.value.data is None
    assert application.inspection.job is None
    assert page.state == "empty"


def test_a_text_that_is_coming_needs_no_worker_of_its_own(application: Application) -> None:
    page = open_page(application)
    feed(application, rows())
    page.view.open_text(3)
    assert application.inspection._row_job is None
    feed(application, pieces(3))
    assert page.view.text.text.exact_text().startswith("<|im_start|>user")
    page.view.open_text(4)
    assert application.inspection._row_job is None
    feed(application, events.Phase("checking", 1, 2))
    job = application.inspection._row_job
    assert job is not None
    assert job.what.row == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("code", ["broken", "unknown", "refused"])
def test_an_error_keeps_everybody_from_going_on(application: Application, code: str) -> None:
    page = open_page(application)
    feed(application, report(issues=[issue(code, 2, (1,))]), rows(), end=DONE)
    assert not page.primary().enabled
    assert page.hint().startswith("Not yet: ")
    assert not data_fits(application.project.value)
    feed(application, report(issues=[issue("cut", 2, (1,))]), rows(), end=DONE)
    assert page.primary().enabled


def test_what_becomes_of_long_rows_is_chosen(application: Application) -> None:
    page = ready(application)
    page.view.findings.list.choose("cut:train")
    page.view.findings.details.lengths.click()
    card = page.view.figures.long_rows
    assert page.view.tab == "figures"
    assert card.title.text() == "23 rows are longer than 512 tokens"
    assert card.choices["cut"].isChecked()
    assert card.choices["cut"].effect == "4,810 rows · 446,798 learnt · 18,722 lost · 23 ends lost"
    card.choices["split"].click()
    assert application.project.value.settings["data"] == {"long_rows": "split"}
    assert application.inspection.state == "reading"
    card.spin.setValue(32)
    assert application.project.value.settings["data"]["overlap"] == 32
    assert card.longer.text() == "Allow 4,096 Tokens"
    card.longer.click()
    assert application.project.value.settings["data"]["max_length"] == 4096


def test_a_limit_that_is_offered() -> None:
    assert [longer_limit(512, longest) for longest in (600, 1024, 1025, 90_000, 80)] == [
        1024, 1024, 2048, 1024, 1024,
    ]  # fmt: skip
    assert longer_limit(131_072, 200_000) == 131_072


def test_the_rank_and_the_template_are_set(application: Application) -> None:
    page = open_page(application)
    feed(application, report(template={"name": "plain"}), rows(), end=DONE)
    rail = page.view.rail
    assert rail.size_card.pill.text() == "Good"
    rail.size_card.use.click()
    assert application.project.value.settings["adapter"] == {"rank": 16}
    assert not rail.size_card.use.isEnabled()
    forms = rail.format_card.forms
    assert forms.currentData() == "plain"
    forms.activated.emit(forms.findData("chatml"))
    forms.setCurrentIndex(forms.findData("chatml"))
    forms.activated.emit(forms.currentIndex())
    assert application.project.value.settings["data"]["template"] == "chatml"
    feed(application, report(), rows(), end=DONE)
    assert rail.format_card.forms.isHidden() or not rail.format_card._form.isVisibleTo(rail)


def test_answers_that_are_no_json_are_shown(application: Application) -> None:
    page = ready(application)
    card = page.view.rail.format_card
    assert card.json.text() == "58 of 60 answers are JSON; 2 do not parse"
    card.show_json.click()
    assert page.view.visits.text.text().startswith("2 answers are no valid JSON")
    assert json_words({"json_answers": {"parse": 3, "of": 3}}) == "All 3 answers are JSON"
    assert json_words({"json_answers": None}) == ""


def test_findings_are_gone_through_round_and_round(application: Application) -> None:
    page = ready(application)
    page.findings.visit("duplicate:train")
    view = page.view
    assert view.visits.place.text() == "1 of the first 2"
    view.visits.on.click()
    view.visits.on.click()
    assert view.visits.place.text() == "1 of the first 2"
    view.visits.back.click()
    assert view.row == 600
    view.visits.close_button.click()
    assert view.tab == "findings"
    assert view.visits.isHidden()
    page.findings.visit("duplicate:train")
    feed(application, report(issues=[]), rows(), end=DONE)
    assert view.visits.isHidden()
    assert view.issues.isHidden()


def test_rows_are_filtered(application: Application) -> None:
    page = ready(application)
    view = page.view
    view.filter.setText("ORDER NUMBER")
    assert view.table.model().rowCount() == 6
    assert view._caption.text() == "6 of the first 60 rows"
    view.table.selectRow(1)
    view.switch.buttons["text"].click()
    assert view.row == 17
    view.select(0)
    assert view.filter.text() == ""
    (index,) = view.table.selectionModel().selectedRows()
    assert index.data() == "1"


def test_words_are_found_in_a_row(application: Application, qtbot: QtBot) -> None:
    page = ready(application)
    page.view.open_text(8)
    finder, text = page.view.text.finder, page.view.text.text
    finder.field.setText("PLANS")
    assert finder._found.text() == "1 of 7"
    qtbot.keyClick(finder.field, Qt.Key.Key_Return)
    assert finder._found.text() == "2 of 7"
    first = text.textCursor().position()
    assert text.toPlainText()[first : first + 5] == "plans"
    qtbot.keyClick(finder.field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    finder.back.click()
    assert finder._found.text() == "7 of 7"
    finder.field.setText("nowhere")
    assert finder._found.text() == "not found"
    assert not finder.on.isEnabled()


def test_signs_of_the_template_are_told_from_text() -> None:
    assert all(map(is_control, ("<|im_end|>", "<s>", "[INST]", "</think>", "[/INST]")))
    assert not any(map(is_control, ("<", " <b", "a<b>", "[1]", "Answer")))


def test_a_set_from_hugging_face(application: Application) -> None:
    page = open_page(application, data=None)
    page.drop.from_hub.click()
    (sheet,) = application.window.findChildren(HubSheet)
    assert not sheet.use.isEnabled()
    sheet.fields["name"].setText("https://huggingface.co/datasets/openai/gsm8k/viewer/main")
    sheet.fields["subset"].setText("main")
    sheet.use.click()
    project = application.project.value
    assert project.data is not None
    assert project.data.source == "openai/gsm8k"
    assert project.settings["data"] == {"subset": "main"}
    feed(application, events.Phase("downloading", 12_000_000, 48_000_000))
    assert page._waiting._text.text() == "Downloading openai/gsm8k: 12 MB of 48 MB"
    page.sources.use_sample("demo")
    assert application.project.value.settings.get("data", {}) == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "CSV"), ("a.jsonl.gz", "JSON lines, packed"), ("a.parquet", "Parquet"),
        ("folder", ""), ("a.b", ""),
    ],
)  # fmt: skip
def test_kinds_of_files_in_words(name: str, kind: str) -> None:
    assert file_words({}, name) == kind


def test_mixed_rows_are_counted() -> None:
    name, words = format_words({"formats": {"alpaca": 4800, "messages": 12, "text": 0}})
    assert name == "Mixed rows"
    assert words == (
        "Each row is read as what it is: 4,800 instructions (alpaca), 12 conversations."
    )


def test_a_copy_that_cannot_be_written_says_why(application: Application) -> None:
    page = open_page(application)
    feed(application, report(issues=[issue("broken", 2, (1,))]), rows(), end=DONE)
    cleaning = application.inspection.cleaning
    cleaning.worker = SilentJob
    page.view.issues.clean.click()
    (sheet,) = application.window.findChildren(CleanSheet)
    sheet.write.click()
    job = cleaning.job
    assert job is not None
    assert job.what.fixes == ("broken",)  # type: ignore[union-attr]
    assert not sheet.write.isEnabled()
    failed = events.Failed(code="disk_full", where="x", why="the disk is full", fix="make room")
    job.ended.emit(failed)
    assert sheet.sum.text() == "The disk is full. Make room."
    sheet.write.click()
    sheet.cancel.click()
    assert cleaning.job is None
    assert page.view.tab == "rows"
    assert application.project.value.data is not None
    assert application.project.value.data.source == TICKETS.source


def test_a_place_for_a_copy(tmp_path: Path) -> None:
    facts = {"stamp": "train:1:2", "formats": {"messages": 3}}
    first = copy_path(tmp_path, "tickets.csv.gz", facts)
    assert first == tmp_path / "datasets" / "tickets cleaned.jsonl"
    first.parent.mkdir()
    first.touch()
    assert copy_path(tmp_path, first.name, facts).name == "tickets cleaned 2.jsonl"
    assert copy_path(tmp_path, "play.txt", {"formats": {"document": 1}}).name == "play cleaned.txt"
    both = {"stamp": "train:1:2 valid:3:4"}
    assert copy_path(tmp_path, "owner/set", both).name == "owner set cleaned"


def test_many_findings_and_rows_hold_nobody_up(application: Application) -> None:
    """200 rows and 300 findings are shown within a twentieth of a second a turn."""
    page = open_page(application)
    application.window.resize(1280, 800)
    application.window.show()
    found = [
        issue(CODES[at % len(CODES)], at + 1, tuple(range(200)), split=f"s{at}")
        for at in range(300)
    ]
    page.view.open("findings")
    feed(application, report(issues=found), rows(200), end=DONE)
    began = time.perf_counter()
    page._show()
    page.view.findings._issues = []
    page.findings.show_issues()
    assert time.perf_counter() - began < 0.25  # 5 x the budget: machines of others


def failed_with(application: Application, data: DataChoice, failure: events.Failed) -> DatasetPage:
    page = open_page(application, data=data)
    feed(application, end=failure)
    return page


def test_another_encoding_is_converted_in_a_copy(application: Application) -> None:
    why = "it is not UTF-8 text; it seems to be Windows-1252"
    fix = "understudy data clean tickets.csv --out copy.jsonl writes a copy in UTF-8"
    failure = events.Failed(code="bad_data", where="tickets.csv:3:9", why=why, fix=fix)
    page = failed_with(application, TICKETS, failure)
    assert "understudy data" not in page.banner.text.text()
    application.inspection.cleaning.worker = SilentJob
    page.banner.fix.click()
    (sheet,) = application.window.findChildren(CleanSheet)
    sheet.write.click()
    job = application.inspection.cleaning.job
    assert job is not None
    assert job.what.fixes == ()  # type: ignore[union-attr]
    made = {"path": "~/copies/tickets cleaned.jsonl", "rows": 3, "removed": {}}
    job.said.emit(events.Report(kind="clean", data=made))
    job.ended.emit(DONE)
    data = application.project.value.data
    assert data == DataChoice("~/copies/tickets cleaned.jsonl", "tickets cleaned.jsonl")
    assert not sheet.isVisible()


def test_a_set_with_several_subsets_asks_which(application: Application) -> None:
    why, fix = "it has several configurations: main, socratic", "choose one with --subset main"
    failure = events.Failed(code="no_such_data", where="openai/gsm8k", why=why, fix=fix)
    page = failed_with(application, DataChoice("openai/gsm8k", "openai/gsm8k"), failure)
    assert page.banner.fix.text() == "Choose Subset…"
    assert "--" not in page.banner.text.text()
    page.banner.fix.click()
    (sheet,) = application.window.findChildren(HubSheet)
    assert sheet.fields["name"].text() == "openai/gsm8k"
    sheet.fields["subset"].setText("socratic")
    sheet.use.click()
    assert application.project.value.settings["data"]["subset"] == "socratic"


def test_without_a_connection_it_can_be_tried_again(application: Application) -> None:
    failure = events.Failed(code="network", where="x/y", why="no connection", fix="connect")
    page = failed_with(application, DataChoice("x/y", "x/y"), failure)
    assert page.banner.fix.text() == "Try Again"
    page.banner.fix.click()
    assert application.inspection.state == "reading"


@pytest.mark.slow
def test_every_sample_is_offered_and_ready(application: Application, qtbot: QtBot) -> None:
    """With real workers: each of them can be trained as it is."""
    page = real(application)
    *offered, _separator, _whole = page.drop.samples.actions()
    assert [action.text().partition("\t")[0] for action in offered] == [
        "Shakespeare", *(sample.title for sample in SAMPLES)
    ]  # fmt: skip
    for action in offered:
        action.trigger()
        qtbot.waitUntil(lambda: page.state in {"ready", "error"}, timeout=20_000)
        data = application.project.value.data
        assert data is not None
        assert page.primary().enabled, (data.title, page.banner.text.text(), page.hint())
