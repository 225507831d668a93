"""The forms in which a run computes: chosen once, kept in its folder, the same when it goes on.

No mlx here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.storage import new_file, show, storage_errors

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "engine.json"


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of forms. All of them make the same numbers but for the order of sums.

    Attributes:
        base: quantized weights as they are, or held as floats.
        batching: how documents share batches (data/packing.py).
        loss: chunked, or from the logits of all positions.
        recompute: 0 keeps all values for the backward pass, n computes every n-th layer again.
        prefix: hidden states below the first adapted layer are kept over the epochs.
        compiled: each step goes through mx.compile.
        source: how it came about: `table`, `measured`, `remembered` or `begun before`.
    """

    base: Literal["packed", "plain"] = "plain"
    batching: Literal["pack", "buckets", "rows"] = "rows"
    loss: Literal["chunked", "full"] = "full"
    recompute: int = 0
    prefix: bool = False
    compiled: bool = False
    source: str = "table"


def in_short(engine: Engine) -> str:
    """The forms in a few words, for the manifest of a checkpoint."""
    parts: list[str] = [engine.base, engine.batching, engine.loss]
    parts += [f"recompute {engine.recompute}"] if engine.recompute else []
    parts += ["prefix"] if engine.prefix else []
    return ", ".join([*parts, "compiled"] if engine.compiled else parts)


def read_engine(folder: Path) -> Engine | None:
    """The choice a run was begun with; None where it has made none yet.

    Raises:
        UserError: `damaged_run`.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Engine)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        fix = "start a new run, or bring the folder back from a backup"
        raise UserError("damaged_run", show(path), f"it cannot be read ({error})", fix) from error


def write_engine(folder: Path, engine: Engine) -> None:
    """Keep the choice of a run; complete or absent.

    Raises:
        UserError: `disk_full`, `no_permission` or `storage`.
    """
    path = folder / _FILE
    with storage_errors(path), new_file(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(engine)))
