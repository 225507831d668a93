"""What this machine has, told without the engine: for words beside models, never for limits."""

from __future__ import annotations

import os
import platform
import sys

import msgspec

from mlx_lora.errors import UserError

# below this, macOS leaves the GPU two thirds of the memory, from there on three quarters or more
_LARGE = 36 * 1024**3
# the oldest macOS there are builds of mlx 0.32 for (macosx_14_0_arm64)
_OLDEST = 14
# what a program built for an older macOS is told in place of the true version
_PRETENDED = "10.16"


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


class System(msgspec.Struct, frozen=True):
    """What decides whether MLX runs at all.

    Attributes:
        platform: `darwin`, `linux`, ...
        processor: as this Python was built for: `arm64`, `x86_64`, ...
        release: of macOS, such as `14.5`; empty elsewhere.
        translated: an Apple silicon Mac runs this Python as if it were an Intel one (Rosetta).
    """

    platform: str
    processor: str
    release: str = ""
    translated: bool = False


def this_system() -> System:
    """The system this runs on."""
    if sys.platform != "darwin":
        return System(sys.platform, platform.machine())
    processor, release = platform.machine(), platform.mac_ver()[0]
    if release.startswith(_PRETENDED):
        release = _sysctl("kern.osproductversion") or release
    translated = processor != "arm64" and _sysctl("sysctl.proc_translated") == "1"
    return System(sys.platform, processor, release, translated)


def check_system(system: System) -> None:
    """MLX runs here: on Macs with Apple silicon and a macOS it is built for, and on Linux.

    Raises:
        UserError: `unsupported_machine`, for a person who starts Understudy.
    """
    if system.platform != "darwin":
        return
    if system.translated:
        why = "this Python is one for Intel Macs, and MLX needs the one for Apple silicon"
        fix = "install Understudy with a Python for Apple silicon (arm64)"
        raise UserError("unsupported_machine", "this Mac", why, fix)
    if system.processor != "arm64":
        why = "it has an Intel processor, and MLX runs on Apple silicon (M1 and later)"
        fix = "use a Mac with Apple silicon, or Linux"
        raise UserError("unsupported_machine", "this Mac", why, fix)
    major = system.release.partition(".")[0]
    if major.isdigit() and int(major) < _OLDEST:
        why = f"it has macOS {system.release}, and MLX needs macOS {_OLDEST} or later"
        fix = "bring macOS up to date: System Settings, General, Software Update"
        raise UserError("unsupported_machine", "this Mac", why, fix)


def this_machine() -> Machine:
    """The machine this runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string") or "Mac"
        metal = platform.machine() == "arm64"
        if not metal:
            return Machine(name, memory, int(memory * 4 / 5), metal)
        return Machine(name, memory, gpu_share(memory, _sysctl("iogpu.wired_limit_mb")), metal)
    return Machine(_linux_processor(), memory, int(memory * 4 / 5), False)


def gpu_share(memory: int, set_by_hand: str = "") -> int:
    """Bytes of `memory` macOS lets the GPU have.

    Never more than `mx.device_info` said on Macs people posted it of. `set_by_hand` is what
    `iogpu.wired_limit_mb` says, 0 where nobody set it.
    """
    if set_by_hand.isdigit() and int(set_by_hand):
        return min(memory, int(set_by_hand) * 1024**2)
    return int(memory * (3 / 4 if memory >= _LARGE else 2 / 3))


def _sysctl(name: str) -> str:
    # here, as a process that loads a model asks for nothing of it
    import subprocess

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
