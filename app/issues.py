"""What a person should look at in their data, as the library says it, in the order it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.words import plural, size
from mlx_lora.data.findings import KINDS, Level, words

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
_FORMS = {
    "document": ("Plain text", "Split into blocks at paragraph ends, learnt word by word."),
    "text": ("Rows of text", "Each row is a text of its own, learnt word by word."),
    "completion": ("Question + answer", ""), "alpaca": ("Instructions (Alpaca)", ""),
    "conversation": ("Conversations", ""), "messages": ("Conversations", ""),
    "sharegpt": ("Conversations (ShareGPT)", ""), "": ("Not understood", ""),
}  # fmt: skip
_TEXTS = {"document", "text", ""}
_KINDS = {
    "jsonl": "JSON lines", "ndjson": "JSON lines", "json": "JSON", "md": "Markdown", "csv": "CSV",
    "tsv": "TSV", "parquet": "Parquet", "txt": "text",
}  # fmt: skip


class Place(msgspec.Struct, frozen=True):
    """Where a row is broken: `file:line:column`, and what is wrong there."""

    where: str
    why: str


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """One of them.

    Attributes:
        count: how many rows it concerns.
        rows: numbers of rows of the training file that it concerns, the first 200.
        places: of the first broken ones.
        cleanable: a cleaned copy can do something about it.
    """

    code: str
    split: str
    level: Level
    count: int
    title: str
    effect: str = ""
    fix: str = ""
    rows: tuple[int, ...] = ()
    places: tuple[Place, ...] = ()
    cleanable: bool = False

    @property
    def key(self) -> str:
        """Tells it from every other one of the same data."""
        return f"{self.code}:{self.split}"


def issues_of(facts: Mapping[str, Any]) -> list[Issue]:
    """The issues of an inspection, errors first."""
    made = [_issue(found, facts.get("limit", 0)) for found in facts.get("issues", ())]
    return sorted(made, key=lambda issue: LEVELS.index(issue.level))


def refused(facts: Mapping[str, Any]) -> list[Issue]:
    """Those with which training does not begin."""
    return [issue for issue in issues_of(facts) if issue.level == "error"]


def _issue(found: dict[str, Any], limit: int) -> Issue:
    code, split, count = found["code"], found["split"], found["count"]
    # facts that an older version saved bring no words
    said = words(code, count, split, limit) if code in KINDS else {"level": "note", "title": code}
    said |= {name: found[name] for name in said if name in found}
    rows = tuple(found.get("rows", ())) if split == "train" else ()
    places = tuple(Place(one["where"], one["why"]) for one in found.get("places", ()))
    return Issue(code=code, split=split, count=count, rows=rows, places=places, **said)


def format_words(facts: Mapping[str, Any]) -> tuple[str, str]:
    """(the format, what is done with it) in words."""
    kinds = {kind: n for kind, n in facts.get("formats", {}).items() if n}
    if not kinds:
        return "Not known yet", ""
    if len(kinds) > 1:
        parts = [f"{n:,} {_FORMS.get(kind, (kind, ''))[0].lower()}" for kind, n in kinds.items()]
        return "Mixed rows", f"Each row is read as what it is: {', '.join(parts)}."
    kind = next(iter(kinds))
    return _FORMS.get(kind, (kind.capitalize(), ""))


def has_answers(facts: Mapping[str, Any]) -> bool:
    """Whether there is a choice of what to learn."""
    return any(n for kind, n in facts.get("formats", {}).items() if kind not in _TEXTS)


def file_words(facts: Mapping[str, Any], name: str) -> str:
    """Size and kind of the file."""
    sizes = [int(part.split(":")[1]) for part in str(facts.get("stamp", "")).split()]
    first, _, ending = name.lower().removesuffix(".gz").rpartition(".")
    packed = ", packed" if name.lower().endswith(".gz") else ""
    kind = _KINDS.get(ending, "") if first else ""
    return " · ".join(filter(None, (size(sum(sizes)) if sizes else "", kind + packed)))


def json_words(facts: Mapping[str, Any]) -> str:
    """How many answers are JSON; nothing where they are not meant to be."""
    found = facts.get("json_answers")
    if not found or not found["of"]:
        return ""
    good, of = found["parse"], found["of"]
    if good == of:
        return f"All {of:,} answers are JSON" if of > 1 else "The answer is JSON"
    return f"{good:,} of {plural(of, 'answer')} are JSON; {of - good:,} {_do(of - good)} not parse"


def _do(number: int) -> str:
    return "does" if number == 1 else "do"
