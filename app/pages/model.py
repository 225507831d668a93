"""The first step: which model is taught, found on this machine or brought from Hugging Face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog

from app.models.hub_model import hub_name
from app.models.hub_shelf import HubShelf
from app.models.model_list import ModelList
from app.models.offers import select
from app.models.recipe import with_values
from app.pages.model_care import ModelCare
from app.pages.model_choice import adopt, fitted_words, remedies, smaller
from app.pages.model_sight import ModelSight
from app.pages.model_view import ModelView
from app.pages.model_words import progress_line
from app.pages.page import Page, Primary
from app.problems import problem_of, without_commands
from app.widgets.button import Button
from app.words import MACHINE, size
from mlx_lora.storage import expanded

if TYPE_CHECKING:
    from app.desk import Desk
    from app.models.offers import Offer
    from mlx_lora.errors import UserError
    from mlx_lora.events import Failed
    from mlx_lora.models.shelf import Found


class ModelPage(Page):
    """Cards of models; a press chooses one, Return or a second press goes on.

    Attributes:
        sample: the whole path on what is bundled is wanted.
        models: what there is to choose from; `hub` what was found on Hugging Face.
        care: what is done with one of them.
        sight: all that is known of each.
        looked: the source of the one the rail tells of; empty for none.
    """

    sample = Signal()
    key, title = "model", "Choose a model"
    purpose = "Pick the model you want to teach; you can change it later."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.models, self.hub = ModelList(desk), HubShelf(desk.runs.root)
        self.care = ModelCare(self, desk, self.models, self.hub)
        self.sight = ModelSight(desk, self.models, self.hub, self.care)
        self.looked, self._filter = "", ""
        self.folder_button = self.add_action(
            Button("Open Local Folder…", self.open_folder, icon="folder")
        )
        self.view = ModelView(self, self.sample.emit, self.search_hub)
        self.search, self.grid, self.rail = self.view.search, self.view.grid, self.view.rail
        self._connect()
        self.view.say_machine(desk)
        self._refresh()
        desk.downloads.restore()

    def hint(self) -> str:
        """What is missing, or how the chosen model fits."""
        model, looked = self.desk.chosen.model, self.sight.offer(self.looked)
        if looked is not None and not looked.here:
            made = self.desk.downloads.all.get(self.looked)
            about = f": about {size(looked.size)} to download" if looked.size else ""
            absent = f"{looked.title} is not on this {MACHINE} yet{about}"
            return f"{looked.title}: {progress_line(made)}" if made else absent
        if looked is not None and looked.problem is not None:
            return f"{looked.title} cannot be used as it is"
        if model is None:
            return "Choose a model to go on"
        if self.models.missing:
            return f"{model.title} is not on this {MACHINE} any more"
        fit = self.models.fits.get(model.source)
        if fit is not None and fit.verdict == "large":
            return f"{model.title} may be too large for this {MACHINE}; Configure shows what helps"
        return f"{model.title} is ready to use"

    def primary(self) -> Primary:
        """On to the data where there is a model; the download of one that is not here."""
        looked = self.sight.offer(self.looked)
        if looked is not None and not looked.here:
            made = self.desk.downloads.all.get(self.looked)
            if made is not None and (made.at_work or made.doing == "waiting"):
                return Primary("Downloading…", enabled=False)
            known = self.looked not in self.hub.unknown and not self.hub.offline
            again = "Try Again" if made and made.doing == "failed" else "Go On"
            return Primary(again if made else "Download", known)
        usable = self.desk.chosen.model is not None and not self.models.missing
        return Primary("Continue", usable and self.state != "loading")

    def act(self) -> None:
        """On to the data, or the download."""
        looked = self.sight.offer(self.looked)
        if looked is not None and not looked.here:
            self.care.download(looked)
        else:
            self.leave.emit("dataset")

    def entered(self) -> None:
        """Look what is on this machine now."""
        self.models.rescan()
        model = self.desk.chosen.model
        if not self.looked and model is not None:
            self.looked = model.source
        if self.looked:
            self.care.read(self.looked)
        self._refresh()

    def choose(self, source: str) -> None:
        """A card was pressed: the rail tells of it; one that is here becomes the project's."""
        offer = self.sight.offer(source)
        if offer is None:
            return
        self.looked = self.care.current = source
        if offer.here:
            self.care.read(source)
        if offer.problem is not None:
            self._say_broken(offer)
        elif offer.here:
            self._adopt(offer)
        else:
            self.show_state("ready")
            known, closed = self.hub.models.get(source), source in self.hub.unknown
            if known is not None and not known.commit and not closed and not self.hub.offline:
                self.hub.look(source)
        self._refresh()

    def open_folder(self) -> None:
        """Let the person name a folder."""
        start = self.desk.settings.value.models_folder
        said = QFileDialog.getExistingDirectory(
            self, "Open a Model Folder", str(expanded(start)) if start else ""
        )
        if said:
            self.take(said)

    def take(self, name: str) -> None:
        """A folder: look at it, and choose the model in it where it can be used."""
        self.show_loading("Reading the model’s files…", self._cancel)
        self.models.look(name)

    def search_hub(self) -> None:
        """Ask the hub for what is typed: a name or address of one model, or words of names."""
        self._filter = "hub"  # choosing it would search once more
        self.search.choose("hub")
        if self.hub.offline:
            return
        text = self.search.text
        self.show_loading("Asking Hugging Face…", self._cancel)
        if name := hub_name(text):
            self.hub.find(name)
        else:
            self.hub.search(text)

    def _connect(self) -> None:
        self.search.changed.connect(self._search_changed)
        self.search.entered.connect(self._search_entered)
        self.grid.chosen.connect(self.choose)
        self.grid.opened.connect(lambda source: go_on(self, source))
        self.rail.wanted.connect(self._press)
        self.view.online.clicked.connect(lambda: self.hub.switch(offline=False))
        self.models.changed.connect(self._refresh)
        self.models.opened.connect(self._take_opened)
        self.models.refused.connect(self._refuse)
        self.models.lost.connect(self._refuse)
        self.hub.changed.connect(self._take_hub)
        self.care.changed.connect(self._refresh)
        self.care.refused.connect(self._refuse)
        self.care.arrived.connect(self.choose)
        self.care.twin.connect(lambda twin: look_for(self, twin))
        self.care.deleted.connect(lambda source, freed: say_deleted(self, source, freed))
        self.care.packed.connect(lambda source, words: say_packed(self, source, words))
        self.desk.project.changed.connect(self._refresh)
        self.desk.settings.changed.connect(self.models.judge)
        self.desk.settings.changed.connect(lambda: self.view.say_machine(self.desk))

    def _cancel(self) -> None:
        self.models.cancel()
        self.hub.cancel()
        self.show_state("ready")
        self._refresh()

    def _press(self, key: str) -> None:
        """A button of the rail."""
        offer = self.sight.offer(self.looked)
        if offer is None or self.care.do(key, offer):
            return
        if key.startswith("fix:"):
            fix = remedies(self.desk, offer)[int(key.removeprefix("fix:"))]
            self.desk.project.update(settings=with_values(self.desk.chosen, fix.changes))
        elif key == "twin":
            self.care.twin.emit(self.hub.models[self.looked].twin)
        elif (other := smaller(offer, self.models.offers, self.models.fits)) is not None:
            self.choose(other.source)

    def _take_opened(self, found: list[Found]) -> None:
        """A folder was read: one model is chosen, of several the person chooses."""
        self.search.field.clear()
        self.show_state("ready")
        usable = [one.source for one in found if one.problem is None]
        if len(usable) == 1:
            self.choose(usable[0])
        else:
            self.search.choose("here")

    def _refuse(self, error: UserError | Failed) -> None:
        self.show_error(
            problem_of(without_commands(error)), ("Open Local Folder…", self.open_folder)
        )

    def _say_broken(self, offer: Offer) -> None:
        """One that cannot be used: the rail mends what is the hub's, a banner says what else."""
        keys = {act.key for act in self.sight.rail(offer.source).acts}
        if offer.problem is not None and not keys:
            self._refuse(offer.problem)
        else:
            self.show_state("ready")

    def _adopt(self, offer: Offer) -> None:
        """Make it the project's model, with the bits it needs."""
        fit = self.models.fits.get(offer.source)
        self.models.missing = ""
        changed = adopt(self.desk, offer, fit)
        self.show_state("ready")
        if changed and fit is not None and fit.settings and fit.verdict != "large":
            self.banner.say(*fitted_words(offer, fit))

    def _refresh(self) -> None:
        """The cards a filter and a search leave, and the rail."""
        kind, text = self.search.filter, self.search.text
        offers = self.sight.offers(kind, text)
        self.view.show_cards([self.sight.card(o, self.looked) for o in offers], self.sight.chosen)
        self.view.show_around(
            empty=not offers and self.state != "loading", kind=kind, state=self.hub.state,
            offline=self.hub.offline, switchable=self.hub.switchable,
            sample=self.desk.chosen.run is None and not text and kind != "hub",
        )  # fmt: skip
        self.rail.show_facts(self.sight.rail(self.looked))
        self.changed.emit()

    def _search_changed(self) -> None:
        """Another text or filter; the hub is asked when its filter is chosen."""
        before, self._filter = self._filter, self.search.filter
        if self._filter == "hub" != before:
            self.search_hub()
        elif before == "hub" != self._filter:
            self._cancel()
        self._refresh()

    def _search_entered(self, text: str) -> None:
        """Return in the search: the one that is left, a folder that is looked at, or the hub."""
        on_hub = self.search.filter == "hub"
        offers = [] if on_hub else select(self.models.offers, self.search.filter, text)
        exact = [o for o in offers if text.lower() in {o.source.lower(), o.title.lower()}]
        if exact or len(offers) == 1:
            self.choose((exact or offers)[0].source)
        elif text.startswith(("/", "~", ".")) or (text and not on_hub and expanded(text).is_dir()):
            self.take(text)
        elif (text and not offers) or on_hub:
            self.search_hub()

    def _take_hub(self) -> None:
        """The hub answered, or is asked, or may be asked again."""
        asked = self.state == "loading" and self.search.filter == "hub"
        if asked and self.hub.state in {"found", "failed"}:
            self.show_state("ready")
            if self.hub.failure is not None and self.hub.state == "failed":
                self.show_error(
                    problem_of(without_commands(self.hub.failure)), ("Try Again", self.search_hub)
                )
            elif self.hub.found == [hub_name(self.search.text)]:
                self.choose(self.hub.found[0])
        self._refresh()


def go_on(page: ModelPage, source: str) -> None:
    """A second press on the model that is chosen."""
    if page.sight.chosen == source and page.primary() == Primary():
        page.leave.emit("dataset")


def look_for(page: ModelPage, name: str) -> None:
    """A model of the hub by its name."""
    page.search.field.setText(name)
    page.search_hub()


def say_deleted(page: ModelPage, source: str, freed: float) -> None:
    """A model is gone: nothing names it any more."""
    model = page.desk.chosen.model
    if model is not None and model.source == source:
        page.desk.project.update(model=None)
    page.looked = ""
    page.models.drop(source)
    page.show_state("ready")
    page.banner.say("The model is deleted", f"{size(freed)} of the disk are free again.", "ok")


def say_packed(page: ModelPage, source: str, words: str) -> None:
    """A smaller copy is there: shown, and offered."""
    page.search.choose("here")
    page.looked = source
    page.care.read(source)
    page.show_state("ready")
    use = ("Use the Copy", lambda: page.choose(source))
    page.banner.say("The smaller copy is ready", words, "ok", fix=use)
