"""What a run says of its engine, as sentences and as one line; empty for a run that never did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.models.fields import ENGINE

if TYPE_CHECKING:
    from collections.abc import Mapping

_BATCHINGS = dict(ENGINE[0].choices)


def sentences(report: Mapping[str, Any]) -> tuple[str, ...]:
    """What it does and why, and how fast each way was that it tried.

    Args:
        report: data of the worker's report `engine`; empty where a run has none.
    """
    said = report.get("words")
    words = [text for text in said if isinstance(text, str)] if isinstance(said, list) else []
    tried = _tried(report.get("measured"))
    lines = [*words, f"Tried here: {tried}."] if tried else words
    return tuple(text.replace("'", "’") for text in lines)


def line(report: Mapping[str, Any]) -> str:
    """Its forms by the names the settings have; empty where nothing is known."""
    names = ("batching", "loss", "base", "recompute", "prefix", "compiled", "source")
    return ", ".join(f"{name} {report[name]}" for name in names if name in report)


def _tried(measured: Any) -> str:
    """Packed rows with the compiler 1,204 tokens a second; like lengths 988 tokens a second."""
    found = []
    for one in measured if isinstance(measured, list) else ():
        match one:
            case {"batching": str(kind), "seconds_per_token": float(seconds)} if seconds > 0:
                way = _BATCHINGS.get(kind, kind).lower()
                how = " with the compiler" if one.get("compiled") else ""
                found.append(f"{way}{how} {1 / seconds:,.0f} tokens a second")
            case _:
                pass
    return "; ".join(found)
