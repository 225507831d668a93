"""Held-out rows: apart from the training rows, and the same ones every time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_lora.data.split import split_rows


def split(rows: list[str], fraction: float = 0.1, seed: int = 0) -> tuple[list[str], list[str]]:
    return split_rows(rows, fraction, seed, str.encode)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.text(alphabet="abc", max_size=3), min_size=1, max_size=60),
    fraction=st.floats(0.0, 0.9),
    seed=st.integers(0, 50),
)
def test_nothing_lost_nothing_on_both_sides(rows: list[str], fraction: float, seed: int) -> None:
    training, held = split(rows, fraction, seed)
    assert sorted(training + held) == sorted(rows)
    assert not set(training) & set(held)
    assert training
    assert (training, held) == split(rows, fraction, seed)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("count", [10, 100, 1001])
def test_the_share_held_out(fraction: float, count: int) -> None:
    training, held = split([str(n) for n in range(count)], fraction)
    assert len(held) == max(1, round(count * fraction))
    assert len(training) == count - len(held)


def test_duplicates_do_not_swell_the_held_out_side() -> None:
    rows = ["same"] * 50 + [str(n) for n in range(50)]
    for seed in range(20):
        training, held = split(rows, 0.1, seed)
        assert len(held) in {10, 50}
        assert not set(training) & set(held)


def test_order_is_kept_and_seeds_differ() -> None:
    rows = [f"{n:03}" for n in range(100)]
    training, held = split(rows)
    assert training == sorted(training)
    assert held == sorted(held)
    assert held != split(rows, seed=1)[1]


def test_one_two_and_equal_rows() -> None:
    assert split(["a"]) == (["a"], [])
    assert split(["a", "a", "a"]) == (["a", "a", "a"], [])
    training, held = split(["a", "b"])
    assert {*training, *held} == {"a", "b"}
    assert len(held) == 1
    assert split(["a", "b"], 0.0) == (["a", "b"], [])
