"""What only Metal can show. Run on a Mac: `pytest -m apple`; unmeasured until someone does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mlx.core as mx
import pytest

from mlx_lora.config import AdapterConfig
from mlx_lora.lora.attach import attach, choose_shape
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

pytestmark = [
    pytest.mark.apple,
    pytest.mark.skipif(not mx.metal.is_available(), reason="needs Metal"),
]


@pytest.mark.parametrize("bits", ["keep", "4", "8"])
def test_the_first_step_is_the_base_on_metal(bits: str) -> None:
    base = load_model("demo", bits)
    if bits != "keep":
        assert base.form == f"{bits}-bit"  # packed on Metal, where the quantized kernels are fast
    ids = mx.array([base.tokenizer.encode_document("Once upon a time there was a king")])
    before = base.module(ids)
    mx.eval(before)
    adapter = attach(base.module, choose_shape(base.module, AdapterConfig())[0])
    for module in adapter.modules.values():
        module.initialize(0)
    assert mx.array_equal(base.module(ids), before).item()


def test_the_demo_learns_on_metal(
    understudy: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    options = ("--steps", "40", "--learning-rate", "4e-3", "--max-length", "128", "--bits", "4")
    done = understudy("train", "--model", "demo", "--data", "demo", "--json", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert result["adapted"]["loss"] < 0.9 * result["base"]["loss"]
