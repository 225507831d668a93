"""The right side of Model: what a screen reader hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.widgets import model_rail
from app.widgets.model_rail import ModelRail, RailFacts

if TYPE_CHECKING:
    import pytest
    from pytestqt.qtbot import QtBot


def test_what_happens_to_the_model_at_hand_is_announced(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(model_rail, "announce", lambda _, text: heard.append(text))
    rail = ModelRail()
    qtbot.addWidget(rail)
    rail.show_facts(RailFacts(title="Gemma 3 1B", progress=("40 %", "")))
    rail.show_facts(RailFacts(title="Gemma 3 1B", note=("bad", "The disk is full.")))
    assert heard == ["The disk is full."]
    rail.show_facts(RailFacts(title="Gemma 3 1B", note=("bad", "The disk is full."), share=0.5))
    rail.show_facts(RailFacts(title="Llama 3.2 1B", note=("warn", "It is damaged.")))
    assert heard == ["The disk is full."], "nothing new, and another model's"
    rail.show_facts(RailFacts(title="Llama 3.2 1B"))
    rail.show_facts(RailFacts(title="Llama 3.2 1B", note=("warn", "It is damaged.")))
    assert heard[1:] == ["It is damaged."]
