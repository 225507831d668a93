"""Batches foreseen are those a run makes, where the lengths of its rows are known."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from mlx_lora.batches import Batch, Batches, Rows, at_length, count_batches, heaviest_batch, rows_of
from mlx_lora.config import RunConfig, build_config
from mlx_lora.data.order import Order
from mlx_lora.data.packing import make_layout

LENGTHS = [round(random.Random(n).lognormvariate(4.2, 0.7)) + 8 for n in range(900)]


def config(**changes: Any) -> RunConfig:
    tree = {"model": {"source": "m"}, "data": {"source": "d", "max_length": 4096}}
    return build_config(tree | changes)


def rows(tokens: list[int], **changes: Any) -> Rows:
    facts = {
        "training_rows": len(tokens), "validation_rows": 9, "longest_tokens": max(tokens),
        "mean_tokens": sum(tokens) / len(tokens), "limit": 4096,
        "lengths": [list(pair) for pair in sorted(Counter(tokens).items())],
    }  # fmt: skip
    found = rows_of(facts | changes)
    assert found is not None
    return found


@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("kind", ["rows", "buckets", "pack"])
def test_batches_are_counted_as_they_are_made(kind: str, size: int) -> None:
    positions = [length - 1 for length in LENGTHS]
    random.Random(0).shuffle(positions)
    order = Order(make_layout(kind, positions, size), seed=3)
    chosen = config(engine={"batching": kind}, training={"batch_size": size})
    found = count_batches(chosen, rows(LENGTHS), metal=False)
    assert found == Batches(order.batches_per_epoch, exact=True)
    made = [order.batch(number) for number in range(order.batches_per_epoch)]
    tokens = max(len(batch) * order.width(batch) for batch in made)
    heaviest = heaviest_batch(chosen, rows(LENGTHS), 4095, metal=False)
    # with another order other documents of like length meet
    assert heaviest.tokens == pytest.approx(tokens, rel=0.06)


def test_without_lengths_it_is_about_and_bounded() -> None:
    blind = rows(LENGTHS, lengths=[])
    assert count_batches(config(), blind, metal=False) == Batches(225, exact=False)
    known = heaviest_batch(config(), rows(LENGTHS), 4095, metal=False)
    bound = heaviest_batch(config(), blind, 4095, metal=False)
    assert known.tokens <= bound.tokens
    assert bound.width == max(LENGTHS) - 1
    assert heaviest_batch(config(), None, 99, metal=False) == Batch(4 * 99, 99)
    wrong = rows(LENGTHS, lengths=[[9, 1]])  # of other rows
    assert wrong.lengths == ()


def test_a_long_run_whose_form_is_measured_first_is_about() -> None:
    short = [64] * 100
    few = config(training={"epochs": 1.0})
    assert count_batches(few, rows(short), metal=False).exact
    odd = [*LENGTHS, 3000]
    long = config(training={"epochs": 20.0, "batch_size": 1})
    kinds = {
        kind: count_batches(
            config(engine={"batching": kind}, training={"batch_size": 1}), rows(odd), metal=False
        ).count
        for kind in ("buckets", "pack")
    }
    exact = kinds["buckets"] == kinds["pack"]
    assert count_batches(long, rows(odd), metal=False) == Batches(kinds["buckets"], exact)
    assert count_batches(long, rows(odd), metal=True) == Batches(kinds["pack"], exact)


def test_rows_cut_shorter_are_known_and_cut_longer_are_not() -> None:
    cut = rows([10, 20, 40, 40], limit=40)
    short = at_length(cut, 20)
    assert short.lengths == ((10, 1), (20, 3))
    assert (short.mean, short.longest, short.positions) == (17.5, 20, 9 + 3 * 19)
    assert at_length(cut, 80).lengths == ()
    whole = rows([10, 20, 39], limit=40)
    assert at_length(whole, 80).lengths == whole.lengths
