"""On what a comparison was made: machine, versions, BLAS. No mlx here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from mlx_lora import __version__, blas
from mlx_lora.machine import this_machine


def describe_machine() -> dict[str, Any]:
    """Chip, memory (bytes), cores, system, backend, BLAS and its threads."""
    machine = this_machine()
    release = platform.mac_ver()[0]
    return {
        "chip": machine.name,
        "memory": machine.memory,
        "cores": cores(),
        "system": f"macOS {release}" if release else platform.platform(terse=True),
        "backend": "Metal" if machine.metal else "CPU",
        "blas": blas.expected(),
        "blas_threads": blas.threads(),
        "load": round(os.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    """Of everything whose speed this is."""
    packages = ("mlx", "mlx-lm", "transformers", "numpy", "tokenizers")
    found = {"understudy": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def cores() -> int:
    """Those this process may use."""
    counts = getattr(os, "sched_getaffinity", None)
    return len(counts(0)) if counts else os.cpu_count() or 1
