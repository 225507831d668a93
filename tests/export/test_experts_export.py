"""Which formats hold an adapter on a mixture of experts, and what the others say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import pytest
from made import Pair, make_base, make_pair, run_export

from mlx_lora.config import ModelConfig
from mlx_lora.errors import UserError
from mlx_lora.export.formats import FORMATS
from mlx_lora.export.plan import plan_exports
from mlx_lora.lora.folder import weights_file
from mlx_lora.trained import Trained

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_base(tmp_path / "model", "gpt_oss")


def pair(folder: Path, model: Path, *targets: str) -> Pair:
    # small factors: what experts make is steep, and a wild model says nothing of rounding
    return make_pair(folder / "-".join(targets), model, targets=targets, size=0.05)


def refusals(one: Pair) -> dict[str, str]:
    config = ModelConfig(source=str(one.model), bits=one.bits)
    plan = plan_exports(Trained(config, str(one.adapter), None), one.adapter)
    return {form.name: form.refusal for form in plan.formats.values() if form.refusal}


def test_experts_are_held_by_mlx_alone(tmp_path: Path, model: Path) -> None:
    one = pair(tmp_path, model, "all")
    refused = refusals(one)
    assert refused.keys() == FORMATS.keys() - {"mlx"}
    assert "one for each" in refused["peft"]
    for name, why in refused.items():
        quant = (FORMATS[name].quants or ("",))[0]
        with pytest.raises(UserError) as found:
            run_export(one, name, quant, tmp_path / f"out-{name}", verify=False)
        assert found.value.code == "cannot_export"
        if name == "peft":
            assert found.value.why == why
        assert not (tmp_path / f"out-{name}").exists()
    assert "same as in the app" in run_export(one, "mlx", "", tmp_path / "mlx")["words"]
    before, after = (mx.load(str(weights_file(f))) for f in (one.adapter, tmp_path / "mlx"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_attention_alone_is_held_by_peft_too(tmp_path: Path, model: Path) -> None:
    one = pair(tmp_path, model, "attention")
    assert refusals(one).keys() == FORMATS.keys() - {"mlx", "peft"}
    assert "same as in the app" in run_export(one, "peft", "", tmp_path / "out")["words"]


def test_a_router_is_no_linear_of_transformers(tmp_path: Path, model: Path) -> None:
    one = pair(tmp_path, model, "attention", "router")
    assert "router" in refusals(one)["peft"]
    with pytest.raises(UserError, match="router") as found:
        run_export(one, "peft", "", tmp_path / "out")
    assert found.value.code == "cannot_export"


def test_experts_of_another_size_are_no_adapter_of_this_base(tmp_path: Path, model: Path) -> None:
    one = pair(tmp_path, model, "all")
    other = make_base(tmp_path / "other", "gpt_oss", num_local_experts=8)
    with pytest.raises(UserError) as found:
        run_export(Pair(other, one.adapter), "mlx", "", tmp_path / "out")
    assert found.value.code == "bad_adapter"
