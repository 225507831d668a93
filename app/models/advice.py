"""What suits a model and data better than a preset does, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.models.fields import FIELDS
from app.models.recipe import value_of, values, written
from mlx_lora.models.defaults import preset_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.models.recipe import Place
    from app.project import Project
    from mlx_lora.batches import Rows
    from mlx_lora.models.shape import Shape


class Hint(msgspec.Struct, frozen=True):
    """One value: what it is called, what it would be, why."""

    place: tuple[str, str]
    value: Any
    title: str
    why: str


def advise(project: Project, shape: Shape, rows: Rows | None) -> list[Hint]:
    """Values that differ from those of the project; none where a person set another one there."""
    count = 0 if rows is None or rows.documents else rows.training
    tokens = round(rows.training * rows.mean) if rows else 0
    changes = preset_for(shape, count, tokens, project.preset).changes
    labels, now = {field.place: field.label for field in FIELDS}, values(project)
    found = []
    for change in changes:
        group, _, name = change.place.partition(".")
        place: Place = (group, name)
        if place not in labels or value_of(project.settings, place) is not None:
            continue
        if value_of(now, place) != change.value:
            title = f"{labels[place]} {written(change.value)}"
            found.append(Hint(place, change.value, title, change.reason))
    return found


def said(hints: Sequence[Hint]) -> str:
    """All of them in sentences."""
    return " ".join(f"{hint.title}: {hint.why}" for hint in hints)
