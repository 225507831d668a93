"""Files that are there whole or not at all, on any crash: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = ".incomplete-"


def sync(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes) -> None:
    """Put a file in place in one go.

    Raises:
        UserError: `disk_full`, `no_permission` or `storage`.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with storage_errors(path):
        try:
            temporary.write_bytes(content)
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it appears as `path` when the block ends without an error, complete.

    Raises:
        UserError: `exists` when `path` is there, else as `write_file`.
    """
    if path.exists():
        raise UserError("exists", show(path), "it is already there", "choose another name")
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with storage_errors(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            temporary.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder so that it is never seen half-deleted."""
    doomed = folder.with_name(f"{TEMPORARY}{os.getpid()}-{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(path: Path) -> str:
    """A path as a person may see it and pass it on: below the home folder it begins with `~`."""
    try:
        return f"~/{path.absolute().relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into words."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error
    except RuntimeError as error:
        # mlx reports a failed write as a bare RuntimeError
        if "write" not in str(error).lower():
            raise
        raise _explain(OSError(errno.ENOSPC, str(error)), path) from error


def _explain(error: OSError, path: Path) -> UserError:
    where = show(path)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        free = _free_bytes(path)
        why = f"the disk is full ({free / 1e6:,.0f} MB free)"
        return UserError("disk_full", where, why, "free some space, then resume")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        fix = "choose a folder you may write to"
        return UserError("no_permission", where, "this folder may not be written to", fix)
    return UserError(
        "storage", where, error.strerror or str(error), "check the disk, then try again"
    )


def _free_bytes(path: Path) -> int:
    parent = next((p for p in (path, *path.parents) if p.is_dir()), None)
    return shutil.disk_usage(parent).free if parent else 0
