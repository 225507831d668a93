"""Dataset: choose data, see what the model will make of it, decide how it is learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QTimer, Signal

from app.models.dataset_rows import DatasetRows
from app.models.excerpt import Excerpt, read_excerpt
from app.pages.dataset_choices import DatasetChoices
from app.pages.dataset_findings import DatasetFindings
from app.pages.dataset_sources import SAMPLES, DatasetSources
from app.pages.dataset_words import choices_said, figures_said, hint_of, reading_words
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.steps import data_fits
from app.widgets.data_empty import DropArea, FormatExamples
from app.widgets.data_view import DataView
from app.widgets.excerpt_card import ExcerptCard
from app.widgets.hub_sheet import is_hub_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.desk import Desk
    from app.pages.dataset_sources import Brought
    from mlx_lora.events import Failed

_MODEL_CODES = {
    "bad_model", "bad_template", "damaged_model", "missing_shard", "no_such_model", "no_template",
    "no_weights", "unsupported_model",
}  # fmt: skip
# a check that ends within it is not worth a line, ms
_SIGN_AFTER = 400


Fix = tuple[str, "Callable[[], object]"]


class DatasetPage(Page):
    """The second step. `sample` asks for the whole sample project."""

    sample = Signal()
    key, title = "dataset", "Choose what it learns"
    purpose = "Drop a text, a table or rows of questions and answers; your file is never changed."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._rows = DatasetRows()
        self._shown: object = None
        self._told: tuple[object, int] = (None, 0)
        self._mapped = ""
        self._late = QTimer(self, singleShot=True, interval=_SIGN_AFTER)
        self._late.timeout.connect(self._show_progress)
        self.sources = DatasetSources(self, desk)
        self.drop, self.excerpt, self.view = DropArea(), ExcerptCard(), DataView(self._rows)
        self.drop.offer_samples(SAMPLES)
        self.choices = DatasetChoices(self.view, desk)
        self.findings = DatasetFindings(self, self.view, self._rows, self.choices)
        self.empty.addWidget(self.excerpt)
        self.empty.addWidget(self.drop, 1)
        self.examples = FormatExamples()
        self.empty.addWidget(self.examples)
        self.body.addWidget(self.view, 1)
        self._connect()
        self._show()

    # -- ways to bring data

    def take(self, path: Path) -> None:
        """Use a file or a folder."""
        self.sources.take(path)

    def choose(self) -> None:
        """Ask for a file."""
        self.sources.choose()

    # -- what the window asks

    def hint(self) -> str:
        """What is missing, or true now."""
        return hint_of(self.desk.inspection.state, self.desk.chosen)

    def primary(self) -> Primary:
        """On to the settings, or straight to training."""
        fits, training = data_fits(self.desk.chosen), self.desk.training
        busy = training.checking or self.desk.progress.status in {"running", "queued", "paused"}
        return Primary(enabled=fits, shortcut="Train Now" if fits and not busy else "")

    def act(self) -> None:
        """To the settings."""
        self.leave.emit("configure")

    def act_shortcut(self) -> None:
        """Train with what is set."""
        self.desk.training.start()
        self.changed.emit()

    def entered(self) -> None:
        """The rows are wanted now."""
        self.desk.inspection.ensure()
        self._show()

    # -- how it works

    def _connect(self) -> None:
        inspection, view, sources = self.desk.inspection, self.view, self.sources
        inspection.changed.connect(self._show)
        inspection.row_shown.connect(self._show_text)
        self.desk.project.changed.connect(self._show)
        self.desk.training.failed.connect(self.changed)
        sources.brought.connect(self._use)
        self.drop.chosen.connect(sources.choose)
        self.drop.folder.connect(sources.choose_folder)
        self.drop.hub.connect(sources.choose_hub)
        self.drop.sample.connect(sources.use_sample)
        self.drop.pasted.connect(sources.paste)
        self.drop.tried.connect(self.sample)
        view.header.replace.connect(self.choose)
        view.row_wanted.connect(inspection.show_row)
        view.progress.cancelled.connect(inspection.cancel)
        view.rail.format_card.columns_wanted.connect(self._offer_columns)
        view.findings.details.columns_wanted.connect(self._offer_columns)
        view.issues.columns_wanted.connect(self._offer_columns)
        view.columns.closed.connect(lambda: view.open("rows"))
        self.choices.mapped.connect(lambda: view.open("rows"))

    def _use(self, brought: Brought) -> None:
        """Choose it; the project takes its name where it has none."""
        project, choice = self.desk.chosen, brought.choice
        again = project.data is not None and project.data.source == choice.source
        name = choice.title.removesuffix(".gz").rpartition(".")[0] or choice.title
        names = {"name": name} if project.name == "Untitled" else {}
        settings = self.choices.for_another_file(brought.part)
        self._mapped = ""
        self.view.open("rows")
        self.desk.project.update(data=choice, settings=settings, **names)
        if again:
            self.desk.inspection.refresh()

    def _show(self) -> None:
        """The state that holds now; each is entered once."""
        inspection, data = self.desk.inspection, self.desk.chosen.data
        state = self._state()
        now = (state, data.source if data else "", id(inspection.failure))
        fresh, self._shown = now != self._shown, now
        if inspection.state != "reading":
            self._late.stop()
            self.view.progress.hide()
        elif not self._late.isActive() and self.view.progress.isHidden():
            self._late.start()
        elif not self.view.progress.isHidden():
            self._show_progress()
        if state == "loading":
            if fresh:
                self.show_loading(reading_words(inspection.phase, data), inspection.cancel)
            phase = inspection.phase
            self.say_loading(reading_words(phase, data), phase.done, phase.total)
        elif state in {"ready", "running"}:
            self._fill()
            if fresh or self.state == "loading":
                self.show_state("ready" if state == "ready" else "running")
                self.findings.say_copy()
        elif fresh:
            self._show_begin()
        self.changed.emit()

    def _state(self) -> str:
        """Of the inspection, as this page shows it: running where rows are there before figures."""
        inspection = self.desk.inspection
        if inspection.state != "reading":
            return inspection.state
        if inspection.found.facts:
            return "ready"
        return "running" if inspection.found.rows else "loading"

    def _show_progress(self) -> None:
        """How far the check is, over the rows that are there already."""
        phase, data = self.desk.inspection.phase, self.desk.chosen.data
        tip = "Stops reading; the data is not chosen any more then"
        words = reading_words(phase, data)
        self.view.progress.say(words, phase.done, phase.total, tip=tip)

    def _show_begin(self) -> None:
        """Nothing to show yet, or nothing that could be read."""
        inspection, data = self.desk.inspection, self.desk.chosen.data
        self.excerpt.hide()
        self.examples.show()
        if inspection.state == "failed" and inspection.failure is not None:
            self._show_failure()
            return
        self.show_state("empty")
        if data is not None:
            words = f"{data.title} is kept. What a model sees of it depends on the model."
            act = ("Choose Model", lambda: self.leave.emit("model"))
            self.banner.say("Choose a model first", words, fix=act, closable=False)

    def _show_failure(self) -> None:
        failure, question = self.desk.inspection.failure, self.desk.inspection.question()
        assert failure is not None
        if self.desk.inspection.found.mapping:
            self._fill()
            self.show_error(problem_of(failure), ("Choose Columns…", self._offer_columns))
            self._offer_columns()
            return
        fix: Fix = ("Choose Another…", self.choose)
        if failure.code == "no_template" and self.choices.settings().template == "none":
            # the person's own choice, and the place to take it back is not on the page now
            words = "conversations need a form; one that fits the model can be taken"
            failure = msgspec.structs.replace(failure, fix=words)
            fix = ("Choose the Form for Me", lambda: self.choices.set("template", "auto"))
        elif failure.code in _MODEL_CODES:
            fix = ("Choose Another Model", lambda: self.leave.emit("model"))
        elif "anything to learn" in failure.why:
            longer = 2 * self.choices.settings().max_length
            fix = (f"Allow {longer:,} Tokens", lambda: self.choices.set("max_length", longer))
        elif fixed := self._way_out(failure):
            fix, failure = fixed
        self.show_error(problem_of(failure), fix, empty=True)
        if question is not None:
            data, root, where = question.data, self.desk.runs.root, failure.where
            self.desk.tasks.run(
                lambda: read_excerpt(data, root, where), self._show_excerpt, lambda _: None
            )

    def _way_out(self, failure: Failed) -> tuple[Fix, Failed] | None:
        """What the window does about a failure, and its words where they name a command."""
        data = self.desk.chosen.data
        if failure.code == "network":
            return ("Try Again", self.desk.inspection.refresh), failure
        if "UTF-8 text" in failure.why:
            words = "a copy in UTF-8 can be written; your file stays as it is"
            said = msgspec.structs.replace(failure, fix=words)
            return ("Convert a Copy…", self.findings.ask_to_convert), said
        asked = f"{failure.why} {failure.fix}".lower()
        if data and is_hub_name(data.source) and ("subset" in asked or "split" in asked):
            said = msgspec.structs.replace(failure, fix="say which one shall be used")
            why = problem_of(said).text
            return ("Choose Subset…", lambda: self.sources.choose_hub(why)), said
        return None

    def _show_excerpt(self, found: Excerpt | None) -> None:
        if found is None or self.state != "error":
            return
        column = f", column {found.column:,}" if found.column else ""
        self.examples.hide()
        title = f"{found.file}, line {found.line:,}{column}"
        self.excerpt.show_lines(title, found.lines, found.line, found.mark)

    def _fill(self) -> None:
        """The figures and the rows."""
        inspection, data = self.desk.inspection, self.desk.chosen.data
        found, view = inspection.found, self.view
        told = (found.rows, len(found.rows))
        if self._told[0] is not told[0] or self._told[1] != told[1]:
            self._told = told
            fields = dict.fromkeys(name for row in found.rows for name in row["values"])
            self._rows.show(list(found.rows), list(fields))
            if view.shows_text:
                view.open_text(view.row)
        figures_said(view, found.facts, found.rows, data.title if data else "")
        choices_said(view, found.facts, self.choices.settings(), self.choices.rank())
        self.findings.show_issues()
        source, mapping = data.source if data else "", found.mapping
        if mapping.get("needed") and self._mapped != source and inspection.state == "ready":
            self._mapped = source
            self._offer_columns()

    def _offer_columns(self) -> None:
        """Ask which column is which."""
        found, said = self.desk.inspection.found, self.choices.settings().columns
        mapping = found.mapping or {"columns": [], "suggested": {}}
        fields = said or mapping["suggested"]
        self.view.columns.offer(mapping["columns"], fields, found.rows, saved=bool(said))
        self.view.open("columns")

    def _show_text(self, row: int) -> None:
        """A row that was asked for is there."""
        inspection, view = self.desk.inspection, self.view
        if not view.shows_text or row != view.row:
            return
        if row in inspection.found.pieces:
            view.text.show_row(inspection.found.pieces[row], inspection.found.tokens[row])
        else:
            why = inspection.missing.get(row, "")
            view.text.show_nothing(f"Row {row:,} has nothing to show: {why}.")
