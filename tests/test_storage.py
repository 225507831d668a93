"""Files that are there whole or not at all; refusals of the system in words."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trial

from mlx_lora import storage
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


def fail_at(nth: int, number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, whose n-th call fails as the system would."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    return call


def fill(folder: Path, names: Any) -> None:
    """A new folder with a file a name."""
    with storage.new_folder(folder) as temporary:
        for name in names:
            (temporary / name).write_text(name)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_file_is_the_old_or_the_new_one(
    nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    storage.write_file(path, b"old")
    monkeypatch.setattr(os, "fsync", fail_at(nth, errno.ENOSPC, os.fsync))
    with pytest.raises(UserError) as caught:
        storage.write_file(path, b"new")
    assert caught.value.code == "disk_full"
    assert path.read_bytes() in {b"old", b"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.EACCES, "no_permission"),
        (errno.EROFS, "no_permission"),
        (errno.EIO, "storage"),
    ],
)
def test_a_folder_appears_complete_or_not_at_all(
    nth: int, number: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    monkeypatch.setattr(os, "fsync", fail_at(nth, number, os.fsync))
    with pytest.raises(UserError) as caught:
        fill(folder, "ab")
    assert caught.value.code == code
    assert str(folder) in caught.value.line()
    if code == "disk_full":
        assert "MB free" in caught.value.why
    assert trial.leftovers(tmp_path) == []
    if folder.exists():
        # the last flush is that of the folder around it: all is there by then
        assert nth == 4
        assert sorted(p.name for p in folder.iterdir()) == ["a", "b"]


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        fill(tmp_path / "new", ["a", 1])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError) as caught, storage.new_folder(tmp_path / "there"):
        raise AssertionError
    assert caught.value.code == "exists"


def test_a_failed_write_of_mlx_is_a_full_disk_and_no_other_error_is(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught, storage.storage_errors(tmp_path):
        raise RuntimeError("[write] Unable to write 2807 bytes to file.")
    assert caught.value.code == "disk_full"
    with pytest.raises(RuntimeError), storage.storage_errors(tmp_path):
        raise RuntimeError("[METAL] Command buffer execution failed")


def test_a_place_nobody_may_write_to() -> None:
    with pytest.raises(UserError) as caught, storage.new_folder(Path("/proc/understudy/run")):
        raise AssertionError
    assert caught.value.code in {"no_permission", "storage"}
    assert "/proc/understudy/run" in caught.value.line()


def test_leftovers_of_the_living_are_spared_where_asked(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    names = {f".incomplete-{child.pid}-a", f".incomplete-{os.getpid()}-b", ".incomplete-x-c"}
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "kept").mkdir()
    storage.remove_leftovers(tmp_path, of_the_dead=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == names - {f".incomplete-{child.pid}-a"} | {"kept"}
    storage.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_no_path_shows_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, alias = tmp_path / "canary-user", tmp_path / "alias"
    real.mkdir()
    alias.symlink_to(real)
    for home in (real, alias):
        monkeypatch.setenv("HOME", str(home))
        assert storage.show(real / "x" / "y") == "~/x/y" or home == real
        assert storage.show(home / "x" / "y") == "~/x/y"
        assert storage.hide_home(f"cannot open {home}/x nor {real}/y") == (
            "cannot open ~/x nor ~/y"
        )
    assert storage.show(Path("/usr/share")) == "/usr/share"
    monkeypatch.setenv("HOME", "/")
    assert storage.show(Path("/usr/share")) == "/usr/share"
    assert storage.hide_home("a / b") == "a / b"


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from mlx_lora import storage
from mlx_lora.errors import UserError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
path = Path(sys.argv[1])
try:
    storage.write_file(path, b"n" * 20_000)
except UserError as error:
    print(error.line())
"""


def test_a_real_limit_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"o" * 20_000)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], cwd=trial.ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"error[disk_full] {path}: the disk is full ("), done.stderr
    assert path.read_bytes() == b"o" * 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
