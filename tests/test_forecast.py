"""The forecast against numbers worked out by hand, and against what MLX itself counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mlx_lora import jobs
from mlx_lora.batches import Batch, Rows, at_length, rows_of
from mlx_lora.child import Child
from mlx_lora.config import AdapterConfig, build_config, merge
from mlx_lora.errors import UserError
from mlx_lora.events import Finished, Report, TrainStep, encode
from mlx_lora.forecast import (
    Base,
    adapter_bytes,
    base_of,
    checkpoint_bytes,
    forecast_memory,
    judge_memory,
    kept_bytes,
    logits_bytes,
    row_length,
    weight_bytes,
)
from mlx_lora.layer_memory import count_layer
from mlx_lora.machine import Machine
from mlx_lora.models.catalog import find_entry
from mlx_lora.models.shape import Shape, adapter_parameters
from mlx_lora.models.shelf import look_up
from mlx_lora.pace import (
    Speed,
    assumed_speed,
    forecast_pace,
    learning_operations,
    measured_speed,
)
from mlx_lora.preflight import make_record
from mlx_lora.runs import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.config import RunConfig

SHAPE = Shape(
    family="llama", layers=2, hidden=64, intermediate=100, heads=4, kv_heads=2, head_dim=16,
    vocabulary=1000, context=256, tied=True,
)  # fmt: skip
NUMBERS = 1000 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 100 * 64)
BASE = Base(shape=SHAPE, parameters=NUMBERS + 5 * 64, stored=2 * (NUMBERS + 5 * 64), bits=16)
# packed, with scales in float32 and `down_proj`, which no group divides, as floats
SMALL = round((NUMBERS - 12800) * 5 / 8) + 12800 * 4 + 5 * 64 * 4
ROWS = Rows(training=100, validation=10, mean=50.0, longest=90, limit=512)
# of a token: queries, keys and values, attention, what goes into the linears, gates, products of
# rank 8; both norms in float32 with two numbers each. Of a layer: sines and cosines, the mask
TOKEN = 4 * (64 + 2 * 32 + 4 * 127 + 64 + 64 + 64 + 5 * 100 + 7 * 8) + 2 * (4 * 64 + 8)
FIXED = 2 * 127 * 16 * 4 + 127 * 127
LAYER = 508 * TOKEN + FIXED


def config(**changes: dict[str, Any]) -> RunConfig:
    sources = {"model": {"source": "m"}, "data": {"source": "d", "max_length": 128}}
    return build_config(merge(sources, changes))


def test_the_adapter_by_hand() -> None:
    """q 64 + 64, k and v 64 + 32, o 64 + 64, gate and up 64 + 100, down 100 + 64."""
    sums = 128 + 96 + 96 + 128 + 164 * 3
    assert adapter_parameters(SHAPE, config().adapter) == 8 * 2 * sums
    attention = config(adapter={"targets": ["attention"], "layers": 1, "rank": 3}).adapter
    assert adapter_parameters(SHAPE, attention) == 3 * (128 + 96 + 96 + 128)
    named = config(adapter={"targets": ["q_proj", "mlp.down_proj"]}).adapter
    assert adapter_parameters(SHAPE, named) == 8 * 2 * (128 + 164)
    assert adapter_bytes(config(), SHAPE) == 8 * 2 * sums * 16
    assert adapter_bytes(config(), SHAPE, 2) == 8 * 2 * sums * 18
    assert checkpoint_bytes(config(), SHAPE) == 8 * 2 * sums * 4 * (3 * 3 + 1)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(UserError) as error:
        adapter_parameters(SHAPE, config(adapter={"layers": 3}).adapter)
    assert error.value.code == "bad_option"


def test_an_output_matrix_of_its_own_is_reached_by_name_only() -> None:
    shape = msgspec.structs.replace(SHAPE, tied=False)
    named = config(adapter={"targets": ["all", "lm_head"]}).adapter
    plain = adapter_parameters(shape, config().adapter)
    assert adapter_parameters(shape, named) == plain + 8 * (64 + 1000)
    assert adapter_parameters(shape, config().adapter) == adapter_parameters(
        SHAPE, config().adapter
    )


def test_weights_as_they_are_held() -> None:
    assert weight_bytes(config(), BASE, metal=True) == BASE.stored
    assert weight_bytes(config(), BASE, metal=False) == 4 * BASE.parameters
    four = weight_bytes(config(model={"bits": "4"}), BASE, metal=True)
    plain = 2 * 100 * 64  # no group divides a width of 100: what goes down stays as it is
    assert four == round((NUMBERS - plain) * 4.5 / 8) + plain * 2 + 5 * 64 * 2
    assert weight_bytes(config(model={"bits": "32"}), BASE, metal=True) == 4 * BASE.parameters
    packed = Base(shape=SHAPE, parameters=BASE.parameters, stored=12345, bits=4)
    assert weight_bytes(config(), packed, metal=True) == 12345


def test_weights_too_large_to_be_floats_stay_packed_on_the_cpu() -> None:
    plain = 4 * BASE.parameters
    packed = msgspec.structs.replace(BASE, bits=4)
    small = SMALL
    for one, bits in ((packed, "keep"), (BASE, "4")):
        wanted = config(model={"bits": bits})
        assert weight_bytes(wanted, one, metal=False, memory=2 * plain) == plain
        assert weight_bytes(wanted, one, metal=False, memory=2 * plain - 1) == small
        assert forecast_memory(wanted, one, metal=False, memory=plain).weights == small
    assert weight_bytes(config(), BASE, metal=False, memory=1) == plain


def test_the_form_of_weights_may_be_said() -> None:
    packed = msgspec.structs.replace(BASE, bits=4, stored=12345)
    small = SMALL
    as_packed, as_floats = (config(engine={"base": form}) for form in ("packed", "plain"))
    assert weight_bytes(as_packed, packed, metal=False) == small
    assert weight_bytes(as_floats, packed, metal=False, memory=1) == 4 * BASE.parameters
    assert weight_bytes(as_floats, packed, metal=True) == 2 * BASE.parameters
    assert weight_bytes(as_packed, packed, metal=True) == 12345
    for form in (as_packed, as_floats):  # nothing is packed in it
        assert weight_bytes(form, BASE, metal=True) == BASE.stored
        assert weight_bytes(form, BASE, metal=False) == 4 * BASE.parameters


def test_layers_that_are_made_again_take_time() -> None:
    once = learning_operations(config(), SHAPE, 50.0)
    for every, share in ((1, 1.5), (2, 1.25)):
        training = {"grad_checkpoint": True, "checkpoint_every": every}
        again = learning_operations(config(training=training), SHAPE, 50.0)
        assert again == pytest.approx(share * once)


def test_one_layer_by_hand() -> None:
    every = config().adapter
    assert count_layer(SHAPE, every, 127, 4).token == TOKEN
    assert count_layer(SHAPE, every, 127, 4).fixed == FIXED
    half = count_layer(SHAPE, every, 127, 2)
    assert half.token == (TOKEN - 528) / 2 + 528  # norms are worked out in float32
    gemma = msgspec.structs.replace(SHAPE, family="gemma3_text")
    more = 2 * (4 * 64 + 8) + 4 * (64 + 32) + 8 * 6 + 4 * 200
    assert count_layer(gemma, every, 127, 4).token == TOKEN + more
    experts = msgspec.structs.replace(SHAPE, family="gpt_oss", experts=4, active=2)
    alone = AdapterConfig(targets=("experts.down_proj",))
    feed = 4 * (2 * 100 * 7 + 2 * 64 + 2 * 100 + 2 * 8) + 4 * 64 + 8 + 4 * (4 + 14)
    assert count_layer(experts, alone, 127, 4).feed == feed


def test_what_has_no_adapter_keeps_less_by_hand() -> None:
    batch = Batch(508, 127)
    assert kept_bytes(config(), SHAPE, batch, 4) == 2 * LAYER
    last = config(adapter={"layers": 1})
    assert kept_bytes(last, SHAPE, batch, 4) == LAYER
    feed = config(adapter={"targets": ["mlp"]})
    each = count_layer(SHAPE, feed.adapter, 127, 4)
    assert kept_bytes(feed, SHAPE, batch, 4) == 508 * (2 * each.feed + each.attention) + FIXED
    hidden = config(adapter={"dropout": 0.1, "targets": ["o_proj"]}).adapter
    open_ = msgspec.structs.replace(hidden, dropout=0.0)
    more = count_layer(SHAPE, hidden, 127, 4).token - count_layer(SHAPE, open_, 127, 4).token
    assert more == 4 * 64


def test_the_logits_by_hand() -> None:
    full = config(engine={"loss": "full"})
    assert logits_bytes(full, SHAPE, 508, 4) == 508 * 1000 * 12
    assert logits_bytes(full, SHAPE, 508, 2) == 508 * 1000 * 16
    assert logits_bytes(config(), SHAPE, 508, 4) == 8 * (508 * 1000 + 508 * 64)
    large = msgspec.structs.replace(SHAPE, vocabulary=65536)
    assert logits_bytes(config(), large, 508, 4) == 12 * 48 * 65536 + 8 * 508 * 64
    # never fewer than 32 positions, however many words
    huge = msgspec.structs.replace(SHAPE, vocabulary=262144)
    assert logits_bytes(config(), huge, 508, 2) == 12 * 32 * 262144 + 8 * 508 * 64


def test_the_whole_by_hand() -> None:
    memory = forecast_memory(config(), BASE, metal=False)
    assert memory.logits == 8 * (508 * 1000 + 508 * 64)
    # two layers are kept; a third and the last norm take less than the chunked logits
    work = LAYER + 508 * 3 * 64 * 4
    assert memory.activations == 2 * LAYER + max(0, work - memory.logits)
    assert memory.engine == memory.total - memory.runtime
    saved = forecast_memory(config(training={"grad_checkpoint": True}), BASE, metal=False)
    # what goes into each of two layers, and into the norm behind them
    again = 508 * (2 * 64 * 4 + 4 * 64 + 8)
    assert saved.activations == round(again + 2.75 * LAYER - saved.logits)
    assert saved.total < memory.total
    half = {"grad_checkpoint": True, "checkpoint_every": 2}
    second = forecast_memory(config(training=half), BASE, metal=False)
    assert second.activations - saved.activations == LAYER - 508 * 64 * 4


def test_the_whole_by_hand_where_all_logits_are_held() -> None:
    full = {"loss": "full"}
    memory = forecast_memory(config(engine=full), BASE, metal=False)
    assert memory.activations == 3 * LAYER + 508 * 3 * 64 * 4
    assert memory.logits == 508 * 12000
    saved = forecast_memory(
        config(training={"grad_checkpoint": True}, engine=full), BASE, metal=False
    )
    work = max(1.4 * LAYER, 3.2 * LAYER - saved.logits)
    assert saved.activations == 508 * (2 * 64 * 4 + 4 * 64 + 8) + round(work)


def test_what_frozen_layers_make_is_kept_where_rows_come_again() -> None:
    def kept(memory: int = 0, **changes: Any) -> int:
        chosen = config(adapter={"layers": 1}, **changes)
        return forecast_memory(chosen, BASE, metal=False, rows=ROWS, memory=memory).cache

    size = 100 * 49 * 64 * 2
    assert kept() == size
    assert kept(memory=5 * size) == size
    assert kept(memory=5 * size - 5) == 0  # a quarter of four fifths
    assert kept(training={"epochs": 1.0}) == 0
    assert kept(training={"epochs": 1.0}, engine={"prefix_cache": "on"}) == size
    assert kept(engine={"prefix_cache": "off"}) == 0
    assert kept(training={"steps": 26}) == size
    assert forecast_memory(config(), BASE, metal=False, rows=ROWS).cache == 0
    whole = forecast_memory(config(adapter={"layers": 1}), BASE, metal=False, rows=ROWS)
    assert whole.total == whole.engine + whole.cache + whole.runtime


def test_rows_are_as_long_as_they_can_be() -> None:
    assert row_length(config(), BASE) == 127
    assert row_length(config(data={"max_length": 8192}), BASE) == 255


def test_the_verdict() -> None:
    assert [judge_memory(n, 100) for n in (80, 81, 100, 101)] == ["fits", "tight", "tight", "large"]


def test_steps_and_tokens_by_hand() -> None:
    pace = forecast_pace(config(), SHAPE, ROWS, Speed(1e9, "assumed"))
    assert (pace.batches, pace.plan.steps, pace.plan.eval_every) == (25, 75, 10)
    assert not pace.exact
    assert pace.tokens == 3 * 100 * 50
    numbers = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 6400 + 50 * 64) + 64000
    learning = 15000 * 4 * numbers
    measuring = (2 * 10 + 7 * 10) * 50 * 2 * numbers
    assert pace.seconds == pytest.approx((learning + measuring) / 1e9)
    assert learning_operations(config(training={"grad_checkpoint": True}), SHAPE, 50) == 6 * numbers


def test_running_text_is_cut_into_other_rows() -> None:
    text = msgspec.structs.replace(ROWS, documents=True, limit=100, mean=95.0, longest=100)
    half = at_length(text, 50)
    assert (half.training, half.validation, half.mean, half.longest) == (200, 20, 47.5, 50)
    assert at_length(ROWS, 60).training == 100
    assert at_length(ROWS, 60).longest == 60
    assert at_length(ROWS, 40).mean == 40


def test_facts_of_an_inspection() -> None:
    facts = {
        "training_rows": 8, "validation_rows": 2, "mean_tokens": 9.5, "median_tokens": 9,
        "longest_tokens": 20, "limit": 512, "formats": {"document": 1},
    }  # fmt: skip
    assert rows_of(facts) == Rows(
        training=8, validation=2, mean=9.5, longest=20, limit=512, documents=True
    )
    assert rows_of({}) is None


def test_speed_is_assumed_by_the_kind_of_machine() -> None:
    small, large = (Machine(name, 1, 1, True) for name in ("Apple M2", "Apple M4 Max"))
    assert assumed_speed(large).operations == 4 * assumed_speed(small).operations
    assert assumed_speed(Machine("x86", 1, 1, False)).source == "assumed"


def test_speed_is_taken_from_the_last_run_with_the_same_batches(root: Path) -> None:
    store = RunStore(root)
    demo = config(model={"source": "demo"}, data={"source": "demo"})
    wide = config(model={"source": "demo"}, data={"source": "demo"}, training={"batch_size": 8})
    entry = find_entry("demo")
    assert entry is not None
    for one, name, speed in ((demo, "a", 100.0), (wide, "b", 400.0)):
        run = store.create(make_record(one, root)[0], name, root / "runs" / name)
        _tell(run.folder, speed)
    found = measured_speed(store.list(), demo, entry.shape)
    assert found is not None
    work = 4 * 50 * learning_operations(demo, entry.shape, 50.0)
    assert found.source == "same"
    assert found.operations == pytest.approx(work / 2.0)  # 200 targets at 100 a second
    other = config(model={"source": "demo"}, data={"source": "demo"}, training={"batch_size": 2})
    nearest = measured_speed(store.list(), other, entry.shape)
    assert nearest is not None
    assert nearest.source == "model"
    assert measured_speed(store.list(), config(), entry.shape) is None


def _tell(folder: Path, speed: float) -> None:
    facts = {"data": {"training_rows": 100, "mean_tokens": 50.0, "longest_tokens": 90}}
    steps = [
        TrainStep(
            step=n, steps=3, epoch=0.1, loss=1.0, learning_rate=1e-4, grad_norm=1.0,
            tokens=200 * n, tokens_per_second=speed, peak_memory=1, eta=1.0,
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    lines = [encode(event) for event in (Report(kind="setup", data=facts), *steps)]
    (folder / "events.jsonl").write_bytes(b"".join(lines))


def _trained(chosen: RunConfig, root: Path) -> tuple[dict[str, Any], int]:
    """(setup facts, MLX's peak in bytes) of a real worker."""
    run = RunStore(root).create(*make_record(chosen, root))
    child, facts, peak = Child(jobs.TrainJob(run=str(run.folder), root=str(root))), {}, 0
    for event in child.read():
        match event:
            case Report(kind="setup", data=data):
                facts = data
            case TrainStep():
                peak = event.peak_memory
            case _:
                pass
    assert isinstance(child.outcome(), Finished), child.outcome()
    return facts, peak


@pytest.mark.parametrize(
    "adapter",
    [
        {"rank": 3, "targets": ["attention", "down_proj"], "layers": 2},
        pytest.param({}, marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_the_count_of_trained_numbers_is_exact(
    root: Path, tiny_text: Path, adapter: dict[str, Any]
) -> None:
    chosen = config(
        model={"source": "demo"}, data={"source": str(tiny_text), "max_length": 32},
        adapter=adapter, training={"steps": 1},
    )  # fmt: skip
    facts, _ = _trained(chosen, root)
    entry = find_entry("demo")
    assert entry is not None
    assert adapter_parameters(entry.shape, chosen.adapter) == facts["trainable"]
    assert entry.parameters == facts["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["demo", "stories"])
@pytest.mark.parametrize(
    "training",
    [{}, {"batch_size": 8}, {"grad_checkpoint": True}, {"batch_size": 8, "grad_checkpoint": True}],
    ids=["4", "8", "4-saving", "8-saving"],
)
def test_memory_is_near_what_mlx_counts(
    root: Path, stories: Path, model: str, training: dict[str, Any], record_property: Any
) -> None:
    """Of the engine's part; what it holds in its cache for reuse is not counted by either."""
    source = model if model == "demo" else str(stories)
    chosen = config(
        model={"source": source}, data={"source": "demo", "max_length": 256},
        training=training | {"steps": 3, "eval_every": 3},
    )  # fmt: skip
    facts, peak = _trained(chosen, root)
    base = base_of(look_up(source))
    assert base is not None
    mean = facts["data"]["training_targets"] / facts["data"]["training_rows"] + 1
    rows = rows_of(facts["data"] | {"mean_tokens": mean, "limit": 256})
    ratio = forecast_memory(chosen, base, metal=False, rows=rows).engine / peak
    record_property("ratio", ratio)
    print(f"{model} {training}: {ratio:.3f} of {peak:,}")  # noqa: T201
    assert 0.85 < ratio < 1.25


@pytest.mark.slow
def test_looking_up_from_training_takes_no_more_memory(
    root: Path, shared: Path, tmp_path: Path
) -> None:
    """Evaluation, samples and checkpoints in a run: when buffers are let go of varies by 1 %."""
    data, found = tmp_path / "play.txt", {}
    data.write_text((shared / "tinyshakespeare.txt").read_text()[:20_000])
    for every in (2, 10_000):
        training = {"steps": 4, "eval_every": every, "sample_every": every}
        chosen = config(
            model={"source": "demo"}, data={"source": str(data)}, training=training
        )  # fmt: skip
        found[every] = _trained(chosen, root)[1]
    print(f"{found[2] / found[10_000]:.3f} of {found[10_000]:,}")  # noqa: T201
    assert found[2] <= 1.02 * found[10_000]
