"""What a side's process takes, the same way on both sides."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_lora.footprint import peak_footprint


def reset_peak() -> int:
    """Begin a new peak; returns the bytes of the arrays that are held."""
    mx.clear_cache()
    mx.reset_peak_memory()
    return int(mx.get_active_memory())


def memory_figures() -> dict[str, Any]:
    """`peak`: MLX's arrays since `reset_peak`; `resident`: the process's largest ever; bytes."""
    return {"peak": int(mx.get_peak_memory()), "resident": peak_footprint()}
