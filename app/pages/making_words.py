"""An export on its way, in a person's words: its steps, how it ended, what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.models.export_words import checked, export_name, failure_words
from app.widgets.earlier_card import EarlierFacts
from app.widgets.making_card import MakingFacts
from app.words import size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from app.models.makings import Making
    from app.widgets.making_card import Mark

_READ, _RUN, _BASE = "Read it back", "Run it in llama.cpp", "Write the base for the check"
# phases of the worker -> the step a person reads
_STEPS = {
    "planning": "Load the model", "loading_model": "Load the model",
    "base": "Ask the base", "adapted": "Ask the adapted model",
    "writing": "Write", "reading_back": _READ, "llama_cpp": _RUN,
}  # fmt: skip
_COMMON = ("Load the model", "Ask the base", "Ask the adapted model", "Write")
_MORE = {"gguf": (_READ, _RUN), "ollama": (_READ, _RUN), "gguf-lora": (_BASE, _READ, _RUN)}


def making_facts(made: Making, forms: list[str]) -> MakingFacts:
    """What is shown of an export; `forms` are those that can be."""
    title = export_name(made.form, made.report.get("quant") or made.quant)
    match made.doing:
        case "waiting":
            return MakingFacts(title, ("Waiting", "plain", "clock"))
        case "running":
            done, total = made.phase.done, made.phase.total
            share = done / total if total else None
            stopping = made.job is not None and made.job.asked == "stop"
            pill = ("Stopping", "plain", "stop") if stopping else ("Exporting", "accent", "play")
            return MakingFacts(title, pill, _steps(made), share)
        case "stopped":
            text = "Nothing half-written is left."
            return MakingFacts(title, ("Stopped", "plain", "stop"), lines=(text,))
        case "failed":
            words = failure_words(made.failed, forms) if made.failed else "It did not work."
            broken = made.failed is not None and made.failed.code == "broken_export"
            word = "Did not pass its check" if broken else "Failed"
            return MakingFacts(title, (word, "bad", "warn"), lines=(words,))
    found, nbytes = checked(made.report), sum(made.report.get("files", {}).values())
    lines = tuple(filter(None, (found.figures, found.note)))
    return MakingFacts(title, found.pill, lines=lines, size=size(nbytes), file=str(_single(made)))


def left(makings: Iterable[Making]) -> float:
    """About how many seconds are left until all are made."""
    return sum(made.seconds * (1 - _share(made)) for made in makings if made.busy)


def earlier_facts(
    told: list[dict[str, Any]], present: dict[Path, dict[str, Any]], makings: Iterable[Making]
) -> list[EarlierFacts]:
    """What was made of a run before: the last of each kind, with its place where it is there."""
    shown = {made.out for made in makings if made.doing == "done"}
    places = {_kind(facts): str(folder) for folder, facts in present.items()}
    new = {_kind(present[folder]) for folder in shown if folder in present}
    last = {_kind(facts): facts for facts in [*present.values(), *told] if facts.get("format")}
    return [
        EarlierFacts(
            export_name(*kind),
            " · ".join((size(sum(facts.get("files", {}).values())), checked(facts).pill[0])),
            places.get(kind, ""),
        )
        for kind, facts in sorted(last.items())
        if kind not in new
    ]  # fmt: skip


def _kind(facts: dict[str, Any]) -> tuple[str, str]:
    return str(facts.get("format", "")), str(facts.get("quant", ""))


def _single(made: Making) -> object:
    """The one file that matters, where there is one; else the folder."""
    files = [name for name in made.report.get("files", {}) if name.endswith(".gguf")]
    alone = made.form in {"gguf", "gguf-lora"} and len(files) == 1
    return made.out / files[0] if alone else made.out


def _names(made: Making) -> tuple[str, ...]:
    """Every step of this format, in order."""
    return (*_COMMON, *_MORE.get(made.form, (_READ,)))


def _at(made: Making) -> int:
    """The step it is at."""
    names, name = _names(made), made.phase.name
    doing = _STEPS.get(name, "")
    if name == "writing_base":  # of a merged model only where its own file confuses it
        doing = _BASE if _BASE in names else _RUN
    if name in {"loading_model", "reading_data", "rendering"}:
        # folders are read back by loading them
        doing = _READ if "adapted" in made.heard else "Load the model"
    if name == "adapted" and "writing" in made.heard:
        doing = _READ
    return names.index(doing) if doing in names else 0


def _share(made: Making) -> float:
    """About how much of it is done."""
    if made.doing != "running":
        return 0.0
    phase = made.phase
    inner = phase.done / phase.total if phase.total else 0.0
    return (_at(made) + inner) / len(_names(made))


def _steps(made: Making) -> tuple[tuple[str, Mark], ...]:
    at = _at(made)
    return tuple(
        (name, "done" if n < at else "doing" if n == at else "todo")
        for n, name in enumerate(_names(made))
    )
