"""What MODEL may name: a folder, `demo`, or a Hugging Face id on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_lora.errors import UserError
from mlx_lora.models.description import check_against_weights, read_description
from mlx_lora.models.model_files import refuse_gguf
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
        refuse_gguf(folder)
        raise _missing(
            source, "this is a file; a model is a folder", "name the folder that holds config.json"
        )
    if _HUB_ID.fullmatch(source):
        return _cached(source)
    raise _missing(source, "there is no such folder", "name a model folder, or demo")


def check_model(name: str) -> tuple[Path, dict[str, Any], dict[str, TensorInfo]]:
    """The folder MODEL names, its description and its tables of contents; no weight is read.

    Raises:
        UserError: `no_such_model`, `no_weights`, `missing_shard`, `damaged_model`, `bad_model`,
        `unsupported_model` for GGUF alone.
    """
    folder = find_model(name)
    refuse_gguf(folder)
    description = read_description(folder)
    tensors = read_headers(weight_files(folder))
    check_against_weights(folder, description, tensors)
    return folder, description, tensors


def model_name(source: str) -> str:
    """What a model is called in adapters and exports: its hub id or folder name, never a path."""
    folder = expanded(source)
    return source if source == "demo" or not folder.exists() else folder.resolve().name


def find_snapshot(source: str) -> tuple[Path, str, str]:
    """(folder, repository, commit) of MODEL, whole or not; the last two "" for a plain folder.

    Raises:
        UserError: `no_such_model`.
    """
    if not _HUB_ID.fullmatch(source) or _is_folder(source):
        return find_model(source), "", ""
    repository = hub_cache() / f"models--{source.replace('/', '--')}"
    commit = _commit(repository)
    snapshot = repository / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        raise _not_here(source)
    return snapshot, source, commit


def _is_folder(source: str) -> bool:
    try:
        return expanded(source).is_dir()
    except OSError:  # a name no file system takes
        return False


def _cached(source: str) -> Path:
    repository = hub_cache() / f"models--{source.replace('/', '--')}"
    snapshot = repository / "snapshots" / (_commit(repository) or "none")
    if (snapshot / "config.json").is_file():
        return snapshot
    refuse_gguf(snapshot)
    raise _not_here(source)


def _commit(repository: Path) -> str:
    """The version of a repository in the cache that is current; "" where there is none."""
    reference = repository / "refs" / "main"
    try:
        return reference.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def hub_cache() -> Path:
    """The Hugging Face cache shared with other tools, where its own settings put it."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"
    )
    return Path(home).expanduser() / "hub"


def _not_here(source: str) -> UserError:
    fix = f"download it with: understudy models download {source} (or train with --download)"
    return _missing(source, "this model is not on this machine", fix)


def _missing(source: str, why: str, fix: str) -> UserError:
    return UserError("no_such_model", source, why, fix)
