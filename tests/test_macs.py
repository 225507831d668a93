"""Verdicts for the suggested models on Macs as people posted them: `mx.device_info()`.

The sizes between them have no dictionary we know of; logs of llama.cpp say the same of an M1 with 8
GB (5726.63 MB) as the dictionary of another chip.
"""

from __future__ import annotations

from typing import Any

import pytest

from app.models.offers import badge, explain, fit_base
from mlx_lora.forecast import base_of, judge_memory
from mlx_lora.machine import gpu_share
from mlx_lora.models.catalog import catalog, find_entry

MACS: dict[str, dict[str, Any]] = {
    "A18 Pro, 8 GB": {
        "device_name": "Apple A18 Pro", "architecture": "applegpu_g17p",
        "memory_size": 8589934592, "max_recommended_working_set_size": 5726633984,
        "max_buffer_length": 4294967296, "resource_limit": 499000,
    },
    "M1, 16 GB": {
        "device_name": "Apple M1", "architecture": "applegpu_g13g",
        "memory_size": 17179869184, "max_recommended_working_set_size": 11453251584,
        "max_buffer_length": 8589934592, "resource_limit": 499000,
    },
    "M3 Pro, 36 GB": {
        "device_name": "Apple M3 Pro", "architecture": "applegpu_g15s",
        "memory_size": 38654705664, "max_recommended_working_set_size": 30150672384,
        "max_buffer_length": 22613000192,
    },
    "M4 Pro, 48 GB": {
        "device_name": "Apple M4 Pro", "architecture": "applegpu_g16s",
        "memory_size": 51539607552, "max_recommended_working_set_size": 40200896512,
        "max_buffer_length": 30150672384, "resource_limit": 499000,
    },
    "M5 Max, 64 GB": {
        "device_name": "Apple M5 Max", "architecture": "applegpu_g17s",
        "memory_size": 68719476736, "max_recommended_working_set_size": 55662788608,
        "max_buffer_length": 41747087360, "resource_limit": 499000,
    },
    "M5 Max, 128 GB": {
        "device_name": "Apple M5 Max", "architecture": "applegpu_g17s",
        "memory_size": 137438953472, "max_recommended_working_set_size": 115448725504,
        "max_buffer_length": 86586540032, "resource_limit": 499000,
    },
    "M3 Ultra, 256 GB": {
        "device_name": "Apple M3 Ultra", "architecture": "applegpu_g15d",
        "memory_size": 274877906944, "max_recommended_working_set_size": 223338299392,
        "max_buffer_length": 167503724544, "resource_limit": 499000,
    },
}  # fmt: skip
# the balanced preset, batch 4, rows of 512 tokens; what is left is "Fits" on all of them
SAID = {
    "Gemma 3 1B": ("Fits, slower", "Fits"),
    "Gemma 3 4B": ("Fits, slower", "Fits, slower", "Fits"),
    "Llama 3.2 1B": ("Fits, slower", "Fits"),
    "Llama 3.2 3B": ("Fits, slower", "Fits, slower", "Fits"),
    "Qwen3 0.6B": ("Fits, slower", "Fits"),
    "Qwen3 1.7B": ("Fits, slower", "Fits"),
    "Qwen3 4B": ("Fits, slower", "Fits, slower", "Fits"),
    "SmolLM2 360M": ("Tight", "Fits"),
    "SmolLM2 1.7B": ("Fits, slower", "Tight", "Fits"),
    "Phi-4-mini": ("Fits, slower", "Fits, slower", "Fits"),
    "GPT-OSS 20B": ("Too large", "Too large", "Fits, slower", "Fits"),
}


@pytest.mark.parametrize("entry", [pytest.param(e, id=e.title) for e in catalog()])
def test_what_is_said_of_the_suggested_models(entry: Any) -> None:
    base = base_of(entry)
    assert base is not None
    found = []
    for mac in MACS.values():
        limit, memory = mac["max_recommended_working_set_size"], mac["memory_size"]
        fit = fit_base(base, "balanced", metal=True, limit=limit, memory=memory)
        found.append(badge(fit)[0].partition(" · ")[0])
    said = SAID.get(entry.title, ())
    assert found == [*said, *["Fits"] * (len(MACS) - len(said))]


def test_the_words_name_what_is_needed_and_what_there_is() -> None:
    base = base_of(find_entry("mlx-community/Llama-3.2-1B-Instruct-4bit"))
    assert base is not None
    limit = MACS["A18 Pro, 8 GB"]["max_recommended_working_set_size"]
    fit = fit_base(base, "balanced", metal=True, limit=limit)
    words = explain(fit, limit)
    assert words.startswith("Fits: there is room to spare. Training with Save Memory on needs")
    assert "of the 5.7 GB" in words
    assert judge_memory(limit + 1, limit) == "large"


@pytest.mark.parametrize("mac", MACS.values(), ids=MACS)
def test_without_the_engine_no_more_is_promised_than_metal_says(mac: dict[str, Any]) -> None:
    """The window does not load MLX: it goes by the size of memory until a probe has asked."""
    share = gpu_share(mac["memory_size"], "0")
    assert 0.89 < share / mac["max_recommended_working_set_size"] <= 1.0001


def test_a_limit_set_by_hand_counts() -> None:
    memory = 16 << 30
    assert gpu_share(memory, "14000") == 14_000 << 20
    assert gpu_share(memory, "99999999") == memory
    assert gpu_share(memory, "") == gpu_share(memory, "0") == memory * 2 // 3
