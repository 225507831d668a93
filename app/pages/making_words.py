"""An export on its way, in a person's words: its steps, how it ended, what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.models.export_words import checked, export_name, failure_words
from app.widgets.making_card import MakingFacts
from app.words import size

if TYPE_CHECKING:
    from app.models.exports import Making
    from app.widgets.making_card import Mark

# phases of the worker -> the step a person reads
_STEPS = {
    "planning": "Plan", "loading_model": "Load the model", "rendering": "Load the model",
    "base": "Ask the base", "adapted": "Ask the adapted model", "weighing": "See what matters",
    "writing": "Write", "writing_base": "Write the base for the check",
    "reading_back": "Read it back", "llama_cpp": "Run it in llama.cpp",
}  # fmt: skip
_COMMON = ("Load the model", "Ask the base", "Ask the adapted model", "Write", "Read it back")
_MORE = {
    "gguf": ("Run it in llama.cpp",), "ollama": ("Run it in llama.cpp",),
    "gguf-lora": ("Write the base for the check", "Run it in llama.cpp"),
}  # fmt: skip


def making_facts(made: Making) -> MakingFacts:
    """What is shown of an export."""
    title = export_name(made.form, made.report.get("quant", made.quant))
    match made.doing:
        case "waiting":
            return MakingFacts(title, ("Waiting", "plain", "clock"))
        case "running":
            done, total = made.phase.done, made.phase.total
            share = done / total if total else None
            return MakingFacts(title, ("Exporting", "accent", "play"), _steps(made), share)
        case "stopped":
            text = "Stopped. Nothing half-written is left."
            return MakingFacts(title, ("Stopped", "plain", "stop"), lines=(text,))
        case "failed":
            words = failure_words(made.failed) if made.failed else "It did not work."
            return MakingFacts(title, ("Failed", "bad", "warn"), lines=(words,))
    return _outcome(title, made)


def _outcome(title: str, made: Making) -> MakingFacts:
    found, nbytes = checked(made.report), sum(made.report.get("files", {}).values())
    figures = " · ".join(filter(None, (size(nbytes), found.figures)))
    lines = tuple(filter(None, (figures, found.note)))
    return MakingFacts(title, found.pill, lines=lines, file=str(_single(made)))


def _single(made: Making) -> object:
    """The one file that matters, where there is one; else the folder."""
    files = [name for name in made.report.get("files", {}) if name.endswith(".gguf")]
    alone = made.form in {"gguf", "gguf-lora"} and len(files) == 1
    return made.out / files[0] if alone else made.out


def _steps(made: Making) -> tuple[tuple[str, Mark], ...]:
    """Every step of this format, in order."""
    names = [*_COMMON, *_MORE.get(made.form, ())]
    if made.form == "gguf-lora":  # its base is written before anything is read back
        names = [*_COMMON[:4], _MORE["gguf-lora"][0], _COMMON[4], _MORE["gguf-lora"][1]]
    doing = _STEPS.get(made.phase.name, "")
    if made.phase.name == "loading_model" and "adapted" in made.heard:
        doing = "Read it back"  # folders are read back by loading them
    at = names.index(doing) if doing in names else 0
    marks: list[Mark] = ["done" if n < at else "doing" if n == at else "todo" for n in range(99)]
    return tuple(zip(names, marks, strict=False))
