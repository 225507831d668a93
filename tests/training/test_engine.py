"""The engine of a run: what it may choose, how it chooses, that it keeps the choice."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
import trial
from models_made import as_numpy, attach_adapter, make_model, random_rows, randomize_adapter
from trial import drain

from mlx_lora import events
from mlx_lora.config import build_config
from mlx_lora.data.batching import lay_out
from mlx_lora.data.render import Rendered
from mlx_lora.errors import UserError
from mlx_lora.models.anatomy import take_apart
from mlx_lora.models.loading import load_model
from mlx_lora.training import choice
from mlx_lora.training.base import is_packed, open_base
from mlx_lora.training.engine import Engine, in_short, read_engine, write_engine
from mlx_lora.training.engine_words import sentences
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.objective import Objective
from mlx_lora.training.packed import packing_axes
from mlx_lora.training.policy import FEWEST_STEPS, TABLE, Possible, candidates, chunk_size
from mlx_lora.training.prefix import can_replay

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.config import RunConfig

EVERYTHING = Possible(chunked=True, packs=True, replays=True)
FAMILIES = ("llama", "mistral", "gemma2", "gemma3_text", "gpt_oss", "qwen2", "qwen3", "phi3")


def config(**groups: dict[str, Any]) -> RunConfig:
    return build_config({"model": {"source": "demo"}, "data": {"source": "demo"}} | groups)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return load_model(str(make_model(tmp_path / "m", request.param))).module


def test_every_family_can_be_taken_apart_packed_and_replayed(model: Any) -> None:
    anatomy = take_apart(model)
    assert anatomy is not None
    assert anatomy.layers is not None
    assert packing_axes(model, anatomy) == (2 if model.model_type == "gemma2" else 1)
    assert can_replay(model, anatomy, 1)
    assert not can_replay(model, anatomy, 0)
    assert not can_replay(model, anatomy, len(anatomy.layers))


def test_parts_that_do_not_make_the_models_own_logits_are_not_believed(model: Any) -> None:
    class Louder:
        """A head behind the head, as a family of tomorrow may have one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, ids: mx.array) -> mx.array:
            return model(ids) * 1.01

    assert take_apart(Louder()) is None


def test_a_packed_document_knows_nothing_of_its_neighbours(model: Any) -> None:
    """Another neighbour, of another length, leaves a document's losses as they are."""
    anatomy = take_apart(model)
    assert anatomy is not None
    objective = Objective(model, anatomy, axes=packing_axes(model, anatomy))
    first, other, last = random_rows([11, 8, 6], seed=1)

    def losses(middle: Rendered) -> np.ndarray:
        both = lay_out([[first, middle, last], [last, first]], 40).on_device()
        found = np.array(objective.token_losses(both)[0])
        end = 10 + len(middle.tokens) - 1
        return np.concatenate([found[0, :10], found[0, end : end + 5], found[1, :15]])

    longer = random_rows([17], seed=2)[0]
    assert np.abs(losses(other) - losses(longer)).max() < 1e-4
    alone = np.array(objective.token_losses(lay_out([[first]], 10).on_device())[0])[0]
    assert np.abs(losses(other)[:10] - alone).max() < 1e-4


@pytest.mark.parametrize("form", ["full", "chunked"])
def test_rows_with_nothing_to_learn_change_nothing(tmp_path: Path, form: str) -> None:
    model = load_model(str(make_model(tmp_path / "m"))).module
    adapter = attach_adapter(model, rank=2)
    randomize_adapter(adapter)
    objective = Objective(model, take_apart(model), chunked=form == "chunked")
    compute = Differentiation(objective, adapter.dropout_key)
    learnt = random_rows([9], seed=1)
    silent = [Rendered(7, random_rows([12], seed=2)[0].tokens, [0] * 12)]
    found = [
        compute.step([lay_out([[row] for row in rows], 11).on_device()], 8, 0, 1)
        for rows in (learnt, [*learnt, *silent], silent)
    ]
    values = [(one.loss.item(), np.array(one.flat)) for one in found]
    assert values[1][0] == pytest.approx(values[0][0], rel=1e-6)
    assert np.abs(values[1][1] - values[0][1]).max() < 1e-5
    assert values[2][0] == 0.0
    assert not values[2][1].any()


