"""Batches: every row once an epoch, an order that is a pure function, little padding."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_lora.data.batching import make_batch
from mlx_lora.data.order import Order
from mlx_lora.data.render import Rendered


def epoch_of(order: Order, epoch: int) -> list[list[int]]:
    first = epoch * order.batches_per_epoch
    return [order.rows(first + n) for n in range(order.batches_per_epoch)]


def alpaca_lengths(count: int = 4000) -> list[int]:
    generator = np.random.default_rng(0)
    drawn = generator.lognormal(np.log(90), 0.75, count)
    return [int(n) for n in np.clip(drawn, 16, 1024)]


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=300),
    size=st.integers(1, 33),
    seed=st.integers(0, 2**53),
    epoch=st.integers(0, 5),
)
def test_every_row_once_an_epoch(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    batches = epoch_of(Order(lengths, size, seed), epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert all(n == size for n in sizes[1:])
    assert 1 <= sizes[0] <= size


def test_the_order_is_a_pure_function_of_seed_and_epoch() -> None:
    lengths = alpaca_lengths(500)
    straight = [Order(lengths, 4, 7).rows(n) for n in range(400)]
    order, numbers = Order(lengths, 4, 7), list(range(400))
    random.Random(1).shuffle(numbers)
    assert {n: order.rows(n) for n in numbers} == dict(enumerate(straight))
    assert epoch_of(order, 0) != epoch_of(order, 1)
    assert epoch_of(Order(lengths, 4, 8), 0) != epoch_of(order, 0)
    firsts = {tuple(epoch_of(order, epoch)[0]) for epoch in range(20)}
    assert len(firsts) > 15


def test_which_rows_meet_in_a_batch_changes_too() -> None:
    order = Order(alpaca_lengths(500), 4, 0)
    meetings = [{frozenset(batch) for batch in epoch_of(order, epoch)} for epoch in (0, 1)]
    assert len(meetings[0] & meetings[1]) < 10
    few = Order(list(range(20, 60)), 4, 0)  # fewer rows than a stretch, all of different lengths
    assert {frozenset(b) for b in epoch_of(few, 0)} != {frozenset(b) for b in epoch_of(few, 1)}


@pytest.mark.parametrize("size", [4, 8, 16])
def test_padding_on_lengths_like_alpacas(size: int) -> None:
    lengths = alpaca_lengths()
    order = Order(lengths, size, 0)
    for epoch in range(3):
        batches = epoch_of(order, epoch)
        computed = sum(max(lengths[n] for n in batch) * len(batch) for batch in batches)
        share = 1 - sum(lengths) / computed
        print(f"padding, batch {size}, epoch {epoch}: {share:.2%}")  # noqa: T201
        assert share <= 0.05


def test_long_and_short_batches_are_mixed_over_the_epoch() -> None:
    lengths = alpaca_lengths()
    longest = [max(lengths[n] for n in batch) for batch in epoch_of(Order(lengths, 8, 0), 0)]
    quarters = [np.mean(part) for part in np.array_split(longest, 4)]
    assert max(quarters) < 1.6 * min(quarters)


def test_inputs_targets_and_weights_are_exact() -> None:
    rows = [
        Rendered(1, [5, 6, 7, 8], [0, 0, 1, 1]),
        Rendered(2, [9, 3], [0, 1]),
        Rendered(3, [4, 4, 4], [0, 1, 0]),
    ]
    batch = make_batch(rows)
    assert np.array(batch.inputs).tolist() == [[5, 6, 7], [9, 0, 0], [4, 4, 0]]
    assert np.array(batch.targets).tolist() == [[6, 7, 8], [3, 0, 0], [4, 4, 0]]
    assert np.array(batch.weights).tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert batch.target_count == 4 == sum(row.targets for row in rows)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 99), st.integers(0, 1)), min_size=2, max_size=12),
        min_size=1,
        max_size=9,
    )
)
def test_counted_targets_are_the_real_ones(drawn: list[list[tuple[int, int]]]) -> None:
    rows = [
        Rendered(n, [token for token, _ in row], [0, *(learnt for _, learnt in row[1:])])
        for n, row in enumerate(drawn)
    ]
    batch = make_batch(rows)
    targets, weights = np.array(batch.targets), np.array(batch.weights)
    learnt = sorted(targets[weights > 0].tolist())
    wanted = sorted(t for row in rows for t, m in zip(row.tokens, row.mask, strict=True) if m)
    assert learnt == wanted
    assert batch.target_count == len(wanted)
