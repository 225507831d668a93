"""What the process takes, against allocations of known size."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_lora import footprint as module
from mlx_lora.footprint import RusageInfoV4, footprint, peak_footprint

ROOT = Path(__file__).parents[1]
SIZE = 64 << 20
_PROBE = f"""
import json
from mlx_lora.footprint import footprint, peak_footprint
figures = [footprint(), peak_footprint()]
held = bytearray({SIZE})
held[::1024] = b"x" * ({SIZE} // 1024)
figures += [footprint(), peak_footprint()]
del held
figures += [footprint(), peak_footprint()]
print(json.dumps(figures))
"""


def figures() -> list[int]:
    """Now and peak of a fresh process: before, with and after `SIZE` bytes that were touched."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: list[int] = json.loads(done.stdout)
    return found


def follows_an_allocation(found: list[int]) -> None:
    before, peak_before, held, peak_held, after, peak_after = found
    slack = SIZE // 8
    assert 0 < before < SIZE
    assert abs(held - before - SIZE) < slack
    assert after - before < slack
    assert before - slack < peak_before < SIZE
    # the peak is what it was, after all is given back
    assert peak_held >= held - slack
    assert abs(peak_after - peak_held) < slack


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_it_follows_an_allocation_on_linux() -> None:
    held = bytearray(SIZE)
    held[::1024] = b"x" * (SIZE // 1024)
    # a child begins anew, however much its parent holds
    follows_an_allocation(figures())
    assert footprint() > SIZE
    assert peak_footprint() >= footprint() - SIZE // 8
    del held


@pytest.mark.apple
@pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac")
def test_it_follows_an_allocation_on_a_mac() -> None:
    follows_an_allocation(figures())


def test_the_struct_is_that_of_the_header() -> None:
    """Offsets of <sys/resource.h>: v0 ends at 96, v1 at 144, v2 at 160, v3 at 232."""
    assert ctypes.sizeof(RusageInfoV4) == 296
    offsets = {
        "ri_user_time": 16,
        "ri_resident_size": 64,
        "ri_phys_footprint": 72,
        "ri_proc_exit_abstime": 88,
        "ri_child_user_time": 96,
        "ri_diskio_bytesread": 144,
        "ri_cpu_time_qos_default": 160,
        "ri_serviced_system_time": 224,
        "ri_logical_writes": 232,
        "ri_lifetime_max_phys_footprint": 240,
        "ri_interval_max_phys_footprint": 280,
        "ri_runnable_time": 288,
    }
    assert {name: getattr(RusageInfoV4, name).offset for name in offsets} == offsets


@pytest.mark.parametrize("refused", [False, True])
def test_a_macs_kernel_is_asked_for_the_right_fields(
    refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(pid: int, flavor: int, buffer: Any) -> int:
        assert (pid, flavor) == (os.getpid(), 4)
        words = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint64))
        words[9], words[30] = 7_000, 9_000
        return -1 if refused else 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(module, "_proc_pid_rusage", lambda: ask)
    assert (footprint(), peak_footprint()) == ((0, 0) if refused else (7_000, 9_000))


@pytest.mark.parametrize("content", [None, "", "12 x\n"])
def test_where_it_cannot_be_told_it_is_nought(
    content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, *_: object, **__: object) -> str:
        if content is None:
            raise FileNotFoundError(path)
        return content

    monkeypatch.setattr(sys, "platform", "freebsd")
    monkeypatch.setattr(Path, "read_text", read)
    assert footprint() == peak_footprint() == 0
