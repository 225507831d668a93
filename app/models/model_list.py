"""The models a person can choose from, kept up to date off the window's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.models.offers import judge, make_offers
from mlx_lora.errors import UserError
from mlx_lora.models.holdings import library_folder
from mlx_lora.models.shelf import Found, below, look_up, scan, try_look
from mlx_lora.storage import expanded, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from app.desk import Desk
    from app.models.offers import Fit, Offer


class ModelList(QObject):
    """Catalogue, cache and folders as one list, each with its verdict.

    Attributes:
        changed: there is something else to show.
        opened: a folder or id that was asked for was read; carries the models in it.
        refused: it could not be; carries a `UserError`.
        lost: the project's model cannot be used any more; carries a `UserError`.
        offers, fits: the models, and by source whether they fit.
        missing: the source of the project's model where it cannot be used.
    """

    changed = Signal()
    opened = Signal(list)
    refused = Signal(UserError)
    lost = Signal(UserError)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._found: list[Found] = []
        self._named: dict[str, Found] = {}
        self._forget_scan: Callable[[], None] = _nothing
        self._forget_look: Callable[[], None] = _nothing
        self.offers: list[Offer] = make_offers([])
        self.fits: dict[str, Fit | None] = {}
        self.missing = ""
        self.judge()

    def offer(self, source: str) -> Offer | None:
        """The model of a source."""
        return next((one for one in self.offers if one.source == source), None)

    def rescan(self) -> None:
        """Look through the cache and the models folder again."""
        self._forget_scan()
        folder, named = self._desk.settings.value.models_folder, tuple(self._named)
        library = show(library_folder(self._desk.runs.root))
        self._forget_scan = self._desk.tasks.run(
            lambda: (_scan(folder, library), _look_again(named)), self._take_scan
        )

    def admit(self, source: str, then: Callable[[], object]) -> None:
        """Take in a model that has just come here, and go on."""

        def take(found: Found) -> None:
            # what the last scan saw of it is of before
            self._found = [one for one in self._found if one.source != source]
            self._remember(found)
            then()

        self._desk.tasks.run(lambda: look_up(source), take, self.refused.emit)

    def drop(self, source: str) -> None:
        """Forget a model that was deleted, and look again."""
        self._named.pop(source, None)
        self._take([one for one in self._found if one.source != source])
        self.rescan()

    def look(self, name: str) -> None:
        """Read a folder, or what a Hugging Face id names; `opened` or `refused` tells."""
        self.cancel()
        self._forget_look = self._desk.tasks.run(
            lambda: _look_at(name), self._take_named, self.refused.emit
        )

    def cancel(self) -> None:
        """Do not wait for what was asked for."""
        self._forget_look()

    def judge(self) -> None:
        """Hold every model against the memory there is."""
        desk = self._desk
        preset, machine, limit = desk.chosen.preset, desk.machine, desk.memory_limit
        self.fits = {
            offer.source: judge(
                offer, preset, metal=machine.metal, limit=limit, memory=machine.memory
            )
            for offer in self.offers
        }
        self.changed.emit()

    def _take_named(self, result: tuple[str, list[Found]]) -> None:
        folder, found = result
        self._named.update({one.source: one for one in found})
        if folder:
            self._desk.settings.update(models_folder=folder)
        self._take(self._found)
        self.opened.emit(found)

    def _take_scan(self, result: tuple[list[Found], dict[str, Found | None]]) -> None:
        found, named = result
        self._named = {
            source: again
            for source, known in self._named.items()
            if (again := named.get(source, known)) is not None
        }
        self._take(found)

    def _take(self, found: list[Found]) -> None:
        self._found = found
        known = {one.source: one for one in (*self._named.values(), *found)}
        self.offers = make_offers(known.values())
        self._check_chosen()
        self.judge()

    def _check_chosen(self) -> None:
        """The chosen model may lie where no scan looks, or be gone."""
        model = self._desk.chosen.model
        offer = self.offer(model.source) if model else None
        if model is None or (offer is not None and offer.here and not offer.problem):
            self.missing = ""
            return
        source = model.source
        self._desk.tasks.run(
            lambda: look_up(source), self._remember, lambda error: self._lose(source, error)
        )

    def _remember(self, found: Found) -> None:
        self._named[found.source] = found
        self._take(self._found)

    def _lose(self, source: str, error: UserError) -> None:
        self._named.pop(source, None)
        model = self._desk.chosen.model
        if model is not None and model.source == source:
            self.missing = source
            self.lost.emit(error)
            self.changed.emit()


def _scan(folder: str, library: str) -> list[Found]:
    """What is in the cache, in the person's folder and among the copies that were packed here."""
    packed = [found for source in below(library) if (found := try_look(source)) is not None]
    return [*scan(folder), *packed]


def _look_again(sources: Iterable[str]) -> dict[str, Found | None]:
    """What these are now; None for one that is gone or damaged by now."""
    found: dict[str, Found | None] = {}
    for source in sources:
        try:
            found[source] = look_up(source)
        except (UserError, OSError):
            found[source] = None
    return found


def _look_at(name: str) -> tuple[str, list[Found]]:
    """(folder to look in from now on, models there) of a folder or id.

    Raises:
        UserError: why it is neither a model nor a folder with models.
    """
    folder = expanded(name)
    try:
        if not folder.is_dir():
            return "", [look_up(name)]
        if not (folder / "config.json").is_file():
            cached = {one.source for one in scan()}
            inside = [one for one in scan(name) if one.source not in cached]
            if inside:
                return show(folder), inside
    except OSError as error:
        raise UserError("no_such_model", name, "it cannot be read", "choose another") from error
    return show(folder.parent), [look_up(show(folder))]


def _nothing() -> None:
    """There is nothing to forget yet."""
