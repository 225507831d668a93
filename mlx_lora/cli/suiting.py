"""`train --suit`: the preset fitted to the model and the data, each change said with its reason."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora import events
from mlx_lora.cli.display import print_notice
from mlx_lora.cli.options import gather
from mlx_lora.cli.rows import fetch
from mlx_lora.data.examples import load_examples
from mlx_lora.data.formats import Document
from mlx_lora.data.source import find_source
from mlx_lora.models.defaults import Change, preset_for
from mlx_lora.models.shelf import look_up

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.config import DataConfig, RunConfig

# bytes of text a token, roughly: what is decided by it has borders far apart
_BYTES = 4


def suited(
    settings: RunConfig,
    preset: str,
    file: dict[str, Any],
    given: dict[str, dict[str, Any]],
    root: Path,
    *,
    as_json: bool,
) -> RunConfig:
    """The configuration with what suits model and data; what was named by a person stays.

    Raises:
        UserError: whatever is wrong with model or data.
    """
    shape = look_up(settings.model.source).shape
    if shape is None:
        return settings
    rows, tokens = measure_rows(settings.data, root)
    named = {f"{group}.{key}" for group, key in _named(file) | _named(given)}
    if settings.training.steps is not None:
        named.add("training.epochs")
    changes = [c for c in preset_for(shape, rows, tokens, preset).changes if c.place not in named]
    for change in changes:
        _say(_words(change), as_json=as_json)
    if not changes:
        _say(f"The preset {preset} suits this model and data as it is.", as_json=as_json)
    tree: dict[str, dict[str, Any]] = {}
    for change in changes:
        group, _, key = change.place.partition(".")
        tree.setdefault(group, {})[key] = change.value
    return gather(preset, file, given, tree)


def measure_rows(data: DataConfig, root: Path) -> tuple[int, int]:
    """(rows, about how many tokens) to learn from; 0 rows for running text, cut as it is needed.

    Raises:
        UserError: `no_such_data`, `bad_data`, `network`.
    """
    fetch(data, root)
    examples = load_examples(find_source(data, root))[0]["train"]
    tokens = sum(len(msgspec.json.encode(one)) for one in examples) // _BYTES
    return 0 if any(isinstance(one, Document) for one in examples) else len(examples), tokens


def _named(tree: dict[str, Any]) -> set[tuple[str, str]]:
    """The places a file or what was typed gives a value for."""
    return {
        (group, key)
        for group, values in tree.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value is not None
    }


def _words(change: Change) -> str:
    option = change.place.rpartition(".")[2].replace("_", "-")
    where = f" ({change.source})" if change.source else ""
    return f"--{option} {change.value:g}: {change.reason}{where}"


def _say(text: str, *, as_json: bool) -> None:
    notice = events.Notice(level="info", code="suited", text=text)
    if as_json:
        sys.stdout.write(events.encode(notice).decode())
        sys.stdout.flush()
    else:
        print_notice(notice)
