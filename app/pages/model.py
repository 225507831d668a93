"""The first step: which model is taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QVBoxLayout

from app.models.model_list import ModelList
from app.models.offers import badge, explain, fitted, plain_config, select
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.project import ModelChoice
from app.widgets.button import Button
from app.widgets.empty import EmptyView
from app.widgets.model_card import CardFacts, CardGrid
from app.widgets.search_bar import SearchBar
from app.widgets.strip import Strip
from app.words import MACHINE, size
from mlx_lora.storage import expanded

if TYPE_CHECKING:
    from app.desk import Desk
    from app.models.offers import Fit, Offer
    from mlx_lora.errors import UserError
    from mlx_lora.models.shelf import Found

_HERE = "On this Mac" if MACHINE == "Mac" else "On This Computer"
_FILTERS = (("recommended", "Recommended"), ("here", _HERE), ("all", "All"))


class ModelPage(Page):
    """Cards of models; a press chooses one, Return or a second press goes on.

    Attributes:
        sample: the whole path on what is bundled is wanted.
        models: what there is to choose from.
    """

    sample = Signal()
    key, title = "model", "Choose a model"
    purpose = "Pick the model you want to teach; you can change it later."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.models = ModelList(desk)
        self.folder_button = self.add_action(
            Button("Open Local Folder…", self.open_folder, icon="folder")
        )
        self.search = SearchBar(
            "Search, or paste a folder or a Hugging Face name", _FILTERS, name="Search models"
        )
        self.search.changed.connect(self._refresh)
        self.search.entered.connect(self._search_entered)
        outer = self.layout()
        assert isinstance(outer, QVBoxLayout)
        outer.insertWidget(1, self.search)
        self.strip = Strip(
            "spark", "New here? Try with Sample",
            "Teaches the bundled storybook writer to speak like Shakespeare, in about two minutes. "
            "No file and no network needed.", role="info",
        )  # fmt: skip
        self.sample_button = Button("Try with Sample", self.sample.emit, icon="play")
        self.strip.add(self.sample_button)
        self.grid = CardGrid()
        self.nothing = EmptyView(
            "search", "No Model Is Called That",
            "Return opens what you typed: a folder, or the Hugging Face name of a model that is on "
            f"this {MACHINE}.",
        )  # fmt: skip
        self.machine = Strip("chip", "", "")
        for part in (self.strip, self.grid, self.nothing):
            self.body.addWidget(part)
        self.body.addStretch(1)
        self.body.addWidget(self.machine)
        self._connect()
        self._say_machine()
        self._refresh()

    def hint(self) -> str:
        """What is missing, or how the chosen model fits."""
        model = self.desk.chosen.model
        if model is None:
            return "Choose a model to go on"
        if self.models.missing:
            return f"{model.title} is not on this {MACHINE} any more"
        fit = self.models.fits.get(model.source)
        if fit is not None and fit.verdict == "large":
            return f"{model.title} may be too large for this {MACHINE}; Configure shows what helps"
        return f"{model.title} is ready to use"

    def primary(self) -> Primary:
        """On to the data, once there is a model that can be used."""
        usable = self.desk.chosen.model is not None and not self.models.missing
        return Primary("Continue", usable and self.state != "loading")

    def act(self) -> None:
        """On to the data."""
        self.leave.emit("dataset")

    def entered(self) -> None:
        """Look what is on this machine now."""
        self.models.rescan()

    def choose(self, source: str) -> None:
        """A card was pressed."""
        offer = self.models.offer(source)
        if offer is None:
            return
        if offer.problem is not None:
            self._refuse(offer.problem)
        elif not offer.here:
            self._say_absent(offer)
        else:
            self._adopt(offer)

    def open_folder(self) -> None:
        """Let the person name a folder."""
        start = self.desk.settings.value.models_folder
        said = QFileDialog.getExistingDirectory(
            self, "Open a Model Folder", str(expanded(start)) if start else ""
        )
        if said:
            self.take(said)

    def take(self, name: str) -> None:
        """A folder, or a Hugging Face id: look at it, and choose it where it can be used."""
        self.show_loading("Reading the model’s files…", self._cancel)
        self.models.look(name)

    def _connect(self) -> None:
        self.grid.chosen.connect(self.choose)
        self.grid.opened.connect(self._go_on)
        self.models.changed.connect(self._refresh)
        self.models.opened.connect(self._take_opened)
        self.models.refused.connect(self._refuse)
        self.models.lost.connect(self._refuse)
        self.desk.project.changed.connect(self._refresh)
        self.desk.settings.changed.connect(self.models.judge)
        self.desk.settings.changed.connect(self._say_machine)

    def _cancel(self) -> None:
        self.models.cancel()
        self.show_state("ready")

    def _take_opened(self, found: list[Found]) -> None:
        """A folder was read: one model is chosen, of several the person chooses."""
        self.search.field.clear()
        self.show_state("ready")
        usable = [one.source for one in found if one.problem is None]
        if len(usable) == 1:
            self.choose(usable[0])
        else:
            self.search.choose("here")

    def _refuse(self, error: UserError) -> None:
        self.show_error(problem_of(error), ("Open Local Folder…", self.open_folder))

    def _say_absent(self, offer: Offer) -> None:
        self.show_state("ready")
        licence = f" Its licence ({offer.licence}) is to be accepted first." if offer.accept else ""
        self.banner.say(
            f"{offer.title} is not on this {MACHINE} yet",
            f"Its files weigh about {size(offer.size)}: {offer.source} on Hugging Face.{licence} "
            "Once they are here, in the Hugging Face cache or in any folder, it can be used.",
            fix=("Open Local Folder…", self.open_folder),
        )

    def _adopt(self, offer: Offer) -> None:
        """Make it the project's model, with the bits it needs."""
        project, fit = self.desk.chosen, self.models.fits.get(offer.source)
        preset, settings = project.preset, project.settings
        if preset == "demo" and offer.source != "demo":
            preset, settings = self.desk.settings.value.preset, {}
        changed = project.model is None or project.model.source != offer.source
        if changed:
            settings = fitted(settings, fit)
        bits = settings.get("model", {}).get("bits", "keep")
        note = f"{offer.bits if bits == 'keep' else bits}-bit"
        self.models.missing = ""
        self.desk.project.update(
            model=ModelChoice(
                offer.source, offer.title, "bundled" if offer.source == "demo" else note
            ),
            preset=preset,
            settings=settings,
        )
        self.show_state("ready")
        if changed and fit is not None and fit.settings and fit.verdict != "large":
            self._say_fitted(offer, fit)

    def _say_fitted(self, offer: Offer, fit: Fit) -> None:
        need = f"it needs about {size(fit.memory.total)}"
        ways = {
            (True, False): ("4 bits a weight", f"At 4 bits {need}"),
            (False, True): ("Save Memory on", f"With Save Memory {need}, and more time"),
            (True, True): (
                "4 bits a weight and Save Memory on",
                f"At 4 bits and with Save Memory {need}, and more time",
            ),
        }
        title, text = ways[fit.packed, fit.saving]
        self.banner.say(
            f"{offer.title} will be trained with {title}",
            f"As it is, it does not fit into the memory of this {MACHINE}. {text}. "
            "Configure changes it back.",
        )

    def _go_on(self, source: str) -> None:
        model = self.desk.chosen.model
        if model is not None and model.source == source and self.primary().enabled:
            self.act()

    def _refresh(self) -> None:
        """The cards a filter and a search leave."""
        model, text = self.desk.chosen.model, self.search.text
        offers = select(self.models.offers, self.search.filter, text)
        self.grid.show_cards([self._card(o) for o in offers], model.source if model else "")
        self.nothing.setVisible(not offers)
        self.strip.setVisible(self.desk.chosen.run is None and not text)
        self.changed.emit()

    def _card(self, offer: Offer) -> CardFacts:
        fit = self.models.fits.get(offer.source)
        place = (f"On this {MACHINE}", "check")
        if offer.source == "demo":
            place = ("Comes with the app", "check")
        elif not offer.here:
            place = (f"Not here yet · {size(offer.size)}", "")
        elif offer.problem is not None:
            place = ("Cannot be used", "")
        return CardFacts(
            key=offer.source, title=offer.title, line=offer.line, use=offer.use,
            licence=offer.licence + (" · to be accepted" if offer.accept else ""),
            badge=badge(fit) if fit else None,
            why=explain(fit, self.desk.memory_limit) if fit else offer.use,
            place=place, usable=offer.problem is None,
        )  # fmt: skip

    def _search_entered(self, text: str) -> None:
        """Return in the search: the one that is left, or a folder or id that is looked at."""
        offers = select(self.models.offers, self.search.filter, text)
        exact = [o for o in offers if text.lower() in {o.source.lower(), o.title.lower()}]
        if exact or len(offers) == 1:
            self.choose((exact or offers)[0].source)
        elif text and not offers:
            self.take(text)

    def _say_machine(self) -> None:
        machine, plain = self.desk.machine, plain_config(self.desk.chosen.preset)
        self.machine.say(
            f"{machine.name} · {size(machine.memory)}",
            f"{size(self.desk.memory_limit)} of memory can be used for training. Cards count with "
            f"{plain.training.batch_size} rows of {plain.data.max_length} tokens at a time.",
        )
        pill = ("Metal ready", "ok", "check")
        if not machine.metal:
            pill = ("No Metal: training is slow", "warn", "warn")
        self.machine.say_pill(*pill)
