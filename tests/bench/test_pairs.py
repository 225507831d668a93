"""Measurements in turns, their spread and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlx_lora.bench.lengths import alpaca_lengths
from mlx_lora.bench.pairs import interleave, ratios, spread, tell

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_order_of_a_round_alternates() -> None:
    seen: list[str] = []

    def note(name: str) -> Callable[[], int]:
        return lambda: seen.append(name) or len(seen)

    found = interleave({name: note(name) for name in "abc"}, 3)
    assert "".join(seen) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_ratios_are_of_the_same_round() -> None:
    theirs, ours = iter([10.0, 40.0, 30.0]), iter([5.0, 10.0, 30.0])
    assert ratios(lambda: next(theirs), lambda: next(ours), 3) == [2.0, 4.0, 1.0]


def test_spread_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    found = spread([3.0, 1.0, 1000.0])
    assert (found.median, found.low, found.high, found.count) == (3.0, 1.0, 1000.0, 3)
    assert found.words() == "3.00 [1.00, 1,000.00]"
    assert found.words(0) == "3 [1, 1,000]"
    assert tell("head", [2.0, 4.0, 3.0]) == 3.0
    assert capsys.readouterr().out.startswith("head: 3.00 [2.00, 4.00] x mlx-lm, 3 pairs, ")


def test_lengths_are_those_of_instruction_data() -> None:
    lengths = alpaca_lengths(4000, 1024)
    assert sorted(lengths)[2000] == pytest.approx(90, rel=0.05)
    assert sum(lengths) / 4000 == pytest.approx(119, rel=0.05)  # 90 exp(0.75 ** 2 / 2)
    assert min(lengths) == 16
    assert max(lengths) <= 1024
    assert max(alpaca_lengths(4000, 128)) == 128
    assert alpaca_lengths(9, 512, seed=1) == alpaca_lengths(9, 512, seed=1)
    assert alpaca_lengths(9, 512, seed=1) != alpaca_lengths(9, 512, seed=2)
