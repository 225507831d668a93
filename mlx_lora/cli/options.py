"""Command-line options, their help and limits taken from the configuration's own rules."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import typer

from mlx_lora.config import (
    PRESETS,
    AdapterConfig,
    DataConfig,
    EngineConfig,
    ModelConfig,
    RunConfig,
    SampleConfig,
    TrainingConfig,
    build_config,
    check_names,
    merge,
    rules,
)
from mlx_lora.errors import UserError
from mlx_lora.generation.settings import Sampling
from mlx_lora.storage import expanded, show

_GROUPS: dict[str, type[msgspec.Struct]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "adapter": AdapterConfig,
    "training": TrainingConfig,
    "engine": EngineConfig,
    "samples": SampleConfig,
    "sampling": Sampling,
}


def option(path: str, *names: str, default: str = "") -> Any:
    """A typer option for the configuration field `group.name`, with that field's help."""
    group, _, field = path.partition(".")
    struct = _GROUPS[group]
    value = default or _default(struct, field)
    text = rules(struct)[field].help
    return typer.Option(*names, help=f"{text} [{value}]" if value else text, show_default=False)


def read_file(path: Path | None) -> dict[str, Any]:
    """The settings of a `--config` file, or none.

    Raises:
        UserError: `bad_option`.
    """
    if path is None:
        return {}
    try:
        tree = tomllib.loads(expanded(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            "bad_option", f"--config {show(path)}", f"it cannot be read ({error})", "correct it"
        ) from error
    # a run's own config.toml keeps its settings in one group beside what was recorded
    inner = tree.get("config", tree)
    return inner if isinstance(inner, dict) else tree


def gather(
    preset: str,
    file: dict[str, Any],
    given: dict[str, dict[str, Any]],
    advice: dict[str, dict[str, Any]] | None = None,
) -> RunConfig:
    """The configuration of a command: preset, advice on it, then file, then what was typed.

    Raises:
        UserError: `bad_option`.
    """
    check_names(file)
    typed = {
        group: {k: v for k, v in values.items() if v is not None} for group, values in given.items()
    }
    plain = merge(_preset(preset), advice or {})
    return build_config(merge(merge(plain, file), {k: v for k, v in typed.items() if v}))


def number_or_all(text: str | None) -> int | str | None:
    """`--layers`: a number, or all."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return text


def sampling(**given: float | None) -> dict[str, float]:
    """Generation settings that were typed, checked against their limits.

    Raises:
        UserError: `bad_option`.
    """
    from mlx_lora.config import check_limits

    values = {name: value for name, value in given.items() if value is not None}
    for name, rule in rules(Sampling).items():
        if name in values:
            check_limits(f"--{name.replace('_', '-')}", values[name], rule)
    return values


def _preset(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UserError(
            "bad_option",
            f"--preset {name}",
            "there is no such preset",
            f"choose {', '.join(PRESETS)}",
        )
    return PRESETS[name]


def _default(struct: type[msgspec.Struct], field: str) -> str:
    value = next(f.default for f in msgspec.structs.fields(struct) if f.name == field)
    return "" if value is None or value is msgspec.NODEFAULT else str(value)
