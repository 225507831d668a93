"""What a preset changes for a model and the size of its data, each with its reason. No mlx here.

The rules are data (`assets/model_defaults.json`); only the rank that holds what the data teaches is
worked out, as the verdict on a dataset does.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from mlx_lora.config import PRESETS, build_config, merge
from mlx_lora.data.verdict import judge_size
from mlx_lora.models.catalog import Entry
from mlx_lora.models.library import assets
from mlx_lora.models.shape import Shape, parameters

Tree = dict[str, dict[str, Any]]
Borders = tuple[int, int]
_PRIMER = "tinker-primer"


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to presets where every condition holds.

    Attributes:
        families: model types; empty for all.
        experts: whether it is about mixtures of experts; None for both.
        parameters, rows, mean: (from, below), 0 for no border; `mean` is tokens a row.
        set: preset -> what it changes.
        source: key of `Rules.sources`.
    """

    name: str
    families: tuple[str, ...] = ()
    experts: bool | None = None
    parameters: Borders = (0, 0)
    rows: Borders = (0, 0)
    mean: Borders = (0, 0)
    set: dict[str, Tree]
    reason: str
    source: str


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: how it is read, where learning rates are from, and the rules."""

    about: str
    sources: dict[str, str]
    rules: tuple[Rule, ...]


class Change(msgspec.Struct, frozen=True):
    """One value that differs from the preset's.

    Attributes:
        place: `training.learning_rate`, ...
        source: address of who says so; empty where it is arithmetic.
    """

    place: str
    value: Any
    reason: str
    source: str = ""


class Advice(msgspec.Struct, frozen=True):
    """What a preset becomes for a model and its data."""

    changes: tuple[Change, ...] = ()

    @property
    def tree(self) -> Tree:
        """Differences from the preset, as `build_config` takes them."""
        tree: Tree = {}
        for change in self.changes:
            group, _, field = change.place.partition(".")
            tree.setdefault(group, {})[field] = change.value
        return tree


@functools.cache
def rules() -> Rules:
    """The file's content."""
    return msgspec.json.decode((assets() / "model_defaults.json").read_bytes(), type=Rules)


def preset_for(model: Entry | Shape, rows: int, tokens: int, preset: str) -> Advice:
    """What differs from a preset for this model and data, and why.

    Args:
        model: one of the catalogue, or its sizes.
        rows: rows to learn from; 0 where they are not known.
        tokens: of all rows in one round; 0 where they are not known.
        preset: a name of `PRESETS`; the demo's is never changed.
    """
    if preset == "demo":
        return Advice()
    shape = model.shape if isinstance(model, Entry) else model
    found: dict[str, Change] = {}
    for rule in rules().rules:
        if preset in rule.set and _applies(rule, shape, rows, tokens):
            source = rules().sources[rule.source] if rule.source else ""
            for place, value in _places(rule.set[preset]):
                found[place] = Change(place, value, rule.reason, source)
    for change in (_rank(shape, rows, tokens, preset), _length(shape, found)):
        if change is not None:
            found[change.place] = change
    plain = _plain(preset)
    return Advice(tuple(one for one in found.values() if plain[one.place] != one.value))


def _applies(rule: Rule, shape: Shape, rows: int, tokens: int) -> bool:
    mean = tokens // rows if rows else 0
    return (
        (not rule.families or shape.family in rule.families)
        and (rule.experts is None or rule.experts == bool(shape.experts))
        and _within(rule.parameters, parameters(shape))
        and _within(rule.rows, rows)
        and _within(rule.mean, mean)
    )


def _within(borders: Borders, value: int) -> bool:
    """Whether a known value is inside; where there are no borders every value is."""
    least, below = borders
    if not least and not below:
        return True
    return value > 0 and value >= least and (not below or value < below)


def _rank(shape: Shape, rows: int, tokens: int, preset: str) -> Change | None:
    """The rank that holds what the data teaches, where the preset's is smaller."""
    if not tokens or shape.experts:
        return None
    said = judge_size(rows, tokens, running_text=False, shape=shape)
    if said["rank"] <= _plain(preset)["adapter.rank"]:
        return None
    return Change("adapter.rank", said["rank"], said["rank_text"], rules().sources[_PRIMER])


def _length(shape: Shape, found: dict[str, Change]) -> Change | None:
    """Rows no longer than the model was made for."""
    change = found.get("data.max_length")
    if change is None or not 0 < shape.context < change.value:
        return None
    reason = f"{change.reason} This model was made for {shape.context:,}."
    return msgspec.structs.replace(change, value=shape.context, reason=reason)


@functools.cache
def _plain(preset: str) -> dict[str, Any]:
    """Every value of a preset by its place."""
    sources = {"model": {"source": "-"}, "data": {"source": "-"}}
    tree = msgspec.to_builtins(build_config(merge(PRESETS[preset], sources)))
    return dict(_places(tree))


def _places(tree: Tree) -> list[tuple[str, Any]]:
    return [(f"{group}.{key}", value) for group, of in tree.items() for key, value in of.items()]
