"""The models a person can choose from: the catalogue, and what was found on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.words import MACHINE, size
from mlx_lora.config import PRESETS, build_config, merge
from mlx_lora.errors import UserError
from mlx_lora.forecast import Base, Memory, Verdict, base_of, forecast_memory, judge_memory
from mlx_lora.models.catalog import catalog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlx_lora.config import RunConfig
    from mlx_lora.models.catalog import Entry
    from mlx_lora.models.shelf import Found

_WORDS: dict[Verdict, tuple[str, str, str]] = {
    "fits": ("Fits", "ok", "check"), "tight": ("Tight", "warn", "warn"),
    "large": ("Too large", "bad", "warn"),
}  # fmt: skip
# what helps a model that does not fit, from little to much: the same result, in more time
_PACKED: dict[str, dict[str, Any]] = {"model": {"bits": "4"}}
_SAVING: dict[str, dict[str, Any]] = {"training": {"grad_checkpoint": True}}
_SMALL: dict[str, dict[str, Any]] = {
    "training": {"grad_checkpoint": True, "batch_size": 1, "grad_accumulation": 4}
}
_MEANINGS: dict[Verdict, str] = {
    "fits": "there is room to spare",
    "tight": "close other programs before you train",
    "large": "it needs more memory than there is",
}


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One model.

    Attributes:
        source: what `--model` takes.
        line: maker, parameters and bits.
        use: what it is good at, or where it was found.
        licence: empty where it is not known.
        here: it is on this machine.
        base: for the forecast; None where it cannot be used.
        problem: why it cannot be used.
    """

    source: str
    title: str
    line: str
    use: str
    licence: str = ""
    accept: bool = False
    size: int = 0
    bits: int = 16
    here: bool = False
    recommended: bool = False
    base: Base | None = None
    problem: UserError | None = None


class Fit(msgspec.Struct, frozen=True):
    """Whether an offer can be trained here.

    Attributes:
        settings: what the preset leaves to be set for it to fit.
    """

    verdict: Verdict
    memory: Memory
    settings: dict[str, dict[str, Any]] = {}

    @property
    def packed(self) -> bool:
        """Whether it is brought to 4 bit."""
        return "model" in self.settings

    @property
    def saving(self) -> bool:
        """Whether memory is saved at the cost of time."""
        return "training" in self.settings


def make_offers(found: Iterable[Found]) -> list[Offer]:
    """Every model once: what is here first, the catalogue's order within."""
    here = {one.source: one for one in found}
    known = [_of_catalog(entry, here.pop(entry.source, None)) for entry in catalog()]
    others = [_of_found(one) for one in here.values()]
    return sorted([*known, *others], key=lambda offer: (offer.problem is not None, not offer.here))


def select(offers: Iterable[Offer], kind: str, text: str) -> list[Offer]:
    """Those a filter (recommended, here, all) and the words of a search leave.

    A search looks through all of them.
    """
    words = text.lower().split()
    if words:
        return [
            offer for offer in offers
            if all(word in f"{offer.title} {offer.line} {offer.source}".lower() for word in words)
        ]  # fmt: skip
    if kind == "all":
        return list(offers)
    if kind == "here":
        return [offer for offer in offers if offer.here]
    return [o for o in offers if not o.problem and (o.recommended or o.here)]


def plain_config(preset: str, settings: dict[str, dict[str, Any]] | None = None) -> RunConfig:
    """What a preset and differences from it ask for, of no particular model and data."""
    plain = {"model": {"source": "-"}, "data": {"source": "-"}}
    return build_config(merge(merge(PRESETS[preset], settings or {}), plain))


def judge(offer: Offer, preset: str, *, metal: bool, limit: int, memory: int = 0) -> Fit | None:
    """The verdict on an offer with a preset, with as little changed as makes it fit."""
    if offer.base is None:
        return None
    return fit_base(offer.base, preset, metal=metal, limit=limit, memory=memory)


