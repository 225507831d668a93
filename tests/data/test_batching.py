"""Batches: every row once an epoch, an order that is a pure function, little padding."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_lora.data.batching import make_batch
from mlx_lora.data.order import Order, padding
from mlx_lora.data.packing import make_layout
from mlx_lora.data.render import Rendered

LAYOUTS = ("rows", "buckets", "pack")


def epoch_of(order: Order, epoch: int) -> list[list[list[int]]]:
    first = epoch * order.batches_per_epoch
    return [order.batch(first + n) for n in range(order.batches_per_epoch)]


def order_of(kind: str, lengths: list[int], size: int = 4, seed: int = 0) -> Order:
    return Order(make_layout(kind, lengths, size), seed)


def documents(batch: list[list[int]]) -> list[int]:
    return [at for row in batch for at in row]


def alpaca_lengths(count: int = 4000) -> list[int]:
    generator = np.random.default_rng(0)
    drawn = generator.lognormal(np.log(90), 0.75, count)
    return [int(n) for n in np.clip(drawn, 16, 1024)]


@pytest.mark.parametrize("kind", LAYOUTS)
@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=300),
    size=st.integers(1, 33),
    seed=st.integers(0, 2**53),
    epoch=st.integers(0, 5),
)
def test_every_document_once_an_epoch_and_no_row_too_long(
    kind: str, lengths: list[int], size: int, seed: int, epoch: int
) -> None:
    layout = make_layout(kind, lengths, size)
    batches = epoch_of(Order(layout, seed), epoch)
    assert len(batches) == layout.count
    found = [at for batch in batches for at in documents(batch)]
    assert sorted(found) == list(range(len(lengths)))
    for batch in batches:
        width = layout.width(batch)
        assert max(sum(lengths[at] for at in row) for row in batch) <= width
        if kind != "pack":
            assert all(len(row) == 1 for row in batch)
    if kind == "rows":
        sizes = sorted(map(len, batches))
        assert all(n == size for n in sizes[1:])
        assert 1 <= sizes[0] <= size


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_order_is_a_pure_function_of_seed_and_epoch(kind: str) -> None:
    lengths = alpaca_lengths(500)
    numbers = list(range(2 * order_of(kind, lengths).batches_per_epoch))
    straight = [order_of(kind, lengths, seed=7).batch(n) for n in numbers[:60]]
    order = order_of(kind, lengths, seed=7)
    random.Random(1).shuffle(numbers)
    assert {n: order.batch(n) for n in numbers if n < 60} == dict(enumerate(straight))
    assert epoch_of(order, 0) != epoch_of(order, 1)
    assert epoch_of(order_of(kind, lengths, seed=8), 0) != epoch_of(order, 0)
    firsts = {tuple(documents(epoch_of(order, epoch)[0])) for epoch in range(20)}
    assert len(firsts) > 15


@pytest.mark.parametrize(("kind", "most"), [("rows", 0.05), ("buckets", 0.35), ("pack", 0.6)])
def test_which_documents_meet_in_a_batch_changes_too(kind: str, most: float) -> None:
    order = order_of(kind, alpaca_lengths(500), 8)
    epochs = [[documents(batch) for batch in epoch_of(order, epoch)] for epoch in (0, 1)]
    meetings = [{frozenset(batch) for batch in batches if len(batch) > 1} for batches in epochs]
    assert len(meetings[0] & meetings[1]) <= most * len(meetings[0])
    if kind == "rows":
        assert len(meetings[0] & meetings[1]) < 10
    # fewer documents than a stretch, all of different lengths
    few = order_of(kind, list(range(20, 60)), 4)
    if kind != "pack":
        seen = {frozenset(frozenset(documents(b)) for b in epoch_of(few, e)) for e in range(8)}
        assert len(seen) > 1
    if kind == "rows":
        first, second = ({frozenset(documents(b)) for b in epoch_of(few, e)} for e in (0, 1))
        assert first != second


@pytest.mark.parametrize("size", [4, 8, 16])
@pytest.mark.parametrize(("kind", "most"), [("rows", 0.05), ("buckets", 0.03), ("pack", 0.02)])
def test_padding_on_lengths_like_alpacas(kind: str, most: float, size: int) -> None:
    lengths = alpaca_lengths()
    layout = make_layout(kind, lengths, size)
    order = Order(layout, 0)
    for epoch in range(3):
        batches = epoch_of(order, epoch)
        computed = sum(layout.width(batch) * len(batch) for batch in batches)
        share = 1 - sum(lengths) / computed
        print(f"padding, {kind}, batch {size}, epoch {epoch}: {share:.2%}")  # noqa: T201
        assert share <= most
        if epoch == 0:
            assert padding(layout, lengths) == pytest.approx(share)


def test_few_shapes_are_packed_and_steps_stay_about_as_many() -> None:
    lengths = alpaca_lengths()
    for size in (4, 8, 16):
        layout = make_layout("pack", lengths, size)
        batches = epoch_of(Order(layout, 0), 0)
        assert len({(len(batch), layout.width(batch)) for batch in batches}) <= 6
        assert 0.75 < layout.count / (len(lengths) / size) < 1.2


@pytest.mark.parametrize("kind", LAYOUTS)
def test_blocks_of_one_length_make_batches_of_as_many_rows_as_asked(kind: str) -> None:
    """Also where some are a little shorter, so that a batch of the mean would hold one less."""
    lengths = [127] * 150 + list(range(80, 127))
    layout = make_layout(kind, lengths, 4)
    assert 0.9 < layout.count / (len(lengths) / 4) < 1.08


@pytest.mark.parametrize("kind", ["buckets", "pack"])
def test_a_batch_holds_no_more_positions_than_its_documents_would_on_average(kind: str) -> None:
    lengths = alpaca_lengths()
    layout = make_layout(kind, lengths, 16)
    budget = 16 * np.mean(lengths)
    for batch in epoch_of(Order(layout, 3), 0):
        held = len(batch) * layout.width(batch)
        assert held <= max(1.4 * budget, 2 * max(lengths[at] for at in documents(batch)))


def test_long_documents_are_packed_in_rows_twice_their_median() -> None:
    lengths = [int(n) for n in np.random.default_rng(1).integers(500, 2000, 400)]
    layout = make_layout("pack", lengths, 4)
    assert padding(layout, lengths) < 0.1
    assert max(layout.width(b) for b in epoch_of(Order(layout, 0), 0)) < 6000


def test_long_and_short_batches_are_mixed_over_the_epoch() -> None:
    lengths = alpaca_lengths()
    order = order_of("rows", lengths, 8)
    longest = [max(lengths[n] for n in documents(batch)) for batch in epoch_of(order, 0)]
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
