"""What can be done with a past run: taken up again, used as a pattern, thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.project import recipe_of
from app.recipes import project_of
from app.trash import move_to_trash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.desk import Desk
    from app.models.run_row import RunRow
    from app.project import Project
    from mlx_lora.errors import UserError

    Refused = Callable[[UserError], object]


class Archive:
    """Past runs and the projects they belong to."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def open(self, row: RunRow, then: Callable[[], object]) -> None:
        """Make it the project's run: in the project that made it, else in one made from it."""

        def choose(projects: list[tuple[Path, Project]]) -> None:
            self._choose(row, projects)
            then()

        self._desk.tasks.run(self._desk.project.list, choose)

    def resume(self, row: RunRow) -> None:
        """Go on with its training."""
        self.open(row, lambda: self._desk.training.resume(row.run))

    def duplicate(self, row: RunRow) -> None:
        """A new project with the same choices."""
        if row.record is not None:
            self._start(project_of(row.record, row.facts, name=f"{row.title} copy"[:60]))

    def trash(self, row: RunRow, then: Callable[[], object], otherwise: Refused) -> None:
        """Move it to the trash."""
        self._remove(row, lambda: move_to_trash(row.run), then, otherwise)

    def delete(self, row: RunRow, then: Callable[[], object], otherwise: Refused) -> None:
        """Delete it for good."""
        self._remove(row, lambda: self._desk.runs.delete(row.run), then, otherwise)

    def _remove(
        self,
        row: RunRow,
        work: Callable[[], object],
        then: Callable[[], object],
        otherwise: Refused,
    ) -> None:
        def forget(_: object) -> None:
            if self._desk.chosen.run == row.name:
                self._desk.project.update(run=None, recipe="", checkpoint=None, votes=())
            then()

        self._desk.tasks.run(work, forget, otherwise)

    def _choose(self, row: RunRow, projects: list[tuple[Path, Project]]) -> None:
        if row.record is None or _made(self._desk.chosen, row):
            return
        file = next((file for file, project in projects if _made(project, row)), None)
        if file is not None:
            self._desk.project.open(file)
        else:
            self._start(project_of(row.record, row.facts, name=row.title[:60], run=row.name))

    def _start(self, project: Project) -> None:
        choices = msgspec.structs.asdict(project)
        self._desk.project.new(choices.pop("name"), **choices)


def _made(project: Project, row: RunRow) -> bool:
    """Whether a project still is what made this run."""
    return project.run == row.name and project.recipe == recipe_of(project)
