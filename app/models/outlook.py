"""What a configuration asks of this machine: memory, time, disk, and what helps where it is large.

Pure functions of the configuration, the model and the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.batches import Rows, at_length
from mlx_lora.errors import UserError
from mlx_lora.forecast import (
    Base,
    Memory,
    Verdict,
    checkpoint_bytes,
    forecast_memory,
    judge_memory,
)
from mlx_lora.pace import Pace, Speed, forecast_pace

if TYPE_CHECKING:
    from app.models.recipe import Place
    from mlx_lora.config import RunConfig
    from mlx_lora.fit import Try
    from mlx_lora.models.shape import Shape

_SHORTEST = 64


class Fix(msgspec.Struct, frozen=True):
    """One thing that needs less memory: its name, what it changes, what is needed then."""

    name: str
    why: str
    changes: dict[Any, Any]
    need: int


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected.

    Attributes:
        limit: bytes there are.
        pace: None where the data is not known yet.
        disk: bytes the run's checkpoints take.
        fixes: what would help, where it does not fit with ease.
        need: bytes in all: predicted, or what a probe of this very run took.
    """

    memory: Memory
    need: int
    limit: int
    verdict: Verdict
    pace: Pace | None
    speed: Speed
    disk: int
    fixes: tuple[Fix, ...]


class Given(msgspec.Struct, frozen=True):
    """What does not change while a person configures.

    Attributes:
        speed: measured or assumed.
        limit: bytes training may use.
        memory: bytes of physical memory, 0 where they are not known.
    """

    base: Base
    rows: Rows | None
    speed: Speed
    metal: bool
    limit: int
    memory: int = 0


def look_ahead(config: RunConfig, given: Given, tried: Try | None = None) -> Outlook:
    """What a configuration asks for; `tried` is what a probe of it took, which is believed first.

    Raises:
        UserError: `bad_option` for more layers than the model has, and for keeping what frozen
        layers make where none is frozen.
    """
    memory = _memory(config, given)
    if config.engine.prefix_cache == "on" and not frozen_layers(config, given.base.shape):
        fix = "every layer is adapted: set Last Layers, or leave this at Automatic"
        raise UserError("bad_option", "engine.prefix_cache", "every layer is adapted", fix)
    rows = at_length(given.rows, _length(config, given.base)) if given.rows else None
    need = tried.need if tried is not None and tried.need else memory.total
    dead = tried is not None and not tried.need
    verdict = "large" if dead else judge_memory(need, given.limit)
    speed = given.speed
    if tried is not None and tried.report.get("operations"):
        speed = Speed(tried.report["operations"], "probed")
    pace = None
    if rows:
        pace = forecast_pace(config, given.base.shape, rows, speed, metal=given.metal)
    fixes = () if verdict == "fits" else tuple(_fixes(config, given, memory.total))
    return Outlook(
        memory=_settled(memory, tried), need=need, limit=given.limit, verdict=verdict,
        pace=pace, speed=speed, disk=checkpoint_bytes(config, given.base.shape), fixes=fixes,
    )  # fmt: skip


def _settled(memory: Memory, tried: Try | None) -> Memory:
    """The parts as a probe leaves them: what is counted stays, what was an estimate is the rest."""
    report = tried.report if tried is not None else {}
    if "peak" not in report:
        return memory
    counted = memory.engine - memory.activations
    return msgspec.structs.replace(
        memory,
        activations=max(0, report["peak"] - counted),
        runtime=max(0, report["runtime"] - report["kept"]),
        cache=report["kept"],
    )


def frozen_layers(config: RunConfig, shape: Shape) -> int:
    """Layers below the first adapted one."""
    layers = config.adapter.layers
    return 0 if layers == "all" else max(0, shape.layers - layers)


def _memory(config: RunConfig, given: Given) -> Memory:
    rows = at_length(given.rows, _length(config, given.base)) if given.rows else None
    return forecast_memory(config, given.base, metal=given.metal, rows=rows, memory=given.memory)


def _length(config: RunConfig, base: Base) -> int:
    return min(config.data.max_length, base.shape.context or config.data.max_length)


def _fixes(config: RunConfig, given: Given, need: int) -> list[Fix]:
    """Those that help, the one that costs least first."""
    training, length = config.training, _length(config, given.base)
    rows = training.batch_size * training.grad_accumulation
    ways: list[tuple[str, str, dict[Place, Any]]] = [
        ("Computed Automatically", "Learns the same in the ways that suit this machine.",
         {("engine", name): "auto" for name in config.engine.__struct_fields__}),
        ("Save Memory", "Learns the same; about a third slower.",
         {("training", "grad_checkpoint"): True, ("training", "checkpoint_every"): 1}),
        ("Batch 1", f"About a row at a time, {rows} a step as before; learns the same.",
         {("training", "batch_size"): 1, ("training", "grad_accumulation"): rows}),
        ("4-bit Base", "Holds the base in a quarter of the room; a little less exact.",
         {("model", "bits"): "4"}),
        ("Packed Weights", "Keeps the base quantized; learns the same, slower without a GPU.",
         {("engine", "base"): "packed"}),
        ("Shorter Rows", f"Rows are cut at {max(_SHORTEST, length // 2):,} tokens.",
         {("data", "max_length"): max(_SHORTEST, length // 2)}),
    ]  # fmt: skip
    found = []
    for name, why, changes in ways:
        if name == "4-bit Base" and given.base.bits < 16:  # noqa: PLR2004
            continue
        then = _memory(_changed(config, changes), given).total
        if then < need:
            found.append(Fix(name, why, changes, then))
    return found


def _changed(config: RunConfig, changes: dict[Place, Any]) -> RunConfig:
    for (group, name), value in changes.items():
        part = msgspec.structs.replace(getattr(config, group), **{name: value})
        config = msgspec.structs.replace(config, **{group: part})
    return config
