"""Steps handed over and read later: the same as one after the other, and safe where one fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from models_made import as_numpy, attach_adapter, make_model, random_rows, randomize_adapter

from mlx_lora.config import TrainingConfig
from mlx_lora.data.batching import Batch, make_batch
from mlx_lora.models.anatomy import take_apart
from mlx_lora.models.loading import load_model
from mlx_lora.training.feed import Feed
from mlx_lora.training.loss import Differentiation, clipped, step_gradient
from mlx_lora.training.objective import Objective
from mlx_lora.training.optimizers import AdamW
from mlx_lora.training.step import Stepper
from mlx_lora.training.validation import measure

if TYPE_CHECKING:
    from pathlib import Path

CLIP = 0.05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def batches() -> list[Batch]:
    return [make_batch(random_rows([9, 6, 4], seed=seed)) for seed in range(5)]


def made(folder: Path) -> tuple[Any, Any, AdamW]:
    model = load_model(str(folder)).module
    adapter = attach_adapter(model, rank=2, dropout=0.2)
    randomize_adapter(adapter)
    adapter.train(True)
    return model, adapter, AdamW(model, TrainingConfig(weight_decay=0.1))


def stepper(model: Any, adapter: Any, optimizer: AdamW) -> Stepper:
    return Stepper(
        Differentiation(Objective(model), adapter.dropout_key), optimizer, clip=CLIP, seed=3
    )


def test_steps_handed_over_are_those_made_one_by_one(folder: Path) -> None:
    model, adapter, optimizer = made(folder)
    losses, norms = [], []
    for step, batch in enumerate(batches(), 1):
        found = step_gradient(model, [batch], key=adapter.dropout_key, seed=3, step=step)
        optimizer.update(clipped(found, CLIP), 1e-2)
        losses.append(found.loss)
        norms.append(found.norm)
    wanted = as_numpy(adapter.tensors())
    assert max(norms) > CLIP, "nothing is clipped here"

    model, adapter, optimizer = made(folder)
    ahead = stepper(model, adapter, optimizer)
    pending = [ahead.launch(n, [batch], 1e-2) for n, batch in enumerate(batches(), 1)]
    assert [one.loss.item() for one in pending] == pytest.approx(losses, rel=1e-5)
    assert [one.norm.item() for one in pending] == pytest.approx(norms, rel=1e-4)
    assert all(one.moved.item() for one in pending)
    found = as_numpy(adapter.tensors())
    assert max(np.abs(found[name] - wanted[name]).max() for name in wanted) < 1e-5


def test_a_step_that_is_no_number_changes_nothing_and_neither_do_those_behind_it(
    folder: Path,
) -> None:
    model, adapter, optimizer = made(folder)
    ahead = stepper(model, adapter, optimizer)
    first, second, *rest = batches()
    assert ahead.launch(1, [first], 1e-2).moved.item()
    before, moments = as_numpy(adapter.tensors()), as_numpy(optimizer.tensors())
    key = next(iter(adapter.modules))
    whole = adapter.modules[key].linear.weight
    adapter.modules[key].linear.weight = whole * float("nan")
    poisoned = ahead.launch(2, [second], 1e-2)
    adapter.modules[key].linear.weight = whole
    behind = [ahead.launch(n, [batch], 1e-2) for n, batch in enumerate(rest, 3)]
    assert not np.isfinite(poisoned.loss.item())
    assert [one.moved.item() for one in (poisoned, *behind)] == [False] * 4
    assert np.isfinite(behind[-1].loss.item())
    after, then = as_numpy(adapter.tensors()), as_numpy(optimizer.tensors())
    assert all(np.array_equal(after[name], before[name]) for name in before)
    still = {name for name in moments if name != "learning_rate"}
    assert all(np.array_equal(then[name], moments[name]) for name in still)


def test_a_feed_gives_every_step_its_batches_and_lays_out_ahead() -> None:
    asked, seen = [], threading.Event()

    def lay_out(step: int) -> list[Any]:
        asked.append(step)
        if step == 3:
            seen.set()
        return [step]

    feed = Feed(lay_out, 5)
    assert feed.take(1) == [1]
    feed.take(2)
    assert seen.wait(10.0), "the third step was not made ahead"
    assert [feed.take(step) for step in (3, 4, 5)] == [[3], [4], [5]]
    feed.close()
    assert asked == [1, 2, 3, 4, 5]


def test_what_goes_wrong_in_the_thread_is_said_where_the_batch_is_taken() -> None:
    def lay_out(step: int) -> list[Any]:
        raise ValueError(f"step {step}")

    feed = Feed(lay_out, 2)
    with pytest.raises(ValueError, match="step 1"):
        feed.take(1)
    feed.close()


def test_measuring_takes_no_more_memory_than_a_step(folder: Path) -> None:
    model, adapter, optimizer = made(folder)
    objective = Objective(model, take_apart(model), chunked=True)
    ahead = Stepper(Differentiation(objective, adapter.dropout_key), optimizer, clip=1.0, seed=0)
    rows = random_rows([60] * 4, seed=1)
    held_out = random_rows([60, 41, 12, 33, 57] * 12, seed=2)
    mx.clear_cache()
    mx.reset_peak_memory()
    ahead.launch(1, [make_batch(rows)], 1e-3).loss.item()
    mx.synchronize()
    peak = mx.get_peak_memory()
    mx.clear_cache()
    mx.reset_peak_memory()
    for _ in measure(objective, held_out, 4):
        pass
    assert mx.get_peak_memory() <= peak
