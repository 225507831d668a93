"""What this machine has, told without the engine: for words beside models, never for limits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import msgspec

# below this, macOS leaves the GPU two thirds of the memory, above it three quarters
_LARGE = 36 * 1024**3


class Machine(msgspec.Struct, frozen=True):
    """A machine.

    Attributes:
        name: of the processor, as its maker writes it.
        memory: bytes of physical memory.
        usable: bytes training may use: what macOS lets the GPU have, else four fifths of memory.
        metal: whether MLX can use a GPU here.
    """

    name: str
    memory: int
    usable: int
    metal: bool


def this_machine() -> Machine:
    """The machine this runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string") or "Mac"
        metal = platform.machine() == "arm64"
        share = (3 / 4 if memory > _LARGE else 2 / 3) if metal else 4 / 5
        return Machine(name, memory, int(memory * share), metal)
    return Machine(_linux_processor(), memory, int(memory * 4 / 5), False)


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _linux_processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0].partition(":")[2].strip() if lines else platform.machine()
