"""The six steps: which are open, done, locked or in need of a look. A pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.project import recipe_of

if TYPE_CHECKING:
    from app.models.run_progress import RunProgress
    from app.project import Project
    from app.widgets.stepper import Mark

STEPS = (
    ("model", "Model"), ("dataset", "Dataset"), ("configure", "Configure"), ("train", "Train"),
    ("compare", "Compare"), ("export", "Export"),
)  # fmt: skip
KEYS = tuple(key for key, _ in STEPS)


class Facts(msgspec.Struct, frozen=True):
    """What the marks are made from beside the project.

    Attributes:
        valid: the configuration holds.
        status: of the project's run.
        usable: the run has an adapter or a checkpoint.
        exported: the run was exported.
    """

    valid: bool
    status: str
    usable: bool
    exported: bool


def facts_of(progress: RunProgress, *, valid: bool) -> Facts:
    """The facts of a run as it stands."""
    return Facts(valid, progress.status, progress.usable, bool(progress.state.exports))


def marks(project: Project, facts: Facts) -> dict[str, Mark]:
    """The mark of every step.

    A choice changed after the run was made flags the later steps and deletes nothing.
    """
    fits = data_fits(project)
    other = project.run is not None and project.recipe != recipe_of(project)
    found: dict[str, Mark] = {
        "model": "done" if project.model else "open",
        "dataset": _dataset(project, fits=fits),
        "configure": "locked",
        "train": "locked",
        "compare": "locked",
        "export": "locked",
    }
    if fits or project.run:
        known = project.run is not None
        found["configure"] = "done" if facts.valid and known else "open"
        if not facts.valid:
            found["configure"] = "attention"
    if project.run:
        found["train"] = _train(facts, other=other)
    if project.run and facts.usable:
        later: Mark = "attention" if other else "open"
        found["compare"] = "attention" if other else ("done" if project.votes else "open")
        found["export"] = "done" if facts.exported and not other else later
    return found


def data_fits(project: Project) -> bool:
    """Whether the data was looked at with the model that is chosen now, and can be learnt."""
    data, model = project.data, project.model
    return bool(
        data and model and data.facts.get("model") == model.source
        and data.facts.get("training_rows")
        and not any(issue.get("level") == "error" for issue in data.facts.get("issues", ()))
    )  # fmt: skip


def _dataset(project: Project, *, fits: bool) -> Mark:
    if project.model is None and project.data is None:
        return "locked"
    if project.data is None:
        return "open"
    return "done" if fits else "attention"


def _train(facts: Facts, *, other: bool) -> Mark:
    if facts.status in {"failed", "interrupted"} or other:
        return "attention"
    return "done" if facts.status == "finished" else "open"
