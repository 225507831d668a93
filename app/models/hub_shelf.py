"""The hub as a shelf: searched and looked at by workers, and only when a person asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from PySide6.QtCore import QObject, Signal

from app.models.errand import Errand
from app.models.hub_model import HubModel, hub_models, hub_page
from mlx_lora import events, jobs
from mlx_lora.models.offline import offline_reason, switch_offline

if TYPE_CHECKING:
    from pathlib import Path

    from app.models.offers import Offer

State = Literal["idle", "searching", "found", "failed"]


class HubShelf(QObject):
    """What the last search found, and what was looked at.

    Attributes:
        changed: there is something else to show.
        state, words: of the last search.
        found: the repositories it found, most downloaded first.
        failure: why it failed.
        models: everything known of the hub by repository.
        unknown: why a model that was looked at cannot be had, by repository.
        looking: the repository that is looked at now.
    """

    changed = Signal()

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.searching, self.glance = Errand(), Errand()
        self.state: State = "idle"
        self.words, self.looking = "", ""
        self.found: list[str] = []
        self.failure: events.Failed | None = None
        self.models: dict[str, HubModel] = {}
        self.unknown: dict[str, events.Failed] = {}

    @property
    def offline(self) -> str:
        """Why no connection is tried; empty where one may be."""
        return offline_reason(self._root)

    @property
    def switchable(self) -> bool:
        """Whether it is offline by our own switch, and not by the environment."""
        return bool(self.offline) and not self.offline.endswith("is set")

    def switch(self, *, offline: bool) -> None:
        """Forbid or allow connections."""
        switch_offline(self._root, on=offline)
        if offline:
            self.cancel()
        self.changed.emit()

    def offer(self, repository: str) -> Offer | None:
        """What is known of a model there."""
        known = self.models.get(repository)
        return known.offer() if known else None

    def page_of(self, repository: str) -> str:
        """The address of its page."""
        known = self.models.get(repository)
        return (known.page if known else "") or hub_page(repository)

    def search(self, words: str) -> None:
        """Ask the hub for models with these words in their names; for the popular ones without."""
        self.words, self.state, self.failure = words, "searching", None
        what = jobs.SearchJob(words=words, root=str(self._root))
        self.searching.ask(what, self._take_found, self._fail)
        self.changed.emit()

    def find(self, name: str) -> None:
        """Ask the hub for one model by its name."""
        self.words, self.state, self.failure = name, "searching", None
        what = jobs.LookJob(model=name, root=str(self._root))
        self.searching.ask(what, self._take_named, self._miss_named)
        self.changed.emit()

    def cancel(self) -> None:
        """Do not wait for the search."""
        if self.state == "searching":
            self.searching.cancel()
            self.state = "idle"
            self.changed.emit()

    def look(self, repository: str) -> None:
        """Ask what it takes to bring one model."""
        if self.looking == repository:
            return
        self.looking = repository
        self.unknown.pop(repository, None)
        what = jobs.LookJob(model=repository, root=str(self._root))
        self.glance.ask(what, self._take_look, lambda why: self._miss(repository, why))
        self.changed.emit()

    def _take_found(self, data: dict[str, Any]) -> None:
        found = hub_models(data)
        for one in found:
            known = self.models.get(one.repository)
            if known is None or not known.commit:
                self.models[one.repository] = one
        self.found, self.state = [one.repository for one in found], "found"
        self.changed.emit()

    def _fail(self, why: events.Failed) -> None:
        self.state, self.failure = "failed", why
        self.changed.emit()

    def _take_named(self, data: dict[str, Any]) -> None:
        self.found, self.state = [data["repository"]], "found"
        self.unknown.pop(data["repository"], None)
        self._take_look(data)

    def _miss_named(self, why: events.Failed) -> None:
        """One that is closed is shown, so that a token can be given for it."""
        if why.code != "no_access":
            self._fail(why)
            return
        name = self.words
        self.models.setdefault(name, HubModel(repository=name))
        self.found, self.state = [name], "found"
        self._miss(name, why)

    def _take_look(self, data: dict[str, Any]) -> None:
        self.looking = ""
        model = msgspec.convert(data, HubModel)
        self.models[model.repository] = model
        self.changed.emit()

    def _miss(self, repository: str, why: events.Failed) -> None:
        self.looking = ""
        self.unknown[repository] = why
        self.changed.emit()
