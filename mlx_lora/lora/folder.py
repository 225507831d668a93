"""The files of an adapter folder, as mlx-lm names them. No mlx here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_lora import checkpoints
from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
# where our own facts are in the metadata of the tensors
FACTS_KEY = "understudy"


def weights_file(folder: Path) -> Path:
    """The tensors of an adapter folder, or of a checkpoint, which keeps them under another name.

    Raises:
        UserError: `bad_adapter`.
    """
    for name in (WEIGHTS, checkpoints.WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise bad_adapter(folder, f"it holds no {WEIGHTS}", "name an adapter folder or a finished run")


def bad_adapter(path: Path, why: str, fix: str) -> UserError:
    """It cannot be used."""
    return UserError("bad_adapter", show(path), why, fix)
