"""The search for the largest batch: what is tried next, and what a probe that died says."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_lora.errors import UserError
from mlx_lora.events import Failed, Finished, Report
from mlx_lora.fit import Try, largest, next_batch, read_try, summary
from mlx_lora.jobs import judge

LIMIT = 1000


def tried(batch: int, *, documents: int = 10_000, held: int = 100, each: int = 60) -> Try:
    need = held + each * batch
    report = {"documents": documents}
    return Try(batch_size=batch, need=need, held=held, limit=LIMIT, report=report)


def search(first: int, **facts: Any) -> list[Try]:
    """What is tried, and what comes of it."""
    tries: list[Try] = []
    batch: int | None = first
    while batch is not None:
        tries.append(tried(batch, **facts))
        batch = next_batch(tries)
    return tries


@pytest.mark.parametrize(
    ("first", "order", "best"), [(4, [4, 8], 8), (1, [1, 2, 4, 8], 8), (3, [3, 6, 12], 12)]
)
def test_what_fits_is_doubled(first: int, order: list[int], best: int) -> None:
    """100 + 60 a row: 15 rows fit into 1000."""
    tries = search(first)
    assert [one.batch_size for one in tries] == order
    found = largest(tries)
    assert found is not None
    assert found.batch_size == best


def test_what_does_not_fit_is_halved_until_it_does() -> None:
    assert [one.batch_size for one in search(64)] == [64, 32, 16, 8]
    assert [one.batch_size for one in search(2, each=950)] == [2, 1]
    assert largest(search(2, each=950)) is None


def test_no_more_rows_than_there_are() -> None:
    assert [one.batch_size for one in search(4, documents=6)] == [4, 6]
    assert [one.batch_size for one in search(4, documents=4)] == [4]


def test_what_grows_beyond_what_was_expected_ends_the_search() -> None:
    tries = [tried(4), Try(batch_size=8, why="the system ended the worker")]
    assert next_batch(tries) is None
    found = largest(tries)
    assert found is not None
    assert found.batch_size == 4
    told = summary(tries)
    assert told["largest"] == 4
    assert [(one["fits"], one["why"][:10]) for one in told["tries"]] == [
        (True, ""), (False, "the system"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "tail"),
    [(-9, []), (-6, ["libc++abi: [metal::malloc] unable to allocate memory"]), (-6, []), (-11, [])],
)
def test_a_process_that_died_of_it_has_answered(code: int, tail: list[str]) -> None:
    found = read_try(16, [], judge(None, code, tail))
    assert found is not None
    assert (found.batch_size, found.need, found.fits) == (16, 0, False)
    assert found.why
    memory = Failed(code="out_of_memory", where="MLX", why="no room", fix="")
    again = read_try(16, [], memory)
    assert again is not None
    assert again.why == "no room"


def test_what_has_nothing_to_do_with_memory_is_an_error() -> None:
    with pytest.raises(UserError) as error:
        read_try(4, [], Failed(code="bad_data", where="rows", why="none", fix="more"))
    assert error.value.code == "bad_data"
    assert read_try(4, [], Finished(reason="stopped")) is None


def test_a_report_is_read_against_what_is_allowed() -> None:
    data = {"need": 700, "held": 300, "runtime": 50, "limit": 900, "documents": 9}
    said = [Report(kind="setup", data={}), Report(kind="probe", data=data)]
    found = read_try(4, said, Finished(reason="done"))
    assert found is not None
    assert (found.need, found.held, found.limit, found.fits) == (700, 350, 900, True)
    less = read_try(4, said, Finished(reason="done"), limit=600)
    assert less is not None
    assert not less.fits
