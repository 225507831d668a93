"""What this process really takes of the machine, beside what MLX counts of its own arrays.

MLX's counters leave out its cache of freed buffers, NumPy, Python and the files that are mapped. On
a Mac it is the physical footprint, which Activity Monitor shows as Memory and which holds GPU
buffers; on Linux the resident set.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

# flavor of proc_pid_rusage, <sys/resource.h> of the macOS SDK
_RUSAGE_INFO_V4 = 4
# struct rusage_info_v4 of the same header: uint8_t ri_uuid[16], then uint64_t each
_FIELDS = (
    "user_time", "system_time", "pkg_idle_wkups", "interrupt_wkups", "pageins", "wired_size",
    "resident_size", "phys_footprint", "proc_start_abstime", "proc_exit_abstime",
    "child_user_time", "child_system_time", "child_pkg_idle_wkups", "child_interrupt_wkups",
    "child_pageins", "child_elapsed_abstime", "diskio_bytesread", "diskio_byteswritten",
    "cpu_time_qos_default", "cpu_time_qos_maintenance", "cpu_time_qos_background",
    "cpu_time_qos_utility", "cpu_time_qos_legacy", "cpu_time_qos_user_initiated",
    "cpu_time_qos_user_interactive", "billed_system_time", "serviced_system_time",
    "logical_writes", "lifetime_max_phys_footprint", "instructions", "cycles", "billed_energy",
    "serviced_energy", "interval_max_phys_footprint", "runnable_time",
)  # fmt: skip


class RusageInfoV4(ctypes.Structure):
    """`struct rusage_info_v4`, 296 bytes."""

    _fields_ = (
        ("ri_uuid", ctypes.c_uint8 * 16),
        *((f"ri_{name}", ctypes.c_uint64) for name in _FIELDS),
    )


def footprint() -> int:
    """Bytes this process takes now; 0 where that cannot be told."""
    if sys.platform == "darwin":
        return _usage("ri_phys_footprint")
    try:
        # proc(5): sizes in pages, the second one is the resident set
        return int(Path("/proc/self/statm").read_text().split()[1]) * _page()
    except (OSError, IndexError, ValueError):
        return 0


def peak_footprint() -> int:
    """The most bytes this process ever took; 0 where that cannot be told."""
    if sys.platform == "darwin":
        return _usage("ri_lifetime_max_phys_footprint")
    try:
        # proc(5), in kB. Not getrusage: its peak begins with that of the process that forked this
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    except (OSError, IndexError, ValueError, StopIteration):
        return 0


def _usage(field: str) -> int:
    """A field of what the kernel of a Mac counts of this process."""
    found = RusageInfoV4()
    if _proc_pid_rusage()(os.getpid(), _RUSAGE_INFO_V4, ctypes.byref(found)) != 0:
        return 0
    return int(getattr(found, field))


@cache
def _proc_pid_rusage() -> Any:
    """`int proc_pid_rusage(int pid, int flavor, rusage_info_t *buffer)` of <libproc.h>."""
    function = ctypes.CDLL(None).proc_pid_rusage
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(RusageInfoV4))
    function.restype = ctypes.c_int
    return function


@cache
def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")
