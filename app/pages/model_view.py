"""How the Model page is laid out: search above, cards at the left, the rail at the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from app.models.offers import plain_config
from app.widgets.button import Button
from app.widgets.empty import EmptyView
from app.widgets.model_card import CardGrid
from app.widgets.model_rail import ModelRail
from app.widgets.search_bar import SearchBar
from app.widgets.strip import Strip
from app.words import MACHINE, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.desk import Desk
    from app.models.hub_shelf import State
    from app.pages.page import Page
    from app.widgets.model_card import CardFacts

_HERE = "On this Mac" if MACHINE == "Mac" else "On This Computer"
_FILTERS = (
    ("recommended", "Recommended"), ("here", _HERE), ("all", "All"), ("hub", "Hugging Face"),
)  # fmt: skip


class ModelView:
    """The widgets of the page, and which of them are shown."""

    def __init__(
        self, page: Page, sample: Callable[[], object], search_hub: Callable[[], object]
    ) -> None:
        self.search = SearchBar(
            "Search, or paste a folder or a Hugging Face name", _FILTERS, name="Search models"
        )
        self.strip = Strip(
            "spark", "New here? Try with Sample",
            "Teaches the bundled storybook writer to speak like Shakespeare, in about two minutes. "
            "No file and no network needed.", role="info",
        )  # fmt: skip
        self.sample_button = Button("Try with Sample", sample, icon="play")
        self.strip.add(self.sample_button)
        self.offline = Strip("info", "Offline", "")
        self.online = Button("Go Online")
        self.offline.add(self.online)
        self.grid, self.rail = CardGrid(), ModelRail()
        self.nothing = EmptyView(
            "search", "No Model Here Is Called That",
            "Hugging Face may have it. The hub is asked for what you search, and for nothing else.",
            ("Search Hugging Face", search_hub),
        )  # fmt: skip
        self.none_there = EmptyView(
            "search", "Nothing to Train Is Called That",
            "Only models that can be trained here are looked for. Try fewer words, or paste the "
            "whole name: owner/name.",
        )  # fmt: skip
        self.ready_to_ask = EmptyView(
            "search", "Search Hugging Face",
            "Type a few words of a name and press Return, or paste owner/name or the address of a "
            "model’s page.", ("Show the Most Used", search_hub),
        )  # fmt: skip
        for part in (self.strip, self.grid, self.nothing, self.none_there, self.ready_to_ask):
            page.body.addWidget(part)
        page.body.addStretch(1)
        self._place(page)

    def show_cards(self, cards: Sequence[CardFacts], chosen: str) -> None:
        """These, with a mark on the one that is chosen."""
        self.grid.show_cards(cards, chosen)

    def show_around(
        self, *, empty: bool, kind: str, state: State, offline: str, switchable: bool, sample: bool
    ) -> None:
        """What is above the cards, and in their place where there are none."""
        hub = kind == "hub"
        self.strip.setVisible(sample)
        self.offline.setVisible(bool(offline))
        self.offline.say(
            "Offline", f"{offline}: no connection is tried. What is on this {MACHINE} works as "
            "before.",
        )  # fmt: skip
        self.online.setVisible(switchable)
        self.nothing.setVisible(empty and not hub)
        asked = state in {"found", "failed"}
        self.none_there.setVisible(empty and hub and state == "found" and not offline)
        self.ready_to_ask.setVisible(empty and hub and not asked and not offline)

    def say_machine(self, desk: Desk) -> None:
        """What this machine has, and what cards count with."""
        machine, plain = desk.machine, plain_config(desk.chosen.preset)
        pill = ("Metal ready", "ok", "check")
        if not machine.metal:
            pill = ("No Metal: training is slow", "warn", "warn")
        self.rail.machine.say(
            f"{machine.name} · {size(machine.memory)}",
            f"{size(desk.memory_limit)} of memory can be used for training. Cards count with "
            f"{plain.training.batch_size} rows of {plain.data.max_length} tokens at a time.",
            pill,
        )

    def _place(self, page: Page) -> None:
        """The rail beside whatever the page shows: cards, or that it waits."""
        outer = page.layout()
        assert isinstance(outer, QVBoxLayout)
        outer.insertWidget(1, self.search)
        outer.insertWidget(2, self.offline)
        columns = QHBoxLayout()
        columns.setSpacing(16)
        outer.removeWidget(page._views)
        columns.addWidget(page._views, 1)
        columns.addWidget(self.rail)
        outer.addLayout(columns, 1)
