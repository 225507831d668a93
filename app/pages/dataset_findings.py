"""Findings on the Dataset page: going through their rows, showing places, writing a clean copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.issues import issues_of
from app.models.cleaning import copy_path
from app.models.excerpt import read_excerpt
from app.problems import problem_of
from app.project import DataChoice
from app.widgets.clean_sheet import CleanSheet, Fix
from mlx_lora import jobs
from mlx_lora.data.findings import KINDS
from mlx_lora.storage import show

if TYPE_CHECKING:
    from app.issues import Issue
    from app.models.cleaning import Cleaned
    from app.models.dataset_rows import DatasetRows
    from app.models.excerpt import Excerpt
    from app.pages.dataset_choices import DatasetChoices
    from app.pages.page import Page
    from app.project import Project
    from app.widgets.data_view import DataView
    from mlx_lora.events import Failed


class DatasetFindings(QObject):
    """Leads through them, over the page."""

    def __init__(
        self, page: Page, view: DataView, rows: DatasetRows, choices: DatasetChoices
    ) -> None:
        super().__init__(page)
        self._page, self._view, self._rows, self._desk = page, view, rows, page.desk
        self._choices = choices
        self._issues: list[Issue] = []
        self._visited, self._at = "", 0
        self._sheet: CleanSheet | None = None
        # the project before a copy was used, and the source of the copy
        self._before: tuple[Project, str] | None = None
        details, cleaning = view.findings.details, self._desk.inspection.cleaning
        details.visited.connect(self.visit)
        details.place_wanted.connect(self._read_place)
        details.cleaned.connect(self.ask_to_clean)
        details.lengths_wanted.connect(lambda: view.open("figures"))
        view.issues.cleaned.connect(self.ask_to_clean)
        view.visits.stepped.connect(self._step)
        view.visits.closed.connect(self._close_visit)
        view.rail.format_card.json_wanted.connect(self._visit_json)
        page.banner.close_button.clicked.connect(self.forget_copy)
        cleaning.changed.connect(self._say_progress)
        cleaning.done.connect(self._use_copy)
        cleaning.failed.connect(self._say_failed)

    def show_issues(self) -> None:
        """Those of what is known now."""
        facts = self._desk.inspection.found.facts
        self._issues, view = issues_of(facts), self._view
        view.issues.show_issues(self._issues)
        view.findings.show_issues(self._issues, known=bool(facts))
        view.say_findings(len(self._issues))
        if self._visited and self._find(self._visited) is None:
            self._end_visit()

    # -- going through rows

    def visit(self, key: str) -> None:
        """The first of its rows; from there on, one by one."""
        issue = self._find(key)
        if issue is not None and issue.rows:
            self._visited, self._at = key, 0
            if self._rows.row_of(issue.rows[0]) >= 0:
                self._view.open("rows")
            self._show_visited(issue)

    def _step(self, by: int) -> None:
        issue = self._find(self._visited)
        if issue is not None:
            self._at = (self._at + by) % len(issue.rows)
            self._show_visited(issue)

    def _show_visited(self, issue: Issue) -> None:
        view, row = self._view, issue.rows[self._at]
        view.visits.say(issue.title, self._at, len(issue.rows), issue.count)
        place = self._rows.row_of(row)
        if place >= 0 and not view.shows_text:
            view.select(place)
        else:
            view.open_text(row)

    def _close_visit(self) -> None:
        self._end_visit()
        self._view.open("findings")

    def _end_visit(self) -> None:
        self._visited = ""
        self._view.visits.hide()

    def _visit_json(self) -> None:
        self.visit("bad_json:train")

    def _find(self, key: str) -> Issue | None:
        return next((issue for issue in self._issues if issue.key == key), None)

    # -- places in files

    def _read_place(self, where: str) -> None:
        question = self._desk.inspection.question()
        if question is not None:
            data, root = question.data, self._desk.runs.root
            self._desk.tasks.run(
                lambda: read_excerpt(data, root, where), self._show_place, lambda _: None
            )

    def _show_place(self, found: Excerpt | None) -> None:
        if found is not None:
            self._view.findings.details.show_excerpt(found.lines, found.line, found.mark)

    # -- a cleaned copy

    def ask_to_clean(self) -> None:
        """What the copy shall do, and where it goes."""
        self._ask(_fixes(self._issues))

    def ask_to_convert(self) -> None:
        """A copy in UTF-8 of a file in another encoding."""
        self._ask([])

    def _ask(self, fixes: list[Fix]) -> None:
        data, question = self._desk.chosen.data, self._desk.inspection.question()
        if data is None or question is None:
            return
        path = copy_path(self._desk.runs.root, data.title, self._desk.inspection.found.facts)
        sheet = self._sheet = CleanSheet(self._page, fixes, show(path))
        cleaning = self._desk.inspection.cleaning
        sheet.started.connect(
            lambda codes: cleaning.start(
                jobs.CleanJob(
                    model=question.model, data=question.data, seed=question.seed,
                    root=question.root, out=str(path), fixes=codes,
                )
            )
        )  # fmt: skip
        sheet.stopped.connect(cleaning.cancel)
        sheet.finished.connect(lambda _: setattr(self, "_sheet", None))
        sheet.open()

    def say_copy(self) -> None:
        """That a copy is used, with the way back, as long as it is the data."""
        data = self._desk.chosen.data
        if self._before is None or data is None or data.source != self._before[1]:
            return
        before = self._before[0].data
        words = f"{before.title if before else 'The original'} is as it was."
        self._page.banner.say(
            f"You are using a cleaned copy: {data.title}", words, "ok", fix=("Undo", self._undo)
        )

    def forget_copy(self) -> None:
        """No way back is offered any more."""
        self._before = None

    def _say_progress(self) -> None:
        phase = self._desk.inspection.cleaning.phase
        if self._sheet is not None:
            self._sheet.say_progress(phase.done, phase.total)

    def _say_failed(self, failure: Failed) -> None:
        if self._sheet is not None:
            self._sheet.say_failed(problem_of(failure).text)

    def _use_copy(self, made: Cleaned) -> None:
        if self._sheet is not None:
            self._sheet.accept()
        self._before = (self._desk.chosen, made.source)
        self._view.open("rows")
        copy = DataChoice(made.source, Path(made.source).name)
        self._desk.project.update(data=copy, settings=self._choices.for_a_copy())

    def _undo(self) -> None:
        before, self._before = self._before, None
        self._page.banner.clear()
        if before is not None:
            self._desk.project.update(data=before[0].data, settings=before[0].settings)


def _fixes(issues: list[Issue]) -> list[Fix]:
    """What a copy can do about these, the rows of all splits counted together."""
    counts: dict[str, int] = {}
    titles: dict[str, str] = {}
    for issue in issues:
        if issue.cleanable and issue.code in KINDS:
            counts[issue.code] = counts.get(issue.code, 0) + issue.count
            titles.setdefault(issue.code, issue.title)
    return [
        Fix(code, titles[code], KINDS[code].cleans, number, not KINDS[code].asked)
        for code, number in counts.items()
    ]
