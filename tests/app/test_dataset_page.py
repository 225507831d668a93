"""The Dataset page and the inspection behind it: what comes in, what is said, what is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtCore import QAbstractItemModel, QPoint, Qt
from PySide6.QtGui import QGuiApplication, QTextCursor
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QFileDialog
from scenes.dataset import (
    DONE,
    QWEN,
    TICKETS,
    SilentJob,
    broken_file,
    feed,
    issue,
    open_page,
    pieces,
    report,
    rows,
)  # fmt: skip

from app.issues import issues_of, refused
from app.models.dataset_rows import DatasetRows
from app.models.excerpt import read_excerpt
from app.models.pasted import kind_of, save_text
from app.project import DataChoice, ModelChoice
from app.steps import data_fits
from app.widgets.clean_sheet import CleanSheet
from app.widgets.histogram import Histogram
from app.widgets.paste_sheet import PasteSheet
from app.widgets.token_text import TokenText, state_format, visible
from app.widgets.token_view import TokenView
from mlx_lora import events
from mlx_lora.config import DataConfig
from mlx_lora.data.findings import CODES

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.pages.dataset import DatasetPage

DEMO = ModelChoice("demo", "Storybook", "bundled")


def ready(application: Application) -> DatasetPage:
    page = open_page(application)
    feed(application, report(), rows(), pieces(3), pieces(8, cut=True), end=DONE)
    return page


def real(application: Application, model: ModelChoice | None = DEMO) -> DatasetPage:
    """The page with real workers."""
    application.project.update(model=model)
    application.window.go("dataset")
    page: Any = application.window.page
    return page


# -- the way in


def test_a_dropped_file_is_read_and_only_read(
    application: Application, tiny_text: Path, qtbot: QtBot
) -> None:
    before = (tiny_text.read_bytes(), tiny_text.stat().st_mtime_ns)
    application.project.update(model=DEMO)
    application.window.dropped.emit(tiny_text)
    page: Any = application.window.page
    assert page.key == "dataset"
    assert page.state == "loading"
    assert not page.primary().enabled
    qtbot.waitUntil(lambda: page.state == "ready", timeout=20_000)
    project = application.project.value
    assert data_fits(project)
    assert project.name == "play"
    assert project.data is not None
    facts = project.data.facts
    assert facts["training_rows"] + facts["validation_rows"] == facts["rows_read"]
    assert page.view.header.rows.value.text() == str(facts["rows_read"])
    assert page.primary().enabled
    assert page.primary().shortcut == "Train Now"
    assert "tokens to learn" in page.hint()
    page.view.open_text(1)
    shown = page.view.text.text.exact_text()
    assert shown.startswith("<|begin_of_text|>FIRST:\nWho goes there")
    last = facts["last_row"]
    page.view.text.number.setValue(last)
    assert last not in application.inspection.found.pieces or last <= 50
    qtbot.waitUntil(lambda: last in application.inspection.found.pieces, timeout=20_000)
    assert page.view.text.text.exact_text().endswith("<|end_of_text|>")
    assert (tiny_text.read_bytes(), tiny_text.stat().st_mtime_ns) == before


def test_facts_come_without_the_page_and_again_for_another_model(
    application: Application, tiny_text: Path
) -> None:
    application.inspection.worker = SilentJob
    application.project.update(model=DEMO, data=DataChoice(str(tiny_text), tiny_text.name))
    assert application.inspection.state == "reading"
    feed(application, report(), rows(), end=DONE)
    data = application.project.value.data
    assert data is not None
    assert (data.facts["model"], data.facts["training_rows"]) == ("demo", 4329)
    application.project.update(model=QWEN)
    assert not data_fits(application.project.value)
    assert application.inspection.state == "reading"
    feed(application, report(training_rows=99), rows(), end=DONE)
    assert data_fits(application.project.value)
    data = application.project.value.data
    assert data is not None
    assert data.facts["training_rows"] == 99


def test_an_answer_for_the_model_before_is_not_kept(application: Application) -> None:
    page = open_page(application)
    application.inspection.refresh()
    first = application.inspection.job
    application.project.update(model=DEMO)
    application.inspection.refresh()
    assert first is not None
    first.said.emit(report(training_rows=1))
    first.ended.emit(DONE)
    assert application.inspection.state == "reading"
    assert application.project.value.data == TICKETS
    feed(application, report(), rows(), end=DONE)
    assert page.state == "ready"
    assert application.inspection.found.facts["training_rows"] == 4329


def test_known_facts_need_no_worker_until_the_page_is_opened(application: Application) -> None:
    asked: list[Any] = []

    def worker(what: Any) -> SilentJob:
        asked.append(what)
        return SilentJob(what)

    application.inspection.worker = worker
    facts = {"model": QWEN.source, **report().data}
    application.project.update(model=QWEN, data=DataChoice(TICKETS.source, TICKETS.title, facts))
    assert application.inspection.state == "ready"
    assert asked == []
    application.window.go("dataset")
    assert len(asked) == 1
    page: Any = application.window.page
    assert page.state == "ready"
    assert page.view.header.rows.value.text() == "4,812"
    feed(application, report(), rows(), end=DONE)
    assert page.view.table.model().rowCount() == 60


def test_a_file_written_to_since_is_read_again(
    application: Application, tiny_text: Path, qtbot: QtBot
) -> None:
    page = open_page(application, data=DataChoice(str(tiny_text), tiny_text.name))
    stat = tiny_text.stat()
    stamp = f"train:{stat.st_size}:{stat.st_mtime_ns}"
    feed(application, report(stamp=stamp), rows(), end=DONE)
    page.entered()
    application.tasks.wait()
    qtbot.wait(20)
    assert application.inspection.state == "ready"
    tiny_text.write_text("Something else.")
    page.entered()
    qtbot.waitUntil(lambda: application.inspection.state == "reading")
    assert page.state == "ready"
    assert "again" in page.hint()


def test_the_sample_and_the_whole_sample(application: Application, qtbot: QtBot) -> None:
    page = open_page(application, data=None)
    assert page.state == "empty"
    first, *_, whole = page.drop.samples.actions()
    first.trigger()
    data = application.project.value.data
    assert data is not None
    assert data.source == "demo"
    page.sample.disconnect()  # the application would train it
    with qtbot.waitSignal(page.sample):
        whole.trigger()


@pytest.mark.parametrize("button", ["choose", "choose_folder"])
def test_a_file_dialog_brings_a_path(
    application: Application, button: str, tiny_text: Path
) -> None:
    page = open_page(application, data=None)
    getattr(page.drop, button).click()
    (dialog,) = application.window.findChildren(QFileDialog)
    assert dialog.isVisible()
    chosen = tiny_text if button == "choose" else tiny_text.parent
    dialog.fileSelected.emit(str(chosen))
    dialog.reject()
    data = application.project.value.data
    assert data is not None
    assert (data.source, data.title) == (str(chosen), chosen.name)


def test_pasted_text_becomes_a_file_of_the_persons_own(
    application: Application, root: Path, qtbot: QtBot
) -> None:
    page = open_page(application, data=None)
    QGuiApplication.clipboard().setText("  \n")
    page.drop.paste.click()
    assert page.banner.title.text() == "There is no text on the clipboard"
    text = "OPHELIA:\nGood my lord, \u2014\n"
    QGuiApplication.clipboard().setText(text)
    for name in ("Ophelia.txt", "Ophelia 2.txt"):
        page.drop.paste.click()
        sheet = application.window.findChildren(PasteSheet)[-1]
        assert sheet.text.toPlainText() == text
        sheet.name.setText("Ophelia")
        sheet.save.click()
        path = root / "datasets" / name
        qtbot.waitUntil(lambda path=path: path.is_file())
        assert path.read_text() == text
    qtbot.waitUntil(lambda: application.project.value.data is not None)
    page.drop.paste.click()
    sheet = application.window.findChildren(PasteSheet)[-1]
    sheet.text.setPlainText(" ")
    assert not sheet.save.isEnabled()
    sheet.cancel.click()
    assert len(list((root / "datasets").iterdir())) == 2


def test_what_was_pasted_tells_its_kind(tmp_path: Path) -> None:
    row = json.dumps({"text": "a"})
    assert kind_of(f"{row}\n\n{row}\n") == ".jsonl"
    assert kind_of(f"[{row}]") == ".json"
    assert kind_of(f"{row}\nand more") == ".txt"
    assert kind_of("[not json") == ".txt"
    assert save_text(tmp_path, "../a/b", "x").parent == tmp_path / "datasets"


# -- states


def test_without_a_model_the_file_is_kept(application: Application, qtbot: QtBot) -> None:
    page = open_page(application, model=None)
    assert page.banner.title.text() == "Choose a model first"
    assert TICKETS.title in page.banner.text.text()
    assert not page.primary().enabled
    with qtbot.waitSignal(page.leave) as left:
        page.banner.fix.click()
    assert left.args == ["model"]
    assert application.project.value.data == TICKETS
    application.project.update(model=QWEN)
    assert page.state == "loading"


def test_reading_tells_how_far_and_can_be_given_up(application: Application) -> None:
    page = open_page(application)
    feed(application, events.Phase("rendering", 1204, 4812))
    assert page.state == "loading"
    assert page._waiting._text.text() == "Reading row 1,204 of 4,812"
    page._waiting.offer_cancel()
    page._waiting.cancel.click()
    assert application.project.value.data is None
    assert application.inspection.job is None
    assert page.state == "empty"


def test_a_broken_row_is_cleaned_away_and_back(
    application: Application, root: Path, qtbot: QtBot
) -> None:
    """With real workers: a broken file, its places, a copy without them, ready; and undone."""
    data = broken_file(application)
    file = root / data.title
    before = file.read_bytes()
    page = real(application)
    page.take(file)
    qtbot.waitUntil(lambda: page.state == "ready", timeout=20_000)
    assert not page.primary().enabled
    assert page.hint() == "Not yet: 2 rows cannot be read"
    page.view.issues.review.click()
    details = page.view.findings.details
    assert details.places.count() == 2
    assert "line 17, column" in details.places.item(0).text()
    qtbot.waitUntil(lambda: "Thirty days from }" in details.excerpt.toPlainText())
    details.places.setCurrentRow(1)
    qtbot.waitUntil(lambda: "41  " in details.excerpt.toPlainText())
    details.clean.click()
    (sheet,) = application.window.findChildren(CleanSheet)
    assert sheet.boxes["broken"].isChecked()
    sheet.write.click()
    qtbot.waitUntil(lambda: page.primary().enabled, timeout=20_000)
    copy = root / "datasets" / "support_tickets cleaned.jsonl"
    assert len(copy.read_text().splitlines()) == 57
    assert application.project.value.data is not None
    assert application.project.value.data.title == copy.name
    assert page.banner.title.text() == f"You are using a cleaned copy: {copy.name}"
    assert file.read_bytes() == before
    page.banner.fix.click()
    assert application.project.value.data is not None
    assert application.project.value.data.source == str(file)
    assert page.banner.isHidden()
    assert copy.exists()


@pytest.mark.parametrize(
    ("where", "line", "column", "mark"),
    [
        ("{file}:4:3", 4, 3, 2),
        ("{file}:4", 4, 0, -1),
        ("rows.jsonl row 2", 2, 0, -1),
        ("{file}:4:90", 4, 90, 41),
    ],
)
def test_the_lines_around_a_fault(
    tmp_path: Path, where: str, line: int, column: int, mark: int
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(f"{n}{'x' * 200}" for n in range(1, 9)))
    data = DataConfig(source=str(path))
    found = read_excerpt(data, tmp_path, where.format(file=path))
    assert found is not None
    assert (found.line, found.column, found.mark) == (line, column, mark)
    assert [number for number, _ in found.lines] == list(range(max(1, line - 2), line + 3))
    assert max(len(text) for _, text in found.lines) <= 98
    assert read_excerpt(data, tmp_path, "the model's chat template") is None
    assert read_excerpt(data, tmp_path, f"{path}:400:1") is None


def failed(application: Application, code: str, why: str) -> DatasetPage:
    page = open_page(application)
    feed(application, end=events.Failed(code=code, where="row 3", why=why, fix="choose"))
    return page


def test_a_model_that_does_not_fit_sends_to_the_models(
    application: Application, qtbot: QtBot
) -> None:
    page = failed(application, "no_template", "this model has no chat template")
    assert page.banner.fix.text() == "Choose Another Model"
    with qtbot.waitSignal(page.leave) as left:
        page.banner.fix.click()
    assert left.args == ["model"]


def test_a_form_that_was_chosen_away_can_be_had_back(application: Application) -> None:
    page = open_page(application)
    page.choices.set("template", "none")
    why = "this model has no chat template for conversations"
    feed(application, end=events.Failed(code="no_template", where="row 3", why=why, fix="choose"))
    assert page.banner.fix.text() == "Choose the Form for Me"
    page.banner.fix.click()
    assert application.project.value.settings["data"]["template"] == "auto"
    assert page.state == "loading"


def test_rows_that_are_all_too_long_can_be_allowed(application: Application) -> None:
    page = failed(application, "bad_data", "no row has anything to learn in it")
    assert page.banner.fix.text() == "Allow 1,024 Tokens"
    page.banner.fix.click()
    assert application.project.value.settings["data"]["max_length"] == 1024
    assert page.state == "loading"


def test_too_few_rows_are_said(application: Application) -> None:
    page = open_page(application)
    feed(application, report(issues=[issue("few_rows", 7)]), rows(7), end=DONE)
    assert page.view.issues.accessibleName() == "There are only 7 rows"
    page.view.issues.review.click()
    assert page.view.tab == "findings"
    assert page.view.findings.details.rows.isHidden()
    assert page.hint().startswith("Ready, with a warning")
    assert page.primary().enabled


# -- what is shown


def test_numbers_rows_and_format(application: Application) -> None:
    page = ready(application)
    header = page.view.header
    said = [m.value.text() for m in (header.rows, header.tokens, header.average, header.over)]
    assert said == ["4,812", "1.31 M", "272", "23"]
    assert header.kind.text() == "6.4 MB \u00b7 JSON lines \u00b7 question + answer"
    model: QAbstractItemModel = page.view.table.model()
    titles = [model.headerData(n, Qt.Orientation.Horizontal) for n in range(model.columnCount())]
    assert titles == ["Row", "Prompt", "Completion", "Tokens"]
    assert [model.index(n, 3).data() for n in (0, 7, 9)] == ["412", "2,318 \u00b7 cut", "left out"]
    assert "limit of 512" in page.view.figures.histogram.accessibleName()
    QAbstractItemModelTester(model)


def test_an_issue_leads_to_its_rows_one_after_the_other(application: Application) -> None:
    page = ready(application)
    view = page.view
    view.switch.buttons["findings"].click()
    assert view.switch.buttons["findings"].text() == "Findings \u00b7 5"
    view.findings.list.choose("cut:train")
    view.findings.details.rows.click()
    for number in (8, 9):
        (index,) = view.table.selectionModel().selectedRows()
        assert index.data() == str(number)
        assert view.tab == "rows"
        assert view.visits.place.text() == f"{number - 7} of 23"
        view.visits.on.click()
    # row 4,711 is not among the first: it is asked for
    assert page.view.shows_text
    assert page.view.text.number.value() == 4711
    job = application.inspection._row_job
    assert job is not None
    assert job.what.row == 4711  # type: ignore[union-attr]
    job.said.emit(pieces(4711))
    job.ended.emit(DONE)
    assert page.view.text.text.exact_text().startswith("<|im_start|>user\nWhat is")


def test_rows_without_a_text_say_why(application: Application) -> None:
    page = ready(application)
    page.view.open_text(96)
    job = application.inspection._row_job
    assert job is not None
    job.ended.emit(DONE)
    assert page.view.text._why.text().startswith("Row 96 has nothing to show: it is left out")
    assert not page.view.text.copy.isEnabled()
    page.view.open_text(97)
    job = application.inspection._row_job
    assert job is not None
    job.ended.emit(
        events.Failed(code="bad_option", where="row 97", why="there is no such row", fix="")
    )
    assert "there is no such row" in page.view.text._why.text()


def test_the_models_view_of_a_row(application: Application) -> None:
    page = ready(application)
    page.view.select(7)
    page.view.switch.buttons["text"].click()
    view: TokenView = page.view.text
    assert view.number.value() == 8
    found = application.inspection.found.pieces[8]
    assert view.text.toPlainText() == visible("".join(text for text, _ in found))
    assert "\u21b5" in view.text.toPlainText()
    plain, marked = view.copy.menu().actions()
    plain.trigger()
    assert QGuiApplication.clipboard().text() == "".join(text for text, _ in found)
    marked.trigger()
    said = QGuiApplication.clipboard().text()
    assert "<|im_start|>assistant\n{+<think>" in said
    assert said.endswith("+}[-" + "".join(t for t, state in found if state == "cut") + "-]")
    assert view.legend["cut"].text() == "Cut 17"
    looks = {state: state_format(state) for state in ("trained", "masked", "cut")}
    assert looks["trained"].fontUnderline()
    assert looks["cut"].fontStrikeOut()
    assert not looks["masked"].fontStrikeOut()
    assert not looks["masked"].fontUnderline()
    for at, (text, state) in enumerate(found):
        view.text.go_to(at)
        cursor = view.text.textCursor()
        cursor.movePosition(QTextCursor.MoveOperation.NextCharacter)
        shown = cursor.charFormat()
        assert shown.fontStrikeOut() == (state == "cut"), text
        assert (shown.underlineStyle() == looks["trained"].underlineStyle()) == (state == "trained")
        assert view._under.text().startswith(f"Token {at + 1:,}: ")
    view.back.click()
    assert view.number.value() == 7
    assert page.view.row == 7
    page.view.switch.buttons["rows"].click()
    assert not page.view.shows_text


def test_selected_text_is_copied_exactly(qtbot: QtBot) -> None:
    text = TokenText()
    qtbot.addWidget(text)
    text.show_pieces(
        [("a\n", "masked"), ("\tb", "trained"), ("\x07\U0001f600", "trained"), ("c", "cut")]
    )
    assert text.toPlainText() == "a\u21b5\n\u2192\tb\u2407\U0001f600c"
    text.selectAll()
    assert text.createMimeDataFromSelection().text() == "a\n\tb\x07\U0001f600c"
    text.go_to(2)
    assert text.textCursor().position() == 6
    text.go_to(3)
    assert text.textCursor().position() == 9


def test_the_ruler_leads_to_a_place(qtbot: QtBot) -> None:
    view = TokenView()
    qtbot.addWidget(view)
    view.resize(500, 300)
    view.show()
    view.show_row([(f"w{n} ", "masked" if n < 50 else "trained") for n in range(100)], 100)
    ruler = view.ruler
    qtbot.mouseClick(ruler, Qt.MouseButton.LeftButton, pos=QPoint(ruler.width() * 3 // 4, 8))
    assert view._under.text() == "Token 76: \u201cw75 \u201d, learnt"
    assert ruler.accessibleName() == "Ruler of 100 tokens: 50 masked, 50 trained"


def test_the_histogram_tells_its_limit(qtbot: QtBot) -> None:
    histogram = Histogram("Token lengths")
    qtbot.addWidget(histogram)
    histogram.say([0, 10, 20, 30], [5, 0, 2], 20)
    wanted = "Token lengths: 7 rows, the longest has 30, about 2 rows longer than the limit of 20"
    assert histogram.accessibleName() == wanted
    histogram.say([], [], 0)
    histogram.grab()


# -- what is decided


def test_the_split_is_saved_once_it_rests_and_read_again(
    application: Application, qtbot: QtBot
) -> None:
    page = ready(application)
    slider = page.view.rail.slider
    assert slider.value() == 90
    for value in (85, 82, 80):
        slider.setValue(value)
    assert page.view.rail._sides.text() == "3,848 to learn from \u00b7 962 to measure with"
    assert "val_fraction" not in application.project.value.settings.get("data", {})
    qtbot.waitUntil(lambda: application.inspection.job is not None)
    assert application.project.value.settings["data"]["val_fraction"] == 0.2
    assert page.state == "ready"
    assert data_fits(application.project.value)
    feed(application, report(training_rows=3848, validation_rows=962), rows(), end=DONE)
    assert page.view.rail._sides.text() == "3,848 to learn from \u00b7 962 to measure with"
    assert application.inspection.job is None


def test_what_is_learnt_is_chosen(application: Application) -> None:
    page = ready(application)
    page.view.rail.learn.buttons["all"].click()
    assert application.project.value.settings == {"data": {"train_on": "all"}}
    assert application.inspection.state == "reading"
    feed(application, report(formats={"document": 1}), rows(), end=DONE)
    assert page.view.rail.learn.isHidden()


def test_own_validation_rows_need_no_slider(application: Application) -> None:
    page = open_page(application)
    feed(application, report(own_validation=True), rows(), end=DONE)
    assert page.view.rail.slider.isHidden()


def test_on_to_the_settings_or_straight_to_training(
    application: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ready(application)
    with qtbot.waitSignal(page.leave) as left:
        application.window.primary.click()
    assert left.args == ["configure"]
    application.window.go("dataset")
    started: list[int] = []
    monkeypatch.setattr(type(application.training), "start", lambda _self: started.append(1))
    assert application.window.shortcut.text() == "Train Now"
    application.window.shortcut.click()
    assert started == [1]
    application.project.update(model=DEMO)
    assert not page.primary().enabled
    assert page.primary().shortcut == ""


@pytest.mark.parametrize("count", [1, 2])
def test_issues_are_in_the_librarys_words_errors_first(count: int) -> None:
    found = [issue(code, count, (3,)) for code in reversed(CODES)]
    issues = issues_of({"limit": 512, "issues": found})
    levels = [issue.level for issue in issues]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    broken = next(issue for issue in issues if issue.code == "broken")
    assert broken.title.startswith("1 row cannot" if count == 1 else "2 rows cannot")
    assert refused({"issues": found}) == [one for one in issues if one.level == "error"]


def test_facts_an_older_version_saved_still_have_words() -> None:
    found = [{"code": c, "split": "train", "count": 2, "rows": [3]} for c in ("cut", "odd")]
    cut, odd = issues_of({"limit": 512, "issues": found})
    assert cut.title == "2 rows are longer than 512 tokens and are cut"
    assert odd.title == "odd"


def test_a_table_of_conversations() -> None:
    model = DatasetRows()
    QAbstractItemModelTester(model)
    row = {"row": 1234, "values": {"user": "Who?"}, "tokens": 9, "cut": 0, "left_out": ""}
    model.show([row], ["user", "assistant", "turns"])
    titles = [model.headerData(n, Qt.Orientation.Horizontal) for n in range(5)]
    assert titles == ["Row", "First question", "Last answer", "Turns", "Tokens"]
    assert [model.index(0, n).data() for n in range(5)] == ["1,234", "Who?", "", "", "9"]
    assert model.row_of(1234) == 0
    assert model.row_of(1) == -1


def test_facts_that_hold_little_are_shown_all_the_same(application: Application) -> None:
    facts = {"model": QWEN.source, "training_rows": 90, "validation_rows": 10}
    page = open_page(application, data=DataChoice(TICKETS.source, TICKETS.title, facts))
    assert page.state == "ready"
    assert page.view.header.rows.value.text() == "100"
    for tab in ("findings", "figures", "rows"):
        page.view.switch.buttons[tab].click()
    assert page.primary().enabled


def test_a_value_that_is_being_typed_elsewhere_disturbs_nothing(application: Application) -> None:
    page = ready(application)
    typed = {"adapter": {"rank": ""}, "data": {"max_length": "fast", "val_fraction": "x"}}
    application.project.update(settings=typed)
    assert page.state == "ready"
    assert page.choices.rank() == 0
    settings = page.choices.settings()
    assert (settings.max_length, settings.val_fraction) == (512, 0.1)
