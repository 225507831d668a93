"""What cards and the rail of Model say, from everything that is known of one model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from app.models.offers import badge, brief, explain
from app.pages.model_acts import acts_for, links_for
from app.problems import problem_of, without_commands
from app.widgets.model_card import CardFacts
from app.widgets.model_rail import RailFacts
from app.words import MACHINE, clock, count, plural, size

if TYPE_CHECKING:
    from app.models.downloads import Download
    from app.models.packing import Packing
    from app.pages.model_acts import Seen
    from mlx_lora import events

_DAY = 86_400
_PACKING = {
    "": "Getting ready…", "planning": "Looking at the model…", "packing": "Packing",
    "reading_back": "Reading it back", "measuring_original": "Asking the original",
    "measuring_packed": "Asking the copy",
}  # fmt: skip


def card_facts(seen: Seen) -> CardFacts:
    """The card of a model."""
    offer, fit = seen.offer, seen.fit
    share, place = _card_place(seen)
    return CardFacts(
        key=offer.source, title=offer.title, line=offer.line, use=offer.use,
        licence=offer.licence + (" · to be accepted" if offer.accept else ""),
        badge=badge(fit) if fit else None,
        why=explain(fit, seen.limit) if fit else offer.use,
        place=place, usable=offer.problem is None, share=share, looked=seen.looked,
    )  # fmt: skip


def rail_facts(seen: Seen, packing: Packing | None) -> RailFacts:
    """The rail about a model; `packing` where a copy of it is made."""
    offer, fit = seen.offer, seen.fit
    share, progress = _progress(seen, packing)
    return RailFacts(
        title=offer.title, line=offer.line, pill=badge(fit) if fit else None,
        words=brief(fit, seen.limit) if fit else _unknown_fit(seen), facts=tuple(_facts(seen)),
        share=share, progress=progress, note=_note(seen, packing),
        acts=tuple(acts_for(seen, packing)), more=tuple(links_for(seen, packing)),
    )  # fmt: skip


def progress_line(made: Download) -> str:
    """How far it is, in a few words."""
    if made.doing == "waiting":
        return "Waiting"
    if made.doing == "looking":
        return "Asking Hugging Face…"
    if made.doing == "paused":
        return f"Paused at {made.share:.0%}" if made.total else f"Paused · {size(made.done)} here"
    if made.doing == "checking":
        return f"Checking {made.share:.0%}" if made.what != "download" else "Checking…"
    if made.doing == "failed":
        return "Stopped"
    left = f" · {clock(made.eta)} left" if made.eta else ""
    return f"{_of(made.done, made.total)}{left}"


def ago(when: float) -> str:
    """A day as people say it."""
    days = int((time.time() - when) // _DAY)
    return "today" if days <= 0 else "yesterday" if days == 1 else f"{days} days ago"


def spoken(error: events.Failed) -> str:
    """A failure in sentences, without commands of a terminal."""
    return problem_of(without_commands(error)).text


def _card_place(seen: Seen) -> tuple[float | None, tuple[str, str]]:
    """How far a bar goes, None for no bar; (words, icon) of where it is."""
    offer, made = seen.offer, seen.download
    if made is not None and made.doing != "leaving":
        icon = {"paused": "pause", "failed": "warn", "waiting": "clock"}.get(made.doing, "")
        share = made.share if made.total else (0.0 if made.doing == "failed" else -1.0)
        return share, (progress_line(made), icon)
    if offer.source == "demo":
        return None, ("Comes with the app", "check")
    if offer.problem is not None:
        return None, ("Damaged", "warn") if seen.mendable else ("Cannot be used", "warn")
    if offer.here:
        return None, (f"On this {MACHINE}", "check")
    return None, (size(offer.size) if offer.size else "On Hugging Face", "download")


def _progress(seen: Seen, packing: Packing | None) -> tuple[float | None, tuple[str, str]]:
    """(how far the bar goes, words under it)."""
    made = seen.download
    if packing is not None and packing.job is not None:
        return _packing(packing)
    if made is None or made.doing == "leaving":
        return None, ("", "")
    share = made.share if made.total else -1.0
    if made.doing == "failed":
        return (made.share if made.done else None), ("", "")
    if made.doing == "downloading":
        rate = f"{size(made.rate)} a second" if made.rate else ""
        left = f"{clock(made.eta)} left" if made.eta else ""
        return share, (_of(made.done, made.total), " · ".join(filter(None, (rate, left))))
    why = {
        "waiting": "It begins when the one before it is here.",
        "checking": "Every file is compared with the hub’s checksum.",
        "paused": _arrived(made),
    }.get(made.doing, "")
    return max(share, 0.0) if made.doing == "paused" else share, (progress_line(made), why)


def _packing(packing: Packing) -> tuple[float, tuple[str, str]]:
    phase = packing.phase
    if packing.waiting:
        return -1.0, ("Waits for the work before it", "")
    share = phase.done / phase.total if phase.total else -1.0
    words = _PACKING.get(phase.name, "Working…")
    return share, (words, f"A copy at {packing.bits} bits; the original stays.")


def _arrived(made: Download) -> str:
    here = _of(made.done, made.total) if made.total else size(made.done)
    return f"{here} arrived and stay, also after a restart."


def _of(done: int, total: int) -> str:
    """4.3 of 7.0 GB: the unit once, where it is the same."""
    first, whole = size(done), size(total)
    number, _, unit = first.partition(" ")
    return f"{number} of {whole}" if whole.endswith(f" {unit}") else f"{first} of {whole}"


def _unknown_fit(seen: Seen) -> str:
    if seen.offer.problem is not None:
        return ""
    if seen.looking:
        return "Asking Hugging Face what it is…"
    return "Whether it fits is told once its settings are known." if seen.on_hub else ""


def _facts(seen: Seen) -> list[tuple[str, str]]:
    offer, remote, holding = seen.offer, seen.remote, seen.holding
    found = []
    if offer.licence:
        accept = ", to be accepted" if offer.accept else ""
        found.append(("Licence", f"{offer.licence}{accept}"))
    if holding is not None and offer.here:
        found.append(("On disk", size(holding.size)))
        places = {"hub": "Hugging Face", "folder": "A folder of yours"}
        found.append(("From", places.get(holding.kind) or _first_up(holding.origin)))
        found.append(("Added", ago(holding.arrived)))
        found.append(("Last run", ago(holding.used) if holding.used else "None yet"))
        if holding.runs:
            found.append(("Needed by", plural(len(holding.runs), "run")))
    elif not offer.here:
        found += _to_fetch(seen)
    if remote is not None and remote.downloads and not offer.here:
        found.append(("Downloads", count(remote.downloads)))
    return found


def _to_fetch(seen: Seen) -> list[tuple[str, str]]:
    """What a download takes: exactly, where the hub was asked."""
    remote, offer = seen.remote, seen.offer
    if remote is None or not remote.commit:
        return [("To download", f"About {size(offer.size)}")] if offer.size else []
    here = remote.size - remote.missing
    found = [("To download", size(remote.missing))]
    return [*found, ("Here already", size(here))] if here else found


def _note(seen: Seen, packing: Packing | None) -> tuple[str, str] | None:
    """The one thing to know."""
    made, offer = seen.download, seen.offer
    idle = made is None or not made.at_work
    copied = packing is not None and packing.job is None and packing.report.get("words")
    remote, closed = seen.remote, "Its owner asks you to accept terms on its page first."
    offline = f"Nothing is downloaded while offline ({seen.offline})."
    known: list[tuple[object, str, str]] = [
        (seen.unknown, "bad", spoken(seen.unknown) if seen.unknown else ""),
        (offer.problem, "bad", offer.use),
        (copied, "ok", f"Copy made: {copied}."),
        (seen.checked, "ok", "Every file is as it should be."),
        (not offer.here and seen.offline and idle, "warn", offline),
        (remote is not None and remote.gated and not offer.here, "warn", closed),
    ]
    if made is not None and made.doing == "failed":
        return _failure(made)
    return next(((tone, words) for true, tone, words in known if true), None)


def _failure(made: Download) -> tuple[str, str] | None:
    """Why it stopped."""
    if made.failed is None:
        return None
    if made.damage:
        names = ", ".join(str(one["name"]) for one in made.damage[:2])
        rest = len(made.damage) - 2
        more = f" and {rest} more" if rest > 0 else ""
        return "bad", f"Damaged: {names}{more}. {_first_up(str(made.damage[0]['why']))}."
    if made.failed.code == "no_access":
        return "warn", f"{_first_up(made.failed.why)}."
    return "bad", spoken(made.failed)


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
