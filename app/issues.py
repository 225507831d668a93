"""What a person should look at in their data, in sentences: how many rows, and what happens."""

from __future__ import annotations

from typing import Any

import msgspec

from app.words import plural

# those that only say something; the others cost something
_NOTES = {"duplicate"}
_ORDER = (
    "few_rows", "no_validation", "empty", "no_target", "cut", "leak", "duplicate", "few_validation",
)  # fmt: skip


class Issue(msgspec.Struct, frozen=True):
    """One of them.

    Attributes:
        rows: numbers of rows of the training file that it concerns, the first 200.
        warns: it costs something.
    """

    code: str
    text: str
    rows: tuple[int, ...] = ()
    warns: bool = True


def issues_of(facts: dict[str, Any]) -> list[Issue]:
    """The issues of an inspection, the weightiest first."""
    limit = facts.get("limit", 0)
    made = [_issue(found, limit) for found in facts.get("issues", ())]
    return sorted(made, key=lambda issue: _ORDER.index(issue.code))


def _issue(found: dict[str, Any], limit: int) -> Issue:
    code, count = found["code"], found["count"]
    one, rows = count == 1, plural(count, "row")
    held = "held-out " if found["split"] == "valid" else ""
    which = f"{count:,} {held}row{'' if one else 's'}"
    be, have = ("is", "has") if one else ("are", "have")
    text = {
        "cut": f"{which} {be} longer than {limit:,} tokens and will be cut there.",
        "empty": f"{which} {have} no answer and {be} left out.",
        "no_target": f"{which} {have} nothing to learn within {limit:,} tokens and {be} left out.",
        "duplicate": f"{which} {be} a copy of an earlier one, so that one weighs more."
        if one
        else f"{which} are copies of earlier ones, so those weigh more.",
        "leak": f"{rows} held out for measuring {be} also learnt: results will look too good.",
        "few_rows": f"Only {rows}: the model will learn little. From 50 good ones it gets better.",
        "few_validation": f"Only {rows} measure{'s' if one else ''} what was learnt: "
        "the figures will be rough.",
        "no_validation": "No row is held out, so nothing can measure what was learnt.",
    }[code]
    shown = tuple(found["rows"]) if found["split"] == "train" else ()
    return Issue(code, text, shown, code not in _NOTES)


def format_words(facts: dict[str, Any]) -> tuple[str, str]:
    """(the format, what is done with it) in words."""
    kinds = facts.get("formats", {})
    chat = facts.get("prompt_style") == "chat"
    if len(kinds) > 1:
        return "Mixed rows", "Each row is read as what it is."
    form = "Put into the model\u2019s own chat form." if chat else "Put as plain text."
    return {
        "document": ("Plain text", "Split into blocks at paragraph ends, learnt word by word."),
        "text": ("Rows of text", "Each row is a text of its own, learnt word by word."),
        "completion": ("Question + answer", form),
        "conversation": ("Conversations", form),
    }.get(next(iter(kinds), ""), ("Unknown", ""))


def has_answers(facts: dict[str, Any]) -> bool:
    """Whether there is a choice of what to learn."""
    return bool({"completion", "conversation"} & facts.get("formats", {}).keys())


def file_words(facts: dict[str, Any], name: str) -> str:
    """Size and kind of the file."""
    from app.words import size

    sizes = [int(part.split(":")[1]) for part in str(facts.get("stamp", "")).split()]
    ending = name.rpartition(".")[2].lower()
    kinds = {"jsonl": "JSON lines", "ndjson": "JSON lines", "json": "JSON", "md": "Markdown"}
    kind = kinds.get(ending, "text") if "." in name else ""
    return " \u00b7 ".join(filter(None, (size(sum(sizes)) if sizes else "", kind)))
