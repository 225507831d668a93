"""What MODEL may name: a folder, `demo`, or a Hugging Face id on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_lora.errors import UserError
from mlx_lora.models.description import check_against_weights, read_description
from mlx_lora.models.tensors import read_headers, weight_files
from mlx_lora.storage import expanded

if TYPE_CHECKING:
    from mlx_lora.models.tensors import TensorInfo

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def assets() -> Path:
    """The bundled files: inside an installed package, else at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_assets"
    return installed if installed.is_dir() else package.parent / "assets"


def find_model(source: str) -> Path:
    """The folder of a model.

    Raises:
        UserError: `no_such_model`.
    """
    if source == "demo":
        return assets() / "demo" / "model"
    folder = expanded(source)
    try:
        is_folder, is_there = folder.is_dir(), folder.exists()
    except OSError:  # a name no file system takes
        is_folder = is_there = False
    if is_folder:
        return folder
    if is_there:
        raise _missing(
            source, "this is a file; a model is a folder", "name the folder that holds config.json"
        )
    if _HUB_ID.fullmatch(source):
        return _cached(source)
    raise _missing(source, "there is no such folder", "name a model folder, or demo")


def check_model(name: str) -> tuple[Path, dict[str, Any], dict[str, TensorInfo]]:
    """The folder MODEL names, its description and its tables of contents; no weight is read.

    Raises:
        UserError: `no_such_model`, `no_weights`, `missing_shard`, `damaged_model`, `bad_model`.
    """
    folder = find_model(name)
    description = read_description(folder)
    tensors = read_headers(weight_files(folder))
    check_against_weights(folder, description, tensors)
    return folder, description, tensors


def model_name(source: str) -> str:
    """What a model is called in adapters and exports: its hub id or folder name, never a path."""
    folder = expanded(source)
    return source if source == "demo" or not folder.exists() else folder.resolve().name


def _cached(source: str) -> Path:
    repository = hub_cache() / f"models--{source.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if reference.is_file():
        snapshot = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
        if (snapshot / "config.json").is_file():
            return snapshot
    fix = "download it with huggingface-cli first, or name a local folder"
    raise _missing(source, "this model is not on this machine", fix)


def hub_cache() -> Path:
    """The Hugging Face cache shared with other tools, where its own settings put it."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"
    )
    return Path(home).expanduser() / "hub"


def _missing(source: str, why: str, fix: str) -> UserError:
    return UserError("no_such_model", source, why, fix)
