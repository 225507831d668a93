"""What was read whole is known while it stays the same, and by its name in the hub's cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from mlx_lora.models.proofs import Proofs, wanted_hash


def finish(work: Any) -> tuple[list[int], bool]:
    told = []
    while True:
        try:
            told.append(next(work))
        except StopIteration as end:
            return told, end.value


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    content = os.urandom(5000)
    path = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_a_file_is_read_once(tmp_path: Path, blob: Path) -> None:
    assert finish(Proofs(tmp_path).prove(blob, blob.name)) == ([5000], True)
    assert finish(Proofs(tmp_path).prove(blob, blob.name)) == ([], True)
    Proofs(tmp_path).forget(blob)
    assert finish(Proofs(tmp_path).prove(blob, blob.name)) == ([5000], True)


@pytest.mark.parametrize("change", ["content", "time", "inode"])
def test_a_changed_file_is_read_again(tmp_path: Path, blob: Path, change: str) -> None:
    finish(Proofs(tmp_path).prove(blob, blob.name))
    stat = blob.stat()
    match change:
        case "content":
            flipped = bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:]
            blob.write_bytes(flipped)
        case "time":
            os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        case "inode":
            other = blob.with_name("other")
            other.write_bytes(blob.read_bytes())
            os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            other.replace(blob)
    told, right = finish(Proofs(tmp_path).prove(blob, blob.name))
    assert (told, right) == ([5000], change != "content")


def test_what_is_wrong_is_never_remembered(tmp_path: Path, blob: Path) -> None:
    for _ in range(2):
        assert finish(Proofs(tmp_path).prove(blob, "0" * 64)) == ([5000], False)
    assert Proofs(tmp_path).known(blob) == ""


def test_small_files_have_git_s_hash(tmp_path: Path) -> None:
    """`git hash-object` of a file that holds `hello` and a line feed."""
    path = tmp_path / "file"
    path.write_text("hello\n")
    wanted = "ce013625030ba8dba906f756967f9e9ca394464a"
    assert finish(Proofs(tmp_path).prove(path, wanted))[1]
    assert not finish(Proofs(tmp_path).read(path, wanted[::-1]))[1]


def test_a_name_tells_the_hash_in_the_hub_s_cache_only(tmp_path: Path, blob: Path) -> None:
    link = tmp_path / "snapshots" / "abc" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../../blobs") / blob.name)
    assert wanted_hash(link) == wanted_hash(blob) == blob.name
    plain = tmp_path / blob.name
    plain.write_bytes(b"")
    assert wanted_hash(plain) == ""


def test_notes_of_files_that_are_gone_go(tmp_path: Path, blob: Path) -> None:
    finish(Proofs(tmp_path).prove(blob, blob.name))
    blob.unlink()
    other = tmp_path / "blobs" / "other"
    other.write_bytes(b"x")
    finish(Proofs(tmp_path).prove(other, hashlib.sha256(b"x").hexdigest()))
    assert blob.name not in (tmp_path / "models" / "proofs.json").read_text()


def test_torn_notes_cost_a_reading_and_no_more(tmp_path: Path, blob: Path) -> None:
    finish(Proofs(tmp_path).prove(blob, blob.name))
    (tmp_path / "models" / "proofs.json").write_text('{"a": {"siz')
    assert finish(Proofs(tmp_path).prove(blob, blob.name)) == ([5000], True)