def fit_base(base: Base, preset: str, *, metal: bool, limit: int, memory: int = 0) -> Fit:
    """The first way in which a base fits; that of the plain preset where none does.

    Tried in this order: as it is; a float base at 4 bit; layers made again; one row at a time, too.
    4 bit is left out where it saves nothing: on the CPU weights that leave half of the `memory`
    there is are held as floats.
    """

    def need(way: dict[str, dict[str, Any]]) -> Memory:
        return forecast_memory(plain_config(preset, way), base, metal=metal, memory=memory)

    saves = base.bits >= 16 and need(_PACKED).weights < need({}).weights  # noqa: PLR2004
    packed = [_PACKED] if saves else []
    last = packed[0] if packed else {}
    first: Fit | None = None
    for way in ({}, *packed, merge(last, _SAVING), merge(last, _SMALL)):
        needed = need(way)
        fit = Fit(judge_memory(needed.total, limit), needed, way)
        if fit.verdict != "large":
            return fit
        first = first or fit
    assert first is not None
    return first


def fitted(settings: dict[str, dict[str, Any]], fit: Fit | None) -> dict[str, dict[str, Any]]:
    """The settings of a project with what a model needs; what another one needed is taken out."""
    needed = merge(_PACKED, _SMALL)
    rest = {
        group: {
            key: value for key, value in values.items() if needed.get(group, {}).get(key) != value
        }
        for group, values in settings.items()
    }
    return merge(
        {group: values for group, values in rest.items() if values}, fit.settings if fit else {}
    )


def badge(fit: Fit) -> tuple[str, str, str]:
    """(text, tone, icon)."""
    word, tone, icon = _WORDS[fit.verdict]
    more = ", slower" if fit.saving else " at 4-bit" if fit.packed else ""
    return f"{word}{more} · {size(fit.memory.total)}", tone, icon


def explain(fit: Fit, limit: int) -> str:
    """The badge in sentences."""
    memory = fit.memory
    parts = (
        f"model {size(memory.weights)}, adapter {size(memory.adapter)}, "
        f"values while learning {size(memory.activations + memory.logits)}, "
        f"the engine {size(memory.runtime)}"
    )
    how = ", ".join(
        words
        for words, true in (
            ("at 4 bits a weight", fit.packed), ("with Save Memory on", fit.saving),
            ("one row at a time", "batch_size" in fit.settings.get("training", {})),
        )
        if true
    )  # fmt: skip
    training = f"Training {how}".rstrip()
    return (
        f"{_WORDS[fit.verdict][0]}: {_MEANINGS[fit.verdict]}. {training} needs about "
        f"{size(memory.total)} of the {size(limit)} this {MACHINE} has for it: {parts}."
    )


def brief(fit: Fit, limit: int) -> str:
    """The same beside the badge: without its word and the parts."""
    words = explain(fit, limit).partition(": model ")[0].partition(": ")[2]
    return f"{words[:1].upper()}{words[1:]}."


def numbers(parameters: int) -> str:
    """A count of parameters: 3.41 M, 362 M, 1.24 B."""
    unit, factor = ("B", 1e9) if parameters >= 0.9995e9 else ("M", 1e6)  # noqa: PLR2004
    return f"{parameters / factor:.3g} {unit}"


def _of_catalog(entry: Entry, found: Found | None) -> Offer:
    here = found is not None or entry.source == "demo"
    problem = found.problem if found else None
    return Offer(
        source=entry.source, title=entry.title,
        line=f"{entry.maker} · {numbers(entry.parameters)} · {entry.bits}-bit",
        use=_why(problem) if problem else entry.use, licence=entry.licence, accept=entry.accept,
        size=found.size if found and found.size else entry.size, bits=entry.bits, here=here,
        recommended=entry.recommended, base=None if problem else base_of(found or entry),
        problem=problem,
    )  # fmt: skip


def _of_found(found: Found) -> Offer:
    maker, _, _ = found.source.partition("/")
    place = maker if found.source.count("/") == 1 and not found.source.startswith("~") else "Folder"
    more = f" · {numbers(found.parameters)} · {found.bits}-bit" if found.parameters else ""
    where = "the Hugging Face cache" if place == maker else "a folder of yours"
    use = f"Found in {where}." if not found.problem else _why(found.problem)
    return Offer(
        source=found.source, title=found.title, line=f"{place}{more}", use=use,
        size=found.size, bits=found.bits, here=True, base=base_of(found), problem=found.problem,
    )  # fmt: skip


def _why(error: UserError) -> str:
    return f"{error.why[:1].upper()}{error.why[1:].rstrip('.')}."
