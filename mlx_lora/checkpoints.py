"""Complete-or-absent checkpoint folders.

A checkpoint is a folder `step-000200` that appears by one rename, with every file hashed in
`manifest.json`. Which is latest and which is best is found by scanning; nothing is ever rewritten
in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.storage import (
    Piece,
    digest,
    new_folder,
    remove_folder,
    remove_leftovers,
    show,
    storage_errors,
    write_pieces,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS, OPTIMIZER = "trainable.safetensors", "optimizer.safetensors"
_MANIFEST = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds: file hashes, and the state that is not a tensor."""

    step: int
    files: dict[str, str]
    state: dict[str, Any]
    environment: dict[str, str]
    base_fingerprint: str
    validation_loss: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in memory: what its folder will hold, whatever the run does meanwhile.

    Attributes:
        files: name -> its content in pieces, which never change.
        state, environment, base_fingerprint, validation_loss: as the manifest has them.
    """

    step: int
    files: dict[str, Sequence[Piece]]
    state: dict[str, Any]
    environment: dict[str, str]
    base_fingerprint: str
    validation_loss: float | None = None


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint that is on disk."""

    folder: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """A file of this checkpoint, its content checked against the manifest.

        Raises:
            UserError: `damaged_checkpoint`.
        """
        path = self.folder / name
        with storage_errors(path):
            intact = path.is_file() and digest(path) == self.manifest.files.get(name)
        if not intact:
            where, fix = show(path), f"delete {self.folder.name} and resume from the one before it"
            raise UserError("damaged_checkpoint", where, "it is not the file that was saved", fix)
        return path


def save_checkpoint(
    folder: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    state: dict[str, Any],
    environment: dict[str, str],
    base_fingerprint: str,
    validation_loss: float | None,
) -> Checkpoint:
    """Fill `folder/step-NNNNNN` through `write`, hash it and make it appear.

    A checkpoint of the same step that is already there is kept: a run that is resumed makes the
    same one again.

    Raises:
        UserError: `disk_full`, `no_permission` or `storage`.
    """
    final = folder / f"step-{step:06d}"
    if (final / _MANIFEST).is_file():
        return Checkpoint(final, _read(final))
    if final.is_dir():
        remove_folder(final)
    with new_folder(final) as temporary:
        write(temporary)
        manifest = Manifest(
            step=step,
            files={path.name: digest(path) for path in sorted(temporary.iterdir())},
            state=state,
            environment=environment,
            base_fingerprint=base_fingerprint,
            validation_loss=validation_loss,
        )
        encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        (temporary / _MANIFEST).write_bytes(encoded + b"\n")
    return Checkpoint(final, manifest)


def save_snapshot(folder: Path, snapshot: Snapshot) -> Checkpoint:
    """Make `folder/step-NNNNNN` appear with what a snapshot holds; touches files only, not MLX.

    Raises:
        UserError: as `save_checkpoint`.
    """

    def write(temporary: Path) -> None:
        for name, pieces in snapshot.files.items():
            write_pieces(temporary / name, pieces)

    return save_checkpoint(
        folder,
        snapshot.step,
        write,
        state=snapshot.state,
        environment=snapshot.environment,
        base_fingerprint=snapshot.base_fingerprint,
        validation_loss=snapshot.validation_loss,
    )


def scan(folder: Path) -> list[Checkpoint]:
    """Every complete checkpoint of a run, oldest first."""
    found = [p for p in folder.glob("step-*") if (p / _MANIFEST).is_file()]
    return sorted((Checkpoint(p, _read(p)) for p in found), key=lambda c: c.manifest.step)


def drop_damaged(folder: Path) -> list[UserError]:
    """Delete the checkpoints that are not what was saved; returns what was wrong with each.

    Raises:
        UserError: `damaged_checkpoint` when none is whole; then nothing is deleted.
    """
    damaged: dict[Path, UserError] = {}
    found = sorted(p for p in folder.glob("step-*") if (p / _MANIFEST).is_file())
    for path in found:
        try:
            checkpoint = Checkpoint(path, _read(path))
            for name in checkpoint.manifest.files:
                checkpoint.file(name)
        except UserError as error:
            if error.code != "damaged_checkpoint":
                raise
            damaged[path] = error
    if damaged and len(damaged) == len(found):
        raise damaged[found[-1]]
    for path in damaged:
        remove_folder(path)
    return list(damaged.values())


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """The one of lowest validation loss; the last where none was validated."""
    judged = [c for c in checkpoints if c.manifest.validation_loss is not None]
    if not judged:
        return checkpoints[-1] if checkpoints else None
    return min(judged, key=lambda c: (c.manifest.validation_loss, c.manifest.step))


def prune(folder: Path, keep: int) -> None:
    """Remove leftovers of a crash and all but the last `keep` and the best checkpoint."""
    remove_leftovers(folder)
    checkpoints = scan(folder)
    winner = best(checkpoints)
    for checkpoint in checkpoints[:-keep]:
        if checkpoint is not winner:
            remove_folder(checkpoint.folder)


def _read(folder: Path) -> Manifest:
    path = folder / _MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, OSError) as error:
        fix = "delete this checkpoint folder and resume from the one before it"
        raise UserError("damaged_checkpoint", show(path), "it cannot be read", fix) from error
