"""What exports are said to weigh before they are made, against what they weigh."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gguf
import mlx.core as mx
import pytest
from made import DEMO, Pair, make_base, make_pair, pack, run_export

from mlx_lora.config import ModelConfig
from mlx_lora.errors import UserError
from mlx_lora.export import kinds
from mlx_lora.export.formats import FORMATS
from mlx_lora.export.gguf_model import ARCHITECTURES
from mlx_lora.export.layout import Layout
from mlx_lora.export.limits import FAMILIES
from mlx_lora.export.plan import ExportPlan, plan_exports, recommend
from mlx_lora.export.source import Source
from mlx_lora.lora.folder import weights_file
from mlx_lora.trained import Trained

if TYPE_CHECKING:
    from pathlib import Path

_SLOW = {"auto", "6", "4"}
_ALL = [
    (form.name, quant)
    for form in FORMATS.values()
    for quant in form.quants or ("",)
    if quant not in _SLOW
]


def plan_of(pair: Pair) -> ExportPlan:
    config = ModelConfig(source=str(pair.model), bits=pair.bits)
    return plan_exports(Trained(config, str(pair.adapter), None), pair.adapter)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An adapter on the bundled model, packed as the demo packs it."""
    return make_pair(tmp_path_factory.mktemp("plan") / "adapter", DEMO, "4")


@pytest.fixture(scope="session")
def said(demo: Pair) -> ExportPlan:
    return plan_of(demo)


@pytest.mark.parametrize(("form", "quant"), _ALL)
def test_as_heavy_as_it_was_said(
    form: str, quant: str, demo: Pair, said: ExportPlan, tmp_path: Path
) -> None:
    report = run_export(demo, form, quant, tmp_path / "out", verify=False)
    real = sum(report["files"].values())
    assert said.formats[form].choice(quant).nbytes == pytest.approx(real, rel=0.02)


def test_what_is_chosen_by_measuring_is_between(said: ExportPlan) -> None:
    fused = said.formats["mlx-fused"]
    auto = fused.choice("auto")
    assert auto.least == fused.choice("4").nbytes
    assert auto.nbytes == fused.choice("16").nbytes
    assert fused.choice("6").nbytes < fused.choice("8").nbytes


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        pytest.param("gemma3_text", {"num_hidden_layers": 6}, marks=pytest.mark.slow),
        ("llama", {"hidden_size": 256, "intermediate_size": 512, "tied": False}),
        pytest.param("phi3", {"tied": False}, marks=pytest.mark.slow),
        pytest.param("qwen3", {}, marks=pytest.mark.slow),
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_any_family_however_it_is_held(
    family: str, changes: dict[str, object], packed: bool, tmp_path: Path
) -> None:
    model = make_base(tmp_path / "model", family, **changes)
    pair = make_pair(tmp_path / "adapter", pack(model) if packed else model)
    plan = plan_of(pair)
    for form, quant in (("gguf", "q4_k_m"), ("hf", "16"), ("mlx-fused", "8"), ("mlx-fused", "4")):
        report = run_export(pair, form, quant, tmp_path / f"{form}-{quant}", verify=False)
        real = sum(report["files"].values())
        assert plan.formats[form].choice(quant).nbytes == pytest.approx(real, rel=0.02)


def test_no_weight_is_read_for_it(demo: Pair, said: ExportPlan) -> None:
    assert said.parameters == Source(str(demo.model), demo.bits, None).count()
    assert said.step == 1
    base, source = Layout(str(demo.model), demo.bits), Source(str(demo.model), demo.bits, None)
    assert base.names() == source.names()
    assert all(base.extent(name) == source.extent(name) for name in base.names())
    assert base.tied == source.tied
    assert base.half_type() == source.half_type()


def test_blocks_are_those_of_ggml() -> None:
    for name, block in kinds.BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == block
    assert ARCHITECTURES.keys() == FAMILIES


def test_coarser_numbers_for_larger_models() -> None:
    assert recommend("gguf", 49_999_999)[0] == recommend("ollama", 1)[0] == "f16"
    assert recommend("gguf", 50_000_000)[0] == recommend("gguf", 999_999_999)[0] == "q8_0"
    assert recommend("gguf", 1_000_000_000)[0] == "q4_k_m"
    assert recommend("ollama", 4_000_000_000)[0] == "q4_k_m"
    assert recommend("mlx", 1_000)[0] == ""
    for form in FORMATS.values():
        for parameters in (1_000_000, 7_000_000_000):
            assert recommend(form.name, parameters)[0] in (form.quants or ("",))


def test_what_cannot_be_says_why(tmp_path: Path) -> None:
    dora = make_pair(tmp_path / "adapter", DEMO)
    path = weights_file(dora.adapter)
    tensors, facts = mx.load(str(path), return_metadata=True)
    name = next(name for name in tensors if name.endswith("lora_b"))
    tensors[name.replace("lora_b", "m")] = mx.zeros(tensors[name].shape[-1:])
    mx.save_safetensors(str(path), tensors, facts)
    plan = plan_of(dora)
    assert "DoRA" in plan.formats["gguf-lora"].refusal
    assert plan.formats["gguf-lora"].choices == ()
    assert "gguf-lora" not in plan.instead()
    assert {"gguf", "peft", "mlx"} <= set(plan.instead())
    config = tmp_path / "base"
    make_base(config, "llama")
    path = config / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"rope_scaling": {"rope_type": "dynamic", "factor": 2}}))
    scaled = plan_of(Pair(config, dora.adapter))
    assert "dynamic" in scaled.formats["gguf"].refusal
    assert scaled.formats["hf"].refusal == ""
    path.write_text(json.dumps(content | {"model_type": "olmo"}))
    other = plan_of(Pair(config, dora.adapter))
    assert other.instead() == ["mlx", "peft"]


def test_an_adapter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        plan_of(Pair(DEMO, tmp_path))
    assert caught.value.code == "bad_adapter"


def test_larger_exports_take_longer_and_their_check_takes_room(said: ExportPlan) -> None:
    gguf_plan = said.formats["gguf"]
    assert all(choice.scratch > 1_000_000 for choice in gguf_plan.choices)
    assert said.formats["gguf-lora"].choice("f32").scratch > 4 * said.parameters
    fused = said.formats["mlx-fused"]
    assert fused.choice("auto").seconds > fused.choice("4").seconds > fused.choice("8").seconds
