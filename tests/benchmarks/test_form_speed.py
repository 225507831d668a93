"""Which form of a base is faster, as the engine times it: a comparison of speeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import pytest
from models_made import make_model

from mlx_lora import blas
from mlx_lora.models.forms import measure_forms
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(mx.default_device() != mx.cpu, reason="the CPU's rule"),
]


def test_the_faster_form_is_found(tmp_path: Path) -> None:
    if blas.in_use() != "OpenBLAS":
        pytest.skip("the reference BLAS is as slow as quantized products")
    folder = make_model(tmp_path / "m", hidden_size=256, intermediate_size=512, head_dim=64)
    model = load_model(str(folder), "4", "packed").module
    found = measure_forms(model, 64)
    assert found.speedup is not None
    print(f"held plain {found.speedup:.1f} times faster")  # noqa: T201
    # 20 and more on an idle machine
    assert found.speedup > 2
    assert found.choose("packed") == found.choose("plain") == "plain"
    # eight times the tokens, counted up from as few as can be timed
    again = measure_forms(model, 512)
    assert again.packed_seconds is not None
    assert found.packed_seconds is not None
    assert 3 < again.packed_seconds / found.packed_seconds < 24
