"""What the Dataset page says: its hint, its numbers, how far the reading is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.issues import file_words, format_words, has_answers, issues_of
from app.words import count

if TYPE_CHECKING:
    from app.project import DataChoice, Project
    from app.widgets.data_view import DataView
    from mlx_lora.config import DataConfig
    from mlx_lora.events import Phase


def hint_of(state: str, project: Project) -> str:
    """What is missing, or true now."""
    data = project.data
    if data is None:
        return "Choose a file, paste a text, or use the sample data"
    if state == "waiting":
        return "A model is missing: without one nobody can count tokens"
    if state == "reading":
        again = " again" if data.facts else ""
        return f"Reading {data.title}{again}…"
    if state == "failed":
        return f"{data.title} cannot be used yet"
    warnings = [issue for issue in issues_of(data.facts) if issue.warns]
    learnt = data.facts.get("training_targets", 0)
    words = f"{count(learnt)} tokens to learn each time round"
    return f"{'Ready, with a warning' if warnings else 'Looks good'}: {words}"


def reading_words(phase: Phase, data: DataChoice | None) -> str:
    """How far the worker is."""
    name = data.title if data else "the data"
    if phase.name == "rendering" and phase.total > 1:
        return f"Reading row {phase.done:,} of {phase.total:,}"
    if phase.name == "reading_data" and phase.done > 1:
        return f"Reading {name}: {phase.done:,} rows so far"
    return f"Reading {name}"


def figures_said(
    view: DataView, facts: dict[str, Any], settings: DataConfig, title: str, shown: int
) -> None:
    """Put the numbers of an inspection into the view."""
    learnt, held = facts.get("training_rows", 0), facts.get("validation_rows", 0)
    total = facts.get("rows_read", learnt + held)
    name, words = format_words(facts)
    blocks = "document" in facts.get("formats", {})
    header = view.header
    header.say(title, " · ".join(filter(None, (file_words(facts, title), name.lower()))))
    header.rows.say(count(total))
    header.tokens.say(count(facts.get("tokens", 0)))
    header.average.say(f"{facts.get('mean_tokens', 0):,.0f}")
    over = sum(issue["count"] for issue in facts.get("issues", ()) if issue["code"] == "cut")
    header.over.say(count(over), "warn" if over else "text")
    view.say_rows(shown, total, facts.get("last_row", total), what="blocks" if blocks else "rows")
    made = facts.get("histogram", {"edges": [], "counts": []})
    limit = facts.get("limit", settings.max_length)
    view.rail.say_lengths(made["edges"], made["counts"], limit, facts.get("p95_tokens", 0))
    view.rail.say_format(name, words)
    own = facts.get("own_validation", False)
    view.rail.say_split(learnt, held, settings.val_fraction, own=own)
    view.rail.say_learning(settings.train_on, possible=has_answers(facts))