@pytest.mark.slow  # on the CPU a C++ compiler is started for every new piece
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_compiler_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step through mx.compile: new weights, new dropout, new shapes come in as arguments."""
    model = load_model(str(make_model(tmp_path / "m", "llama"))).module
    adapter = attach_adapter(model, rank=2, dropout=0.3)
    randomize_adapter(adapter)
    adapter.train(True)
    anatomy = take_apart(model)
    calls: list[int] = []
    compiled_by = mx.compile

    def counted(function: Any) -> Any:
        def traced(*arguments: Any) -> Any:
            calls.append(1)
            return function(*arguments)

        return compiled_by(traced)

    monkeypatch.setattr(mx, "compile", counted)
    objective = Objective(model, anatomy, chunked=True, recompute=2)
    plain = Differentiation(objective, adapter.dropout_key)
    quick = Differentiation(objective, adapter.dropout_key, compiled=True)
    batches = [
        lay_out([[row] for row in random_rows(lengths, seed=1)], 11).on_device()
        for lengths in ([12, 9], [12, 9, 4])
    ]
    try:
        for step, batch in enumerate([*batches, batches[0]]):
            randomize_adapter(adapter, step)
            found = [one.step([batch], batch.target_count, 0, step) for one in (plain, quick)]
            losses = [one.loss.item() for one in found]
            assert losses[1] == pytest.approx(losses[0], rel=1e-6)
            flats = [np.array(one.flat) for one in found]
            assert np.abs(flats[1] - flats[0]).max() < 1e-5 * np.abs(flats[0]).max()
    finally:
        mx.disable_compile()
    assert len(calls) == 2  # one trace for every shape
    assert all(np.isfinite(t).all() for t in as_numpy(adapter.tensors()).values())


def test_what_is_tried_is_the_table() -> None:
    tried = candidates(config(), "metal", "packed", EVERYTHING)
    assert [(one.batching, one.compiled) for one in tried] == [
        ("pack", True), ("buckets", True), ("pack", False), ("buckets", False),
    ]  # fmt: skip
    assert all(one.loss == "chunked" and one.prefix and one.base == "packed" for one in tried)
    assert [one.batching for one in candidates(config(), "cpu", "plain", EVERYTHING)] == list(
        TABLE["cpu"].batching
    )


def test_what_a_person_chose_is_not_varied() -> None:
    chosen = config(
        engine={"batching": "rows", "loss": "full", "prefix_cache": "off", "compile": "off"},
        training={"grad_checkpoint": True, "checkpoint_every": 2},
    )
    (one,) = candidates(chosen, "metal", "packed", EVERYTHING)
    assert one == Engine(base="packed", batching="rows", loss="full", recompute=2)


def test_what_a_model_does_not_allow_is_not_tried() -> None:
    nothing = Possible(chunked=False, packs=False, replays=False)
    tried = candidates(config(), "cpu", "plain", nothing)
    assert [(one.batching, one.loss, one.prefix) for one in tried] == [("buckets", "full", False)]


@pytest.mark.parametrize(
    ("engine", "where"),
    [
        ({"batching": "pack"}, "--batching pack"),
        ({"loss": "chunked"}, "--loss chunked"),
        ({"prefix_cache": "on"}, "--prefix-cache on"),
    ],
)
def test_what_is_asked_for_and_impossible_is_said(engine: dict[str, Any], where: str) -> None:
    nothing = Possible(chunked=False, packs=False, replays=False)
    with pytest.raises(UserError) as error:
        choice.refuse_impossible(config(engine=engine), nothing, 0)
    assert (error.value.code, error.value.where) == ("bad_option", where)
    choice.refuse_impossible(config(engine=engine), EVERYTHING, 2)


def test_the_compiler_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config(engine={"compile": "on"})
    choice.refuse_impossible(config(), EVERYTHING, 2)
    monkeypatch.setattr(choice.shutil, "which", lambda _: None)
    monkeypatch.setattr(choice, "backend", lambda: "cpu")
    with pytest.raises(UserError) as error:
        choice.refuse_impossible(wanted, EVERYTHING, 2)
    assert error.value.where == "--compile on"
    monkeypatch.setattr(choice, "backend", lambda: "metal")
    choice.refuse_impossible(wanted, EVERYTHING, 2)


def test_packed_is_refused_where_nothing_is_quantized(tmp_path: Path) -> None:
    source = str(make_model(tmp_path / "m"))
    plain = config(model={"source": source}, engine={"base": "packed"})
    with pytest.raises(UserError) as error:
        open_base(plain, None)
    assert (error.value.code, error.value.where) == ("bad_option", "--base-form packed")
    packed, words = open_base(
        config(model={"source": source, "bits": "8"}, engine={"base": "packed"}), None
    )
    assert is_packed(packed)
    assert words == ""


def test_an_engine_in_short() -> None:
    assert in_short(Engine()) == "plain, rows, full"
    engine = Engine(base="packed", batching="pack", recompute=2, prefix=True, compiled=True)
    assert in_short(engine) == "packed, pack, full, recompute 2, prefix, compiled"


def test_another_form_is_taken_only_where_it_is_clearly_faster() -> None:
    first, second = Engine(batching="buckets"), Engine(batching="pack")

    def taken(*seconds: float) -> str:
        return choice.fastest(
            [choice.Measured(e, s) for e, s in zip((first, second), seconds, strict=True)]
        ).batching

    assert taken(1.0, 0.95) == "buckets"
    assert taken(1.0, 0.85) == "pack"
    assert taken(1.0, 3.0) == "buckets"


def test_a_choice_is_measured_once_and_remembered(tmp_path: Path) -> None:
    model = load_model(str(make_model(tmp_path / "m"))).module
    adapter = attach_adapter(model, rank=2)
    before = as_numpy(adapter.tensors())
    anatomy = take_apart(model)
    long = config(training={"steps": FEWEST_STEPS}, data={"source": "demo", "max_length": 64})
    found = candidates(long, "cpu", "plain", EVERYTHING)
    rows, memory = random_rows([9, 5, 12, 7] * 3), tmp_path / "memory"
    asked: list[Engine] = []

    def objective(engine: Engine) -> Objective:
        asked.append(engine)
        return Objective(model, anatomy, chunked=engine.loss == "chunked")

    trial_run = choice.Trial(objective, adapter.dropout_key, 4, 0)
    first, measured = drain(choice.choose(long, found, rows, trial_run, memory))
    assert asked == found
    assert len(measured) == 2
    assert all(one.seconds > 0 for one in measured)
    assert first.source == "measured"
    assert {n: t.tolist() for n, t in as_numpy(adapter.tensors()).items()} == {
        n: t.tolist() for n, t in before.items()
    }
    again, nothing = drain(choice.choose(long, found, rows, trial_run, memory))
    assert (again.batching, again.source, nothing) == (first.batching, "remembered", [])
    (memory / "engine.json").write_text("{ not whole")
    _, anew = drain(choice.choose(long, found, rows, trial_run, memory))
    assert len(anew) == 2
    short = config(training={"steps": FEWEST_STEPS - 1})
    guess, nothing = drain(choice.choose(short, found, rows, trial_run, tmp_path / "other"))
    assert (guess, nothing) == (found[0], [])


def test_the_memory_depends_on_everything_but_the_seed(tmp_path: Path) -> None:
    base = choice.memory_of(tmp_path, config(), "print", {"machine": "one"})
    seeded = config(training={"seed": 5})
    assert choice.memory_of(tmp_path, seeded, "print", {"machine": "one"}) == base
    assert choice.memory_of(tmp_path, config(), "print", {"machine": "two"}) != base
    longer = config(data={"source": "demo", "max_length": 99})
    assert choice.memory_of(tmp_path, longer, "print", {"machine": "one"}) != base


def test_an_engine_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    assert read_engine(tmp_path) is None
    engine = Engine(batching="pack", recompute=2, prefix=True)
    write_engine(tmp_path, engine)
    assert read_engine(tmp_path) == engine
    (tmp_path / "engine.json").write_text('{"batching": "sideways"}')
    with pytest.raises(UserError) as error:
        read_engine(tmp_path)
    assert error.value.code == "damaged_run"


@pytest.mark.slow
def test_a_run_begun_before_there_was_a_choice_goes_on_as_it_began(
    stories: Path, tmp_path: Path
) -> None:
    """No engine in its folder but a checkpoint: exact batches, all logits."""
    data, run = trial.write_play(tmp_path), tmp_path / "run"
    options = ("--steps", "4", "--save-every", "2", "--eval-every", "4", "--max-length", "32")
    rows = ("--batching", "rows", "--loss", "full")
    whole = trial.train(stories, data, run, *options, *rows)
    assert whole.wait() == 0, whole.stderr
    wanted = trial.outcome(run)
    broken = tmp_path / "broken"
    started = trial.train(stories, data, broken, *options, *rows)
    started.wait_for(lambda event: isinstance(event, events.CheckpointSaved))
    started.process.terminate()
    assert started.wait() == 130
    (broken / "engine.json").unlink()
    text = (broken / "config.toml").read_text()
    (broken / "config.toml").write_text(
        text.replace('batching = "rows"', 'batching = "auto"').replace('"full"', '"auto"')
    )
    ended = trial.resume(broken)
    assert ended.wait() == 0, ended.stderr
    engine = json.loads((broken / "engine.json").read_text())
    assert (engine["batching"], engine["loss"]) == ("rows", "full")
    assert engine["source"] == "begun before"
    found = trial.outcome(broken)
    for what in wanted:
        assert found[what] == wanted[what], what


def test_words_say_what_is_done() -> None:
    facts = {"padding": 0.0123, "row_length": 384, "prefix_bytes": 12_000_000, "base_words": "",
             "tried": 4}  # fmt: skip
    engine = Engine(batching="pack", loss="chunked", recompute=2, prefix=True, compiled=True,
                    source="measured")  # fmt: skip
    said = " ".join(sentences(engine, facts))
    for part in ("384 tokens", "1.2%", "few tokens", "one layer in 2", "12 MB", "compiler", "of 4"):
        assert part in said
    assert len(sentences(Engine(), facts)) == 2
    resumed = sentences(engine, facts | {"tried": 0})
    assert resumed[-1].endswith("when the run began.")


def test_chunks_bound_the_logits() -> None:
    assert chunk_size(512) * 512 * 4 <= 12 << 20
    assert chunk_size(65536) == 48
    assert chunk_size(262144) == 32
