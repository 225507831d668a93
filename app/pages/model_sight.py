"""All that is known of each model: from the lists, the hub, the disk and what is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.models.offers import judge, select
from app.pages.model_acts import Seen
from app.pages.model_choice import remedies, smaller
from app.pages.model_words import card_facts, rail_facts
from app.widgets.model_rail import RailFacts
from app.words import MACHINE

if TYPE_CHECKING:
    from app.desk import Desk
    from app.models.hub_shelf import HubShelf
    from app.models.model_list import ModelList
    from app.models.offers import Fit, Offer
    from app.pages.model_care import ModelCare
    from app.widgets.model_card import CardFacts

_NOBODY = RailFacts(
    title="No model chosen yet",
    words=f"Press a card: here it says what the model asks of this {MACHINE}, what its licence "
    "is, and what can be done with it.",
)


class ModelSight:
    """Answers by the source of a model."""

    def __init__(self, desk: Desk, models: ModelList, hub: HubShelf, care: ModelCare) -> None:
        self._desk, self._models, self._hub, self._care = desk, models, hub, care

    @property
    def chosen(self) -> str:
        """The source of the project's model; empty where there is none."""
        model = self._desk.chosen.model
        return model.source if model else ""

    def offer(self, source: str) -> Offer | None:
        """One model: as it is on this machine, else as the hub tells, else as suggested."""
        known, there = self._models.offer(source), self._hub.offer(source)
        return known if known is not None and (known.here or there is None) else there

    def offers(self, kind: str, text: str) -> list[Offer]:
        """Those a filter and the words of a search leave; of the hub what was found there."""
        if kind != "hub":
            return select(self._models.offers, kind, text)
        if self._hub.offline:
            return []
        return [one for name in self._hub.found if (one := self.offer(name)) is not None]

    def card(self, offer: Offer, looked: str) -> CardFacts:
        """What its card says."""
        return card_facts(
            Seen(
                offer=offer, limit=self._desk.memory_limit, fit=self._fit(offer),
                download=self._desk.downloads.all.get(offer.source), looked=offer.source == looked,
            )
        )  # fmt: skip

    def rail(self, source: str) -> RailFacts:
        """What the rail says of it."""
        offer = self.offer(source)
        if offer is None:
            return _NOBODY
        packing = self._care.packing if self._care.packing.source == source else None
        return rail_facts(self._seen(offer), packing)

    def _seen(self, offer: Offer) -> Seen:
        source, hub, care = offer.source, self._hub, self._care
        chosen, fit = source == self.chosen, self._fit(offer)
        eased = fit is None or (fit.verdict == "fits" and not fit.settings)
        fixes = remedies(self._desk, offer) if chosen and not eased else ()
        other = None if eased else smaller(offer, self._models.offers, self._models.fits)
        return Seen(
            offer=offer, limit=self._desk.memory_limit, fit=fit, remote=hub.models.get(source),
            unknown=hub.unknown.get(source), looking=hub.looking == source,
            holding=care.holdings.get(source), download=self._desk.downloads.all.get(source),
            chosen=chosen, looked=True, checked=source in care.checked, offline=hub.offline,
            fixes=fixes, smaller=other.title if other else "",
        )  # fmt: skip

    def _fit(self, offer: Offer) -> Fit | None:
        if offer.source in self._models.fits and self._models.offer(offer.source) is offer:
            return self._models.fits[offer.source]
        machine, limit = self._desk.machine, self._desk.memory_limit
        preset = self._desk.chosen.preset
        return judge(offer, preset, metal=machine.metal, limit=limit, memory=machine.memory)
