"""A model becomes the project's, with what it needs to fit; and what helps where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.models.offers import fitted, plain_config
from app.models.outlook import Given, look_ahead
from app.project import ModelChoice
from app.words import MACHINE, size
from mlx_lora.batches import rows_of
from mlx_lora.errors import UserError
from mlx_lora.pace import assumed_speed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.desk import Desk
    from app.models.offers import Fit, Offer
    from app.models.outlook import Fix


def adopt(desk: Desk, offer: Offer, fit: Fit | None) -> bool:
    """Make it the project's model, with the bits it needs; whether it is another one now."""
    project = desk.chosen
    preset, settings = project.preset, project.settings
    if preset == "demo" and offer.source != "demo":
        preset, settings = desk.settings.value.preset, {}
    changed = project.model is None or project.model.source != offer.source
    if changed:
        settings = fitted(settings, fit)
    bits = settings.get("model", {}).get("bits", "keep")
    note = f"{offer.bits if bits == 'keep' else bits}-bit"
    desk.project.update(
        model=ModelChoice(offer.source, offer.title, "bundled" if offer.source == "demo" else note),
        preset=preset,
        settings=settings,
    )
    return changed


def fitted_words(offer: Offer, fit: Fit) -> tuple[str, str]:
    """(title, text) of what was set so that a model fits."""
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
    return (
        f"{offer.title} will be trained with {title}",
        f"As it is, it does not fit into the memory of this {MACHINE}. {text}. "
        "Configure changes it back.",
    )


def remedies(desk: Desk, offer: Offer) -> tuple[Fix, ...]:
    """What would need less memory for the project as it is set, where it does not fit with ease."""
    if offer.base is None:
        return ()
    machine, data = desk.machine, desk.chosen.data
    rows = rows_of(data.facts) if data else None
    given = Given(
        offer.base, rows, assumed_speed(machine), machine.metal, desk.memory_limit, machine.memory
    )
    try:
        config = plain_config(desk.chosen.preset, desk.chosen.settings)
        return look_ahead(config, given).fixes
    except UserError:  # a value that is not possible yet: Configure says so
        return ()


def smaller(offer: Offer, offers: Iterable[Offer], fits: Mapping[str, Fit | None]) -> Offer | None:
    """The largest suggested model below this one that fits with ease."""
    size_of = offer.base.parameters if offer.base else 0
    found = [
        one
        for one in offers
        if one.recommended
        and one.source != "demo"
        and one.base is not None
        and one.base.parameters < size_of
        and (fit := fits.get(one.source)) is not None
        and fit.verdict == "fits"
    ]
    return max(found, key=lambda one: one.base.parameters if one.base else 0, default=None)
