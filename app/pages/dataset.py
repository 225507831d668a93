"""Dataset: choose a text, see what the model will make of it, decide what is held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal

from app.issues import issues_of
from app.models.dataset_rows import DatasetRows
from app.models.excerpt import Excerpt, read_excerpt
from app.pages.dataset_sources import DatasetSources
from app.pages.dataset_words import figures_said, hint_of, reading_words
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.steps import data_fits
from app.widgets.data_empty import DropArea, FormatExamples
from app.widgets.data_view import DataView
from app.widgets.excerpt_card import ExcerptCard
from mlx_lora.config import PRESETS, DataConfig, merge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.desk import Desk
    from app.project import DataChoice

_MODEL_CODES = {
    "bad_model", "bad_template", "damaged_model", "missing_shard", "no_such_model", "no_template",
    "no_weights", "unsupported_model",
}  # fmt: skip


class DatasetPage(Page):
    """The second step. `sample` asks for the whole sample project."""

    sample = Signal()
    key, title = "dataset", "Choose what it learns"
    purpose = "Drop a text or rows of questions and answers; your file is never changed."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._rows = DatasetRows()
        self._shown: object = None
        self._visited: dict[str, int] = {}
        self.sources = DatasetSources(self, desk)
        self.drop, self.excerpt, self.view = DropArea(), ExcerptCard(), DataView(self._rows)
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
        self.drop.sample.connect(sources.use_sample)
        self.drop.pasted.connect(sources.paste)
        self.drop.tried.connect(self.sample)
        view.header.replace.connect(self.choose)
        view.issues.wanted.connect(self._visit)
        view.row_wanted.connect(inspection.show_row)
        view.rail.fraction.connect(lambda share: self._set("val_fraction", share))
        view.rail.train_on.connect(lambda choice: self._set("train_on", choice))

    def _use(self, choice: DataChoice) -> None:
        """Choose it; the project takes its name where it has none."""
        project = self.desk.chosen
        again = project.data is not None and project.data.source == choice.source
        name = choice.title.rpartition(".")[0] or choice.title
        names = {"name": name} if project.name == "Untitled" else {}
        self.view.open_rows()
        self.desk.project.update(data=choice, **names)
        if again:
            self.desk.inspection.refresh()

    def _set(self, name: str, value: object) -> None:
        settings = merge(self.desk.chosen.settings, {"data": {name: value}})
        self.desk.project.update(settings=settings)

    def _settings(self) -> DataConfig:
        chosen = merge(PRESETS[self.desk.chosen.preset], self.desk.chosen.settings)
        return DataConfig(**{**chosen.get("data", {}), "source": ""})

    def _show(self) -> None:
        """The state that holds now; each is entered once."""
        inspection, data = self.desk.inspection, self.desk.chosen.data
        known = bool(inspection.found.facts)
        state = "ready" if known and inspection.state == "reading" else inspection.state
        now = (state, data.source if data else "", id(inspection.failure))
        fresh, self._shown = now != self._shown, now
        if state == "reading":
            if fresh:
                self.show_loading(reading_words(inspection.phase, data), inspection.cancel)
            phase = inspection.phase
            self.say_loading(reading_words(phase, data), phase.done, phase.total)
        elif state == "ready":
            self._fill()
            if fresh or self.state == "loading":
                self.show_state("ready")
        elif fresh:
            self._show_begin()
        self.changed.emit()

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
        failure, data = self.desk.inspection.failure, self.desk.chosen.data
        assert failure is not None
        fix: tuple[str, Callable[[], object]] = ("Choose Another…", self.choose)
        if failure.code in _MODEL_CODES:
            fix = ("Choose Another Model", lambda: self.leave.emit("model"))
        elif "anything to learn" in failure.why:
            longer = 2 * self._settings().max_length
            fix = (f"Allow {longer:,} Tokens", lambda: self._set("max_length", longer))
        self.show_error(problem_of(failure), fix, empty=True)
        if data is not None:
            source, root, where = data.source, self.desk.runs.root, failure.where
            self.desk.tasks.run(
                lambda: read_excerpt(source, root, where), self._show_excerpt, lambda _: None
            )

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
        facts: dict[str, Any] = found.facts
        if self._rows.rows is not found.rows or not found.rows:
            self._rows.show(found.rows, facts.get("columns", []))
            self._visited = {}
            if view.shows_text:
                view.open_text(view.row)
        settings = self._settings()
        figures_said(view, facts, settings, data.title if data else "", len(found.rows))
        view.issues.show_lines(
            [(issue.code, issue.text, issue.warns, bool(issue.rows)) for issue in issues_of(facts)]
        )

    def _visit(self, code: str) -> None:
        """The next of the rows an issue concerns."""
        found = self.desk.inspection.found
        rows = next(issue.rows for issue in issues_of(found.facts) if issue.code == code)
        at = self._visited.get(code, -1) + 1
        self._visited[code] = at
        row = rows[at % len(rows)]
        place = self._rows.row_of(row)
        if place >= 0 and not self.view.shows_text:
            self.view.select(place)
        else:
            self.view.open_text(row)

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
