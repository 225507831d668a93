"""Files that are there whole or not at all, on any crash: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

# a part of a file's content, in memory
Piece = bytes | memoryview

TEMPORARY = ".incomplete-"
# marks what a new folder is about to take the place of
_BEFORE = "before-"
_MARGIN = 1.05


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


def write_pieces(path: Path, pieces: Iterable[Piece]) -> None:
    """Fill a file of a folder that nobody sees yet, one piece after the other."""
    with path.open("wb") as file:
        file.writelines(pieces)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill; it appears as `path` when the block ends without an error, complete.

    Raises:
        UserError: as `write_file`.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill; it appears as `path` when the block ends without an error, complete.

    With `overwrite` it takes the place of what is there, at the end and in one go: should the
    process be killed between the two renames that are needed, `remove_leftovers` puts it back.

    Raises:
        UserError: `exists` when `path` is there, else as `write_file`.
    """
    if not overwrite and (path.exists() or path.is_symlink()):
        raise UserError("exists", show(path), "it is already there", "choose another name")
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with storage_errors(path):
        _discard(temporary)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            with _set_aside(path, wanted=overwrite):
                temporary.rename(path)
            sync(path.parent)
        finally:
            _discard(temporary)


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` for what is only needed while that is made; gone with the block.

    Raises:
        UserError: as `write_file`.
    """
    folder = out.with_name(f"{TEMPORARY}{os.getpid()}-scratch")
    with storage_errors(out):
        folder.mkdir()
    try:
        yield folder
    finally:
        _discard(folder)


@contextmanager
def _set_aside(path: Path, *, wanted: bool) -> Iterator[None]:
    """Keep the folder `path` under another name until the block is done; back, if that fails."""
    if not wanted or not path.exists():
        yield
        return
    aside = path.with_name(f"{TEMPORARY}{os.getpid()}-{_BEFORE}{path.name}")
    path.rename(aside)
    try:
        yield
    except OSError:
        aside.rename(path)
        raise
    _discard(aside)


def remove_leftovers(folder: Path, *, of_the_dead: bool = False) -> None:
    """Delete what a killed process left half-written in `folder`; put back what it had set aside.

    Where others may be writing at the same time, `of_the_dead` spares what a living process made.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        pid, _, rest = leftover.name.removeprefix(TEMPORARY).partition("-")
        if of_the_dead and _is_alive(pid):
            continue
        place = folder / rest.removeprefix(_BEFORE)
        if rest.startswith(_BEFORE) and not place.exists():
            leftover.rename(place)
        elif leftover.is_dir():
            _discard(leftover)
        else:
            leftover.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder so that it is never seen half-deleted.

    Raises:
        UserError: `no_permission` or `storage`.
    """
    doomed = folder.with_name(f"{TEMPORARY}{os.getpid()}-old-{folder.name}")
    with storage_errors(folder):
        folder.rename(doomed)
    _discard(doomed)


def _discard(folder: Path) -> None:
    """Delete a folder and what is in it, as far as that goes."""
    # here, as it brings decompressors along, and a process that loads a model deletes nothing
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: str) -> bool:
    """Dead, and not buried: in a container often nobody does that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(path: Path) -> str:
    """A path as a person may see it and pass it on: below the home folder it begins with `~`."""
    for home in _homes():
        if path.absolute().is_relative_to(home):
            return f"~/{path.absolute().relative_to(home)}"
    return str(path)


def hide_home(text: str) -> str:
    """Words that name no home folder, whoever wrote them."""
    for home in _homes():
        text = text.replace(str(home), "~")
    return text


def _homes() -> list[Path]:
    """The home folder, as it is called and as it really is; none where it is the root."""
    try:
        home = Path.home()
        homes = {home, home.resolve()}
    except (OSError, RuntimeError):
        return []
    return sorted((h for h in homes if h != h.parent), key=lambda h: len(str(h)), reverse=True)


def expanded(path: str | Path) -> Path:
    """A path with `~` replaced; as it stands where that is nobody's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into words."""
    try:
        yield
    except OSError as error:
        # NumPy says only how much of a file it could not write
        if error.errno is None and "requested and" in str(error):
            error = OSError(errno.ENOSPC, str(error))
        raise explain(error, path) from error
    except RuntimeError as error:
        # mlx reports a failed write as a bare RuntimeError
        if "write" not in str(error).lower():
            raise
        raise explain(OSError(errno.ENOSPC, str(error)), path) from error


def explain(error: OSError, path: Path) -> UserError:
    """The operating system's refusal in words."""
    where = show(path)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        free = _free_bytes(path)
        why = f"the disk is full ({free / 1e6:,.0f} MB free)"
        return UserError("disk_full", where, why, "free some space, then resume")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        fix = "choose a folder you may write to"
        return UserError("no_permission", where, "this folder may not be written to", fix)
    long = error.errno == errno.ENAMETOOLONG
    fix = "choose a shorter name" if long else "check the disk, then try again"
    return UserError("storage", where, error.strerror or str(error), fix)


def check_space(path: Path, nbytes: int) -> None:
    """The disk of `path` has room for so many bytes, and a twentieth more.

    Raises:
        UserError: `disk_full`, with what is needed and what is there.
    """
    with storage_errors(path):
        free = _free_bytes(path)
    if free < nbytes * _MARGIN:
        why = f"it needs {nbytes / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
        raise UserError("disk_full", show(path), why, "free some space, or choose another disk")


def _free_bytes(path: Path) -> int:
    parent = next((p for p in (path, *path.parents) if p.is_dir()), None)
    if parent is None:
        return 0
    # here for the same reason as in `_discard`
    import shutil

    return shutil.disk_usage(parent).free
