"""Held-out rows: apart from the training rows, and the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_lora.data.formats import Completion, Conversation, Document, Message, Text
from mlx_lora.data.split import Groups, hold_out


def held(keys: list[int], fraction: float = 0.1, seed: int = 0) -> list[bool]:
    return hold_out(np.array(keys, np.uint64), fraction, seed).tolist()


@settings(max_examples=200, deadline=None)
@given(
    keys=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    fraction=st.floats(0.0, 0.9),
    seed=st.integers(0, 2**53),
)
def test_a_group_is_on_one_side(keys: list[int], fraction: float, seed: int) -> None:
    marks = held(keys, fraction, seed)
    sides: dict[int, set[bool]] = {}
    for key, mark in zip(keys, marks, strict=True):
        sides.setdefault(key, set()).add(mark)
    assert all(len(side) == 1 for side in sides.values())
    assert not all(marks)
    assert any(marks) == (fraction > 0 and len(set(keys)) > 1)
    assert marks == held(keys, fraction, seed)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("count", [10, 100, 1001])
def test_the_share_held_out(fraction: float, count: int) -> None:
    assert sum(held(list(range(count)), fraction)) == max(1, round(count * fraction))


def test_a_large_group_does_not_swell_the_held_out_side() -> None:
    for seed in range(20):
        assert sum(held([0] * 50 + list(range(1, 51)), 0.1, seed)) in {10, 50}


def test_another_seed_holds_out_other_rows() -> None:
    drawn = {tuple(held(list(range(100)), 0.1, seed)) for seed in range(30)}
    assert len(drawn) == 30
    often = np.sum([held(list(range(100)), 0.1, seed) for seed in range(600)], axis=0)
    assert 30 < often.min() < often.max() < 95


def test_the_rows_of_a_run_are_found_again() -> None:
    """Recorded: an older run's held-out rows must not change with a version of ours or NumPy's."""
    marks = held(list(range(40)), 0.2, 7)
    assert [at for at, mark in enumerate(marks) if mark] == RECORDED


RECORDED = [16, 18, 21, 23, 26, 27, 34, 35]


def groups(*examples: object) -> Groups:
    made = Groups()
    for example in examples:
        made.add(example, 1)  # type: ignore[arg-type]
    return made


def test_answers_to_one_question_stay_together() -> None:
    rows = [Completion(n, f"What is {n // 3}?", f"answer {n}") for n in range(60)]
    marks = groups(*rows).held(0.2, 0).tolist()
    assert sum(marks) == 12
    for at in range(0, 60, 3):
        assert len(set(marks[at : at + 3])) == 1


def test_one_question_for_all_rows_is_a_task() -> None:
    rows = [Completion(n, "Write a poem.", f"poem {n}") for n in range(60)]
    assert sum(groups(*rows).held(0.1, 0).tolist()) == 6


def test_conversations_that_begin_alike_stay_together() -> None:
    def talk(n: int, first: str) -> Conversation:
        turns = (Message("user", first), Message("assistant", f"a{n}"))
        return Conversation(n, turns)

    long = [talk(n, f"Tell me of the tower number {n // 2}, please.") for n in range(40)]
    marks = groups(*long).held(0.25, 1).tolist()
    assert all(marks[at] == marks[at + 1] for at in range(0, 40, 2))
    short = [talk(n, "Hi") for n in range(40)]
    assert sum(groups(*short).held(0.25, 1).tolist()) == 10


def test_equal_texts_stay_together() -> None:
    marks = groups(*[Text(n, f"line {n % 20}") for n in range(40)]).held(0.25, 3).tolist()
    assert marks[:20] == marks[20:]


def test_one_document_gives_a_stretch_of_neighbours() -> None:
    for seed in range(10):
        made = Groups()
        made.add(Document(1, "long"), 100)
        marks = made.held(0.1, seed).tolist()
        first = marks.index(True)
        assert sum(marks) == 10
        assert all(marks[first : first + 10])


def test_few_documents_give_stretches_and_many_whole_ones() -> None:
    few, many = Groups(), Groups()
    for n in range(3):
        few.add(Document(n, f"d{n}"), 50)
    for n in range(40):
        many.add(Document(n, f"d{n}"), 5)
    marks = few.held(0.1, 2).tolist()
    assert 10 <= sum(marks) <= 20
    marks = many.held(0.1, 2).tolist()
    assert sum(marks) == 20
    assert all(len(set(marks[at : at + 5])) == 1 for at in range(0, 200, 5))
