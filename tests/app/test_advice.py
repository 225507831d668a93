"""What suits model and data better than the preset: told, and taken over with one press."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenes import configure as scenes

from app.models.advice import advise, said
from app.project import Project
from mlx_lora.models.catalog import find_entry
from mlx_lora.pace import rows_of

if TYPE_CHECKING:
    from app.application import Application

ENTRY = find_entry(scenes.LLAMA)
ROWS = rows_of(scenes.facts_of(scenes.LLAMA))


def test_only_what_differs_and_nobody_set_is_advised() -> None:
    assert ENTRY is not None
    plain = Project(preset="balanced")
    hints = advise(plain, ENTRY.shape, ROWS)
    assert [(hint.title, hint.value) for hint in hints] == [("Epochs 2", 2.0)]
    assert said(hints).startswith("Epochs 2: From 1,000 rows on")
    mine = Project(preset="balanced", settings={"training": {"epochs": 4.0}})
    assert advise(mine, ENTRY.shape, ROWS) == []
    assert advise(Project(preset="demo"), ENTRY.shape, ROWS) == []


def test_one_press_takes_it_over(application: Application) -> None:
    application.start()
    page = scenes.show(application)
    assert not page.suit.isHidden()
    assert "1,000 rows" in page.suit.toolTip()
    page.suit.click()
    assert application.project.value.settings == {"training": {"epochs": 2.0}}
    assert page.suit.isHidden()
    assert "Epochs 2" in page.banner.text.text()
