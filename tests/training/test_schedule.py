"""The learning rate at places worked out by hand."""

from __future__ import annotations

import pytest

from mlx_lora.config import TrainingConfig
from mlx_lora.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (1, 0.1),
        (5, 0.5),
        (10, 1.0),  # the peak
        (40, 0.775),  # a third of the way: 0.1 + 0.9 * (1 + 1/2) / 2
        (55, 0.55),  # half
        (70, 0.325),  # two thirds: 0.1 + 0.9 * (1 - 1/2) / 2
        (100, 0.1),  # the end
    ],
)
def test_warm_up_then_cosine(step: int, wanted: float) -> None:
    config = TrainingConfig(learning_rate=4e-4, warmup=0.1, final_rate=0.1)
    assert learning_rate(config, step, 100) == pytest.approx(4e-4 * wanted, rel=1e-9)


def test_without_warm_up_to_zero() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=0.0, final_rate=0.0)
    rates = [learning_rate(config, step, 4) for step in range(1, 5)]
    assert rates == pytest.approx([1.0, 0.75, 0.25, 0.0], abs=1e-12)


def test_constant() -> None:
    config = TrainingConfig(learning_rate=0.3, warmup=0.0, final_rate=1.0)
    assert [learning_rate(config, step, 7) for step in range(1, 8)] == pytest.approx([0.3] * 7)


def test_nothing_but_warm_up() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=1.0)
    assert [learning_rate(config, step, 4) for step in range(1, 5)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 37, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_it_rises_to_the_peak_and_falls_from_there(steps: int, warmup: float) -> None:
    config = TrainingConfig(learning_rate=2.0, warmup=warmup, final_rate=0.1)
    rates = [learning_rate(config, step, steps) for step in range(1, steps + 1)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if 0 < warmup < 1 and round(warmup * steps):
        assert max(rates) == 2.0
        assert rates[-1] == pytest.approx(0.2)
