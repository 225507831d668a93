"""What a project's settings come to: values, what differs from the preset, what is wrong."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import msgspec

from app.project import build_run_config
from mlx_lora.config import PRESETS, build_config, merge
from mlx_lora.demo import demo_settings
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.project import Project

Tree = dict[str, dict[str, Any]]
Place = tuple[str, str]
_SOURCES = {"model": {"source": "-"}, "data": {"source": "-"}}


def value_of(tree: Tree, place: Place) -> Any:
    """The value at a place, None where there is none."""
    return tree.get(place[0], {}).get(place[1])


def baseline(project: Project) -> Tree:
    """Every value of the preset; for the sample, with what it brings along."""
    tree = _plain(project.preset)
    if project.preset != "demo":
        return tree
    slow = demo_settings("reference")
    mark = value_of(project.settings, ("training", "sample_every"))
    is_slow = mark == value_of(slow, ("training", "sample_every"))
    return merge(tree, slow if is_slow else demo_settings(""))


def values(project: Project) -> Tree:
    """Every value as it is now, also those that are not possible."""
    return merge(_plain(project.preset), project.settings)


def changed(project: Project, places: Iterable[Place]) -> set[Place]:
    """Those places whose value is not the preset's."""
    now, before = values(project), baseline(project)
    return {place for place in places if value_of(now, place) != value_of(before, place)}


def with_values(project: Project, changes: dict[Place, Any]) -> Tree:
    """The project's settings with other values; only what differs from the preset is kept."""
    plain = _plain(project.preset)
    made = {group: dict(items) for group, items in project.settings.items()}
    for (group, name), value in changes.items():
        if value == value_of(plain, (group, name)):
            made.get(group, {}).pop(name, None)
        else:
            made.setdefault(group, {})[name] = value
    return {group: items for group, items in made.items() if items}


def reset(project: Project, places: Iterable[Place]) -> Tree:
    """The project's settings with these places as the preset has them."""
    before = baseline(project)
    return with_values(project, {place: value_of(before, place) for place in places})


def with_preset(project: Project, preset: str, places: Iterable[Place]) -> Tree:
    """The settings another preset starts from: everything but these places."""
    chosen = set(places)
    kept = {
        group: {name: value for name, value in items.items() if (group, name) not in chosen}
        for group, items in project.settings.items()
    }
    made = {group: items for group, items in kept.items() if items}
    return merge(made, demo_settings("")) if preset == "demo" else made


def find_errors(project: Project, places: Iterable[Place]) -> dict[Place, str]:
    """What is wrong, by place, in a sentence; a fault of several fields is at one of them."""
    now, found = values(project), dict[Place, str]()
    for group, name in places:
        if (group, name) not in _differing(project):
            continue
        only = {group: {name: value_of(now, (group, name))}}
        try:
            build_config(merge(merge(PRESETS[project.preset], only), _SOURCES))
        except UserError as error:
            found[group, name] = sentence_of(error)
    if not found:
        try:
            build_run_config(_with_sources(project))
        except UserError as error:
            group, _, name = error.where.partition(".")
            found[group, name] = sentence_of(error)
    return found


def sentence_of(error: UserError) -> str:
    """What to do about a value that is not possible."""
    text = error.fix or error.why
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def parse(text: str, kind: str) -> Any:
    """What was typed as a value: a number, None for nothing; what is neither stays text."""
    plain = text.replace(",", "").replace("\u202f", "").strip()
    if not plain:
        return None
    try:
        number = float(plain)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    if kind == "whole":
        return int(number) if number == int(number) and abs(number) < 1e15 else text  # noqa: PLR2004
    return number


def written(value: Any) -> str:
    """A value as a field shows it."""
    match value:
        case None:
            return ""
        case bool():
            return "on" if value else "off"
        case int():
            return f"{value:,}"
        case float():
            small = 0 < abs(value) < 1e-2  # noqa: PLR2004
            return _short(value) if small else f"{value:,.10g}"
        case _:
            return str(value)


def _short(value: float) -> str:
    """1e-4, 2.5e-5."""
    mantissa, _, power = f"{value:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


@functools.cache
def _plain(preset: str) -> Tree:
    """Every value of a preset; never to be changed in place."""
    config = build_config(merge(PRESETS[preset], _SOURCES))
    tree: Tree = msgspec.json.decode(msgspec.json.encode(config))
    return tree


def _differing(project: Project) -> set[Place]:
    return {(group, name) for group, items in project.settings.items() for name in items}


def _with_sources(project: Project) -> Project:
    """With stand-ins for a model and data that are not chosen yet."""
    from app.project import DataChoice, ModelChoice

    return msgspec.structs.replace(
        project,
        model=project.model or ModelChoice("-", "-"),
        data=project.data or DataChoice("-", "-"),
    )
