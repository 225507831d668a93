"""What the Dataset page says: its hint, its numbers, how far the reading is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.issues import file_words, format_words, has_answers, issues_of, json_words, refused
from app.words import count, size

if TYPE_CHECKING:
    from app.project import DataChoice, Project
    from app.widgets.data_view import DataView
    from mlx_lora.config import DataConfig
    from mlx_lora.events import Phase


def hint_of(state: str, project: Project) -> str:
    """What is missing, or true now."""
    data = project.data
    if data is None:
        return "Choose a file, paste a text, or try a sample"
    if state == "waiting":
        return "A model is missing: without one nobody can count tokens"
    if state == "reading":
        again = " again" if data.facts else ""
        return f"Reading {data.title}{again}…"
    if state == "failed":
        return f"{data.title} cannot be used yet"
    wrong = refused(data.facts)
    if wrong:
        return f"Not yet: {wrong[0].title[:1].lower()}{wrong[0].title[1:]}"
    warnings = [issue for issue in issues_of(data.facts) if issue.level == "warning"]
    learnt = data.facts.get("training_targets", 0)
    words = f"{count(learnt)} tokens to learn each time round"
    return f"{'Ready, with a warning' if warnings else 'Looks good'}: {words}"


def reading_words(phase: Phase, data: DataChoice | None) -> str:
    """How far the worker is."""
    name = data.title if data else "the data"
    known = phase.total > 1
    if phase.name == "checking" and known:
        return f"Checking… {size(phase.done)} of {size(phase.total)}"
    if phase.name == "downloading" and known:
        return f"Downloading {name}: {size(phase.done)} of {size(phase.total)}"
    if phase.name == "downloading":
        return f"Downloading {name}"
    if phase.name == "rendering" and known:
        return f"Reading row {phase.done:,} of {phase.total:,}"
    if phase.name == "reading_data" and phase.done > 1:
        return f"Reading {name}: {phase.done:,} rows so far"
    return f"Reading {name}"


def figures_said(
    view: DataView, facts: dict[str, Any], rows: list[dict[str, Any]], title: str
) -> None:
    """Put the numbers of an inspection into the view; without facts, that there are none yet."""
    learnt, held = facts.get("training_rows", 0), facts.get("validation_rows", 0)
    total = facts.get("rows_read", learnt + held)
    name, _ = format_words(facts)
    kind = name.lower() if facts else ""
    view.header.say(title, " · ".join(filter(None, (file_words(facts, title), kind))))
    over = _over(facts)
    numbers = (count(total), "–", "–", "–")
    if facts.get("tokens"):
        average = f"{facts.get('mean_tokens', 0):,.0f}"
        numbers = (count(total), count(facts["tokens"]), average, count(over))
    view.header.say_numbers(numbers if facts else None, over=over > 0)
    what = "blocks" if "document" in facts.get("formats", {}) else "rows"
    shown = len(rows)
    words = f"first {shown:,} of {total:,} {what}" if shown < total else f"{total:,} {what}"
    last = facts.get("last_row", rows[-1]["row"] if rows else 1)
    view.say_rows(words if facts else f"first {shown:,} rows", last, what=what)


def choices_said(view: DataView, facts: dict[str, Any], settings: DataConfig, rank: int) -> None:
    """Put what is chosen, and what it does to the data, into the view."""
    name, words = format_words(facts)
    rail, answers = view.rail, has_answers(facts)
    rail.setVisible(bool(facts))
    rail.size_card.say(facts.get("verdict", {}), rank)
    own = facts.get("template", {}).get("name", "model") == "model"
    if answers and own:
        chat = facts.get("prompt_style") == "chat"
        words = words or ("Put into the model’s own chat form." if chat else "Put as plain text.")
    template = "" if own or not answers else facts["template"]["name"]
    mapping = facts.get("mapping", {})
    rail.format_card.say(name, words, template, mappable=bool(mapping.get("columns")))
    found = facts.get("json_answers") or {"parse": 0, "of": 0}
    rail.format_card.say_json(json_words(facts), bad=found["parse"] < found["of"])
    rail.say_split(facts, settings.val_fraction)
    rail.say_learning(settings.train_on, possible=answers)
    limit = facts.get("limit", settings.max_length)
    view.figures.say(facts, limit)
    long_rows = facts.get("long_rows") or {"count": _over(facts)}
    view.figures.long_rows.say(long_rows, settings.long_rows, settings.overlap, limit)


def _over(facts: dict[str, Any]) -> int:
    """Rows longer than the limit."""
    if "long_rows" in facts:
        return int(facts["long_rows"]["count"])
    return sum(issue["count"] for issue in facts.get("issues", ()) if issue["code"] == "cut")
