"""Which linear algebra the CPU backend uses, decided before mlx is imported.

The Linux wheel of mlx is linked with reference BLAS (about 3 GFLOP/s). A system OpenBLAS loaded
first, with its symbols global, takes the calls instead and is 10 to 60 times faster. On a Mac there
is nothing to do: Accelerate and Metal are used. mlx's CPU kernel compiler starts a C++ compiler for
every new shape, which costs seconds and needs one installed, so it stays off on Linux.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_LIBRARY = "libopenblas.so.0"


def prepare() -> str:
    """Put the best BLAS of this machine in place; call before mlx is imported. Returns its name."""
    if sys.platform != "linux":
        return "Accelerate"
    os.environ.setdefault("MLX_DISABLE_COMPILE", "1")
    if "mlx.core" not in sys.modules and os.environ.get("UNDERSTUDY_BLAS") != "reference":
        try:
            ctypes.CDLL(_LIBRARY, ctypes.RTLD_GLOBAL)
        except OSError:
            return "reference"
    return in_use()


def in_use() -> str:
    """The BLAS this process answers with: Accelerate, OpenBLAS or reference."""
    if sys.platform != "linux":
        return "Accelerate"
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return "OpenBLAS" if "libopenblas" in mapped else "reference"


def expected() -> str:
    """The BLAS a worker of this machine will answer with, without loading it here."""
    if sys.platform != "linux":
        return "Accelerate"
    if os.environ.get("UNDERSTUDY_BLAS") == "reference":
        return "reference"
    # here, as it brings much along that a process which loads a model has no use for
    from ctypes.util import find_library

    return "OpenBLAS" if find_library("openblas") else "reference"


def threads() -> int:
    """How many threads the BLAS may use."""
    chosen = os.environ.get("OPENBLAS_NUM_THREADS", "")
    return (
        int(chosen)
        if chosen.isdigit()
        else len(os.sched_getaffinity(0))
        if sys.platform == "linux"
        else 0
    )
