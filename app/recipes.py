"""A run's record turned back into what a person chose: a project, or a command."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from app.project import DataChoice, ModelChoice, Project, recipe_of
from mlx_lora.config import PRESETS, build_config, merge

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig
    from mlx_lora.runs import RunRecord

_TITLES = {"demo": "Storybook"}
_DATA_TITLES = {"demo": "Shakespeare sample", "tiny-shakespeare": "Tiny Shakespeare"}
# settings the command line has an option for; the option is the field's name, but for a few
_OPTIONS = {
    "model": ("bits",),
    "data": (
        "max_length", "val_fraction", "train_on", "long_rows", "overlap", "template", "columns",
        "subset", "split",
    ),
    "adapter": ("rank", "alpha", "dropout", "targets", "layers"),
    "training": (
        "epochs", "steps", "batch_size", "learning_rate", "warmup", "weight_decay", "clip",
        "grad_accumulation", "grad_checkpoint", "checkpoint_every", "eval_every", "eval_rows",
        "save_every", "sample_every", "patience", "seed",
    ),
    "engine": ("batching", "loss", "prefix_cache", "compile", "base"),
    "samples": ("prompts",),
}  # fmt: skip
_NAMES = {"prompts": "--prompt", "columns": "--map", "base": "--base-form"}


def model_title(source: str, name: str = "") -> str:
    """What a base is called for people: its hub name without the maker, or its folder's name."""
    return _TITLES.get(source) or PurePath(name or source).name or source


def data_title(source: str) -> str:
    """What data is called for people: its file's or folder's name."""
    return _DATA_TITLES.get(source) or PurePath(source).name or source


def settings_of(config: RunConfig) -> tuple[str, dict[str, dict[str, Any]]]:
    """(preset, differences from it): the preset that leaves fewest; `balanced` where two do."""
    order = ("balanced", *(name for name in PRESETS if name != "balanced"))
    found = {name: differences(config, name) for name in order}
    best = min(order, key=lambda name: sum(len(group) for group in found[name].values()))
    return best, found[best]


def differences(config: RunConfig, preset: str) -> dict[str, dict[str, Any]]:
    """What of a configuration, sources aside, is another than in a preset."""
    sources = {"model": {"source": "-"}, "data": {"source": "-"}}
    plain = _tree(build_config(merge(PRESETS[preset], sources)))
    tree = merge(_tree(config), sources)
    changed = {
        group: {key: value for key, value in values.items() if value != plain[group][key]}
        for group, values in tree.items()
    }
    return {group: values for group, values in changed.items() if values}


def project_of(
    record: RunRecord, facts: dict[str, Any], *, name: str, run: str | None = None
) -> Project:
    """The project that makes this run, and made it where `run` names it.

    Args:
        record: of the run.
        facts: what the run said of its data before its first step; empty where it never did.
        name: of the project.
        run: name of the run, None for a new one with the same choices.
    """
    config = record.config
    model, data = config.model.source, config.data.source
    preset, settings = settings_of(config)
    project = Project(
        name=name,
        model=ModelChoice(model, model_title(model, str(record.model_name)), _note(config)),
        data=DataChoice(data, data_title(data), {**facts, "model": model} if facts else {}),
        preset=preset,
        settings=settings,
        run=run,
    )
    recipe = recipe_of(project) if run else ""
    return msgspec.structs.replace(project, recipe=recipe)


def command_of(config: RunConfig, file: str = "") -> str:
    """The `understudy train` command that makes this run again.

    Args:
        config: of the run.
        file: its `config.toml`, for the rare setting no option says.
    """
    words = ["understudy", "train", "--model", config.model.source, "--data", config.data.source]
    found = {name: changes for name in PRESETS if (changes := _options(config, name)) is not None}
    if not found:
        return shlex.join(["understudy", "train", "--config", file])
    preset = min(found, key=lambda name: (len(found[name]), name != "balanced"))
    if preset != "balanced":
        words += ["--preset", preset]
    return shlex.join(words + found[preset])


def _tree(config: RunConfig) -> dict[str, dict[str, Any]]:
    """As a project's file holds it."""
    tree: dict[str, dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(config))
    return tree


def _note(config: RunConfig) -> str:
    return "" if config.model.bits == "keep" else f"{config.model.bits}-bit"


def _options(config: RunConfig, preset: str) -> list[str] | None:
    """Options that lead from a preset to a configuration; None where options cannot say it."""
    words: list[str] = []
    for group, values in differences(config, preset).items():
        for field, value in values.items():
            if field == "epochs" and config.training.steps is not None:
                continue  # steps decide
            if field not in _OPTIONS[group] or value is None:
                return None
            words += _option(field, value)
    return words


def _option(field: str, value: Any) -> list[str]:
    name = _NAMES.get(field, f"--{field.replace('_', '-')}")
    match value:
        case bool():
            return [name if value else f"--no-{name[2:]}"]
        case dict():
            return [word for key, column in value.items() for word in (name, f"{key}={column}")]
        case list() if field == "prompts":
            return [word for prompt in value for word in (name, prompt)]
        case list():
            return [name, ",".join(value)]
        case _:
            return [name, str(value)]
