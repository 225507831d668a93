"""What the demo is made of, for the command line and the window alike. No mlx here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig

PROMPTS = ("HAMLET:\n", "Once upon a time", "The king said")
# what a machine without OpenBLAS manages in the demo's two minutes
_SLOW = {"steps": 20, "eval_every": 10, "sample_every": 10}


def demo_settings(blas: str) -> dict[str, dict[str, Any]]:
    """Differences from the preset `demo`; fewer steps where the BLAS is slow."""
    prompts = {"samples": {"prompts": list(PROMPTS)}}
    return {**prompts, "training": dict(_SLOW)} if blas == "reference" else prompts


def demo_config(blas: str) -> RunConfig:
    """The demo's configuration."""
    from mlx_lora.config import PRESETS, build_config, merge

    bundled = {"model": {"source": "demo"}, "data": {"source": "demo"}}
    return build_config(merge(merge(PRESETS["demo"], demo_settings(blas)), bundled))
