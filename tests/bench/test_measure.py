"""Both sides as processes on a small model: the same work, and figures that are of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from models_made import make_model

from mlx_lora.bench.measure import Bench, export_form
from mlx_lora.bench.process import Process
from mlx_lora.bench.results import OURS, PACKED, REPAIRED, SHIPPED, Comparison, Side, Work
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONG, _SHORT, _ROWS = 60, 6, 8


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Long and short rows in turns: unsorted batches are half padding."""
    folder = tmp_path_factory.mktemp("bench")
    texts = ["x" * (_LONG if number % 2 else _SHORT) for number in range(_ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    (folder / "scratch").mkdir()
    model = make_model(folder / "small")
    return Work(
        model=str(model), name="small", data=str(folder / "rows.jsonl"), rows=_ROWS, batch_size=2,
        scratch=str(folder / "scratch"), max_length=128, epochs=2.0, new_tokens=12,
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(work: Work) -> Iterator[Bench]:
    with Bench(work, against=True, rounds=2) as bench:
        bench.prepare()
        yield bench


def test_training_is_the_same_work(both: Bench) -> None:
    found = both.train()
    ours, shipped, repaired = found.sides
    assert [side.name for side in found.sides] == [OURS, SHIPPED, REPAIRED]
    assert all(len(side.values) == 2 and min(side.values) > 0 for side in found.sides)
    assert both.prepared is not None
    targets = both.prepared.targets
    assert targets == _ROWS // 2 * (_LONG + _SHORT) + _ROWS  # start and end token, first unlearnt
    assert shipped.facts["steps"] == repaired.facts["steps"] == 2 * _ROWS // 2
    # mlx-lm learns one token of padding in every padded row, which is not credited to it
    assert 2 * targets < shipped.facts["counted"] <= 2 * (targets + _ROWS)
    assert shipped.facts["padding"] > 0.35
    assert repaired.facts["padding"] < 0.3
    assert ours.facts["padding"] < 0.2
    assert shipped.facts["loss"] == pytest.approx(ours.facts["loss"], abs=1.5)
    assert f"{targets:,} learnt an epoch, 2 epochs, batch 2" in found.what
    assert "/" not in found.what.replace("tokens/s", "")
    for side in found.sides:
        assert side.facts["peak"] >= side.facts["active"] > 0


def test_the_same_answer(both: Bench) -> None:
    found = both.generate()
    assert ", the same ones" in found.what
    assert len(found.sides) == 2


def test_a_float_base_has_no_packed_comparison(both: Bench) -> None:
    assert both.train_packed() is None


@pytest.mark.slow
def test_a_packed_base(work: Work, tmp_path: Path) -> None:
    """Both sides hold what it stands for in float32; mlx-lm's own way is told apart."""
    import mlx.core as mx
    import mlx.nn as nn
    import msgspec

    from mlx_lora.models.loading import load_model

    if mx.metal.is_available():
        pytest.skip("packed weights stay packed on Metal")
    module: Any = load_model(work.model).module
    module.unfreeze()
    nn.quantize(module, group_size=32, bits=4)
    folder, scratch = tmp_path / "packed", tmp_path / "scratch"
    folder.mkdir(), scratch.mkdir()
    for path in Path(work.model).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = dict(nn.utils.tree_flatten(module.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    packed = msgspec.structs.replace(work, model=str(folder), scratch=str(scratch))
    assert export_form(str(folder), packed=True) == ("mlx-fused", "4")
    with Bench(packed, against=True, rounds=1) as bench:
        assert "4-bit" in bench.prepare().form
        assert ", the same ones" in bench.generate().what
        apart = bench.train_packed()
        assert apart is not None
        assert [side.name for side in apart.sides] == [OURS, PACKED]
        assert bench.export().sides[1].facts["bytes"] > 0


@pytest.mark.slow
def test_exporting_writes_as_many_bytes(both: Bench) -> None:
    found = both.export()
    ours, theirs, checked = found.sides
    assert checked.name == "understudy, checked"
    assert found.is_other(theirs)
    assert not found.is_other(checked)
    assert ours.facts["bytes"] == pytest.approx(theirs.facts["bytes"], rel=0.1)
    assert "hf f32" in found.what


def test_loading(work: Work) -> None:
    with Bench(work, against=False, rounds=1) as bench:
        found = bench.load()
    assert [one.kind for one in found] == ["load", "load, process running", "load, imported"]
    whole, both, call = (one.sides[0].values[0] for one in found)
    assert whole > both > call > 0


def test_what_a_side_fails_with_is_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Process("ours", log) as process:
        with pytest.raises(UserError, match="no such folder") as failed:
            process.ask("load", model=str(tmp_path / "none"))
        assert failed.value.code == "no_such_model"
        with pytest.raises(UserError, match=r"Understudy ended in the middle of it.*nonsense"):
            process.ask("nonsense")


def test_ratios_are_by_the_unit() -> None:
    fast, slow = Side(name="a", values=[4.0, 6.0]), Side(name="b", values=[2.0, 1.0])
    speeds = Comparison(kind="train", what="", unit="tokens/s", sides=[fast, slow])
    times = Comparison(kind="load", what="", unit="s", sides=[slow, fast])
    assert speeds.ratios(slow) == [2.0, 6.0]
    assert times.ratios(fast) == [2.0, 6.0]
    plain = speeds.plain()
    assert plain["sides"][1]["ratio"] == {"median": 4.0, "low": 2.0, "high": 6.0, "count": 2}
    assert "ratio" not in plain["sides"][0]
    own = Comparison(kind="export", what="", unit="s", sides=[fast, Side(name=OURS, values=[1.0])])
    assert "ratio" not in own.plain()["sides"][1]
