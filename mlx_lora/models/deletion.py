"""Models deleted so that the disk is free, and only what is no run's base. No mlx here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.models.library import hub_cache
from mlx_lora.runs import Run
from mlx_lora.storage import remove_folder, show, storage_errors

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.models.holdings import Holding
    from mlx_lora.runs import RunStore

# what folders of models hold; anything else is somebody's own
_KNOWN = {
    ".safetensors", ".json", ".jsonl", ".model", ".txt", ".md", ".jinja", ".bin", ".pt", ".pth",
    ".gguf", ".py", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".msgpack", ".h5", ".onnx",
    ".tiktoken",
}  # fmt: skip
_NAMED = {".gitattributes", ".gitignore", ".DS_Store", "LICENSE", "NOTICE", "README"}
_SHOWN = 3


def check_unused(model: Holding, store: RunStore) -> None:
    """No run needs this model.

    Raises:
        UserError: `in_use` with the names of the runs that need it.
    """
    if not model.runs:
        return
    shown = ", ".join(model.runs[:_SHOWN])
    more = len(model.runs) - _SHOWN
    names = f"{shown} and {more} more" if more > 0 else shown
    need = "1 run needs it" if len(model.runs) == 1 else f"{len(model.runs)} runs need it"
    why = f"{need} to go on, to answer or to be exported: {names}"
    fix = "keep it, or delete it all the same with --even-if-used"
    _check_idle(model, store)
    raise UserError("in_use", model.source, why, fix)


def delete_model(
    model: Holding, store: RunStore, *, even_if_used: bool = False, version: str = ""
) -> int:
    """Delete a model, or one version of it in the cache; returns the bytes that became free.

    In the cache it is the hub's own strategy that deletes: files another version shares stay.

    Raises:
        UserError: `in_use` unless `even_if_used`, `busy` while a run works with it, `bad_option`
            for a version that is not there or a folder that holds other things too,
            `no_permission`.
    """
    if even_if_used:
        _check_idle(model, store)
    else:
        check_unused(model, store)
    if model.kind == "hub":
        return _delete_cached(model, version)
    if version:
        why = "only models of the Hugging Face cache have versions"
        raise UserError("bad_option", f"--version {version}", why, "leave it out")
    _check_contents(model.folder)
    with storage_errors(model.folder):
        remove_folder(model.folder)
    return model.size


def _check_idle(model: Holding, store: RunStore) -> None:
    """No run works with it at this moment."""
    for name in model.runs:
        if Run(store.runs / name).is_locked():
            fix = "wait until it is done, or stop it"
            raise UserError("busy", model.source, f"the run {name} is working with it", fix)


def _check_contents(folder: Path) -> None:
    """A folder of a model holds nothing else."""
    if folder.is_symlink():
        why, fix = "this is a link to a folder", "delete the folder it leads to"
        raise UserError("bad_option", show(folder), why, fix)
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts[:-1])
        if path.is_dir() or hidden or path.suffix.lower() in _KNOWN or path.name in _NAMED:
            continue
        why = f"it holds more than a model ({path.relative_to(folder)})"
        raise UserError("bad_option", show(folder), why, "delete this folder yourself")


def _delete_cached(model: Holding, version: str) -> int:
    """Through the hub's strategy; a repository it cannot read goes as a whole."""
    if version and version not in model.versions:
        known = ", ".join(model.versions) or "none"
        why = "there is no such version of it here"
        raise UserError("bad_option", f"--version {version}", why, f"those here are: {known}")
    import huggingface_hub

    everything = huggingface_hub.scan_cache_dir(hub_cache())
    own = frozenset(one for one in everything.repos if one.repo_path == model.folder)
    chosen = (version,) if version else model.versions
    if own and chosen and (version or not model.unfinished):
        # of this repository alone: one that was renamed has the same commits under either name
        strategy = dataclasses.replace(everything, repos=own).delete_revisions(*chosen)
        strategy.execute()
        gone, freed = [*strategy.repos, *strategy.snapshots], strategy.expected_freed_size
    elif version:
        why, fix = "the cache of this model is damaged", "delete all of it: leave --version out"
        raise UserError("bad_option", f"--version {version}", why, fix)
    else:
        with storage_errors(model.folder):
            remove_folder(model.folder)
        gone, freed = [model.folder], model.size
    if left := next((path for path in gone if path.exists()), None):
        fix = "choose a model you may delete"
        raise UserError("no_permission", show(left), "it may not be deleted", fix)
    return freed
