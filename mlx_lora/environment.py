"""What a run was made with; a resumed run is bit-equal only where all of this is equal."""

from __future__ import annotations

import importlib.metadata
import platform

import mlx.core as mx

from mlx_lora import __version__, blas


def describe(form: str) -> dict[str, str]:
    """Versions, machine, device, BLAS and threads; `form` is how the base's weights are held."""
    return {
        "understudy": __version__,
        "mlx": importlib.metadata.version("mlx"),
        "mlx-lm": importlib.metadata.version("mlx-lm"),
        "numpy": importlib.metadata.version("numpy"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(mx.default_device().type).removeprefix("DeviceType."),
        "blas": blas.in_use(),
        "blas_threads": str(blas.threads()),
        "form": form,
    }


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What changed, in words, e.g. `blas OpenBLAS -> reference`."""
    names = sorted(before.keys() | now.keys())
    return [
        f"{n} {before.get(n, '?')} -> {now.get(n, '?')}"
        for n in names
        if before.get(n) != now.get(n)
    ]
