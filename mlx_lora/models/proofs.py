"""Which files were read whole and found right, remembered so that each is checked once.

A file counts as the one that was checked while its size, its time of change and its inode are the
same. The hub names a large file of its cache by its SHA-256 and a small one by git's SHA-1, so
what a file should be is told by its name. No mlx here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.storage import expanded, show, storage_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_CHUNK = 8 << 20
_LARGE, _SMALL = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


class Proof(msgspec.Struct, frozen=True):
    """A file as it was when it was read: its stamp, and the hash found."""

    size: int
    changed: int
    inode: int
    digest: str


class Proofs:
    """The files known to be what their hash says; kept in `models/proofs.json` of the data root."""

    def __init__(self, root: Path) -> None:
        self._place = root / "models" / "proofs.json"
        self._known = self._read()

    def known(self, path: Path) -> str:
        """The hash found in this very file before, or "" where it is new or was changed."""
        proof = self._known.get(_key(path))
        try:
            same = proof is not None and proof == _proof(path, proof.digest)
        except OSError:
            return ""
        return proof.digest if proof is not None and same else ""

    def remember(self, path: Path, digest: str) -> None:
        """Note what was found in a file. A note that cannot be written costs a second reading.

        Raises:
            UserError: what the storage refuses.
        """
        # another process may have noted something meanwhile, and files may be gone
        known = {key: proof for key, proof in self._read().items() if _is_there(key)}
        known[_key(path)] = _proof(path, digest)
        self._known = known
        with storage_errors(self._place):
            self._place.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._place, msgspec.json.encode(known, order="sorted") + b"\n")

    def forget(self, path: Path) -> None:
        """Read this file again the next time, though it looks the same."""
        known = self._read()
        if known.pop(_key(path), None) is not None:
            self._known = known
            write_file(self._place, msgspec.json.encode(known, order="sorted") + b"\n")

    def prove(self, path: Path, wanted: str) -> Generator[int, None, bool]:
        """Whether a file is what its hash says; yields bytes read, none where that is known.

        Only what is right is remembered.
        """
        if self.known(path) == wanted:
            return True
        right = yield from self.read(path, wanted)
        if right:
            self.remember(path, wanted)
        return right

    def read(self, path: Path, wanted: str) -> Generator[int, None, bool]:
        """Whether a file is what its hash says, nothing remembered; yields bytes read."""
        return (yield from hashed(path, wanted)) == wanted

    def _read(self) -> dict[str, Proof]:
        try:
            return msgspec.json.decode(self._place.read_bytes(), type=dict[str, Proof])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return {}


def wanted_hash(path: Path) -> str:
    """The hash a file of the hub's cache should have, told by its blob's name; "" elsewhere."""
    # the first link only: a blob may itself lie in a store several caches share
    blob = path.parent / path.readlink() if path.is_symlink() else path
    named = _LARGE.fullmatch(blob.name) or _SMALL.fullmatch(blob.name)
    return blob.name if named and blob.parent.name == "blobs" else ""


def hashed(path: Path, wanted: str) -> Generator[int, None, str]:
    """The hash of a file, of the kind `wanted` is: SHA-256 (64 digits) or git's; yields bytes."""
    hasher = hashlib.sha256()
    if len(wanted) == 40:  # noqa: PLR2004
        hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            done += len(chunk)
            yield done
    return hasher.hexdigest()


def _is_there(key: str) -> bool:
    try:
        return expanded(key).exists()
    except OSError:
        return False


def _key(path: Path) -> str:
    return show(path.resolve())


def _proof(path: Path, digest: str) -> Proof:
    stat = path.stat()
    return Proof(stat.st_size, stat.st_mtime_ns, stat.st_ino, digest)
