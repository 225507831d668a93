"""Does it fit, measured: what probes said, which batch is next, which is the largest that fits.

A probe is a process of its own that makes three steps (training/probe.py). One that is killed, that
aborts or that finds no memory has answered: this batch does not fit. No mlx here; the command line
and the window both ask `next_batch` until it has no more to ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError
from mlx_lora.events import Failed, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.events import Event, Finished
    from mlx_lora.runs import RunRecord

# how a process ends that wanted more memory than there was; an abort of the engine is one more
_DIED = frozenset({"out_of_memory", "killed", "crashed"})
# no search is longer
_MOST_TRIES = 10


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One batch size that was tried.

    Attributes:
        need: bytes of the whole process at its peak; 0 where it died of it.
        held: of them, those that are there before the first step and that no batch changes.
        limit: bytes there are.
        report: all the probe said; empty where it died.
        why: how it died, in words.
    """

    batch_size: int
    need: int = 0
    held: int = 0
    limit: int = 0
    report: dict[str, Any] = {}
    why: str = ""

    @property
    def fits(self) -> bool:
        """Whether it ran, and within the limit."""
        return 0 < self.need <= self.limit


def read_try(
    batch_size: int, said: Sequence[Event], outcome: Finished | Failed, limit: int = 0
) -> Try | None:
    """What a probe came to; None where it was stopped.

    `limit` is what a person allows, where that is less than what the machine has.

    Raises:
        UserError: what it failed with, where that was not for want of memory.
    """
    if isinstance(outcome, Failed):
        if outcome.code not in _DIED:
            raise UserError(outcome.code, outcome.where, outcome.why, outcome.fix)
        return Try(batch_size=batch_size, why=outcome.why)
    found = next((e.data for e in said if isinstance(e, Report) and e.kind == "probe"), None)
    if found is None:
        return None
    return Try(
        batch_size=batch_size,
        need=found["need"],
        held=found["held"] + found["runtime"],
        limit=min(limit, found["limit"]) if limit else found["limit"],
        report=found,
    )


def next_batch(tries: Sequence[Try]) -> int | None:
    """The batch size to try after these, None where the largest that fits is known.

    What fits is doubled for as long as twice its values would fit too, and not beyond the rows
    there are; what does not is halved.
    """
    fitting = [one for one in tries if one.fits]
    if not tries or len(tries) >= _MOST_TRIES:
        return None
    if not fitting:
        smallest = min(one.batch_size for one in tries)
        return smallest // 2 if smallest > 1 else None
    best = max(fitting, key=lambda one: one.batch_size)
    if any(one.batch_size > best.batch_size for one in tries):
        return None
    twice = min(2 * best.batch_size, best.report["documents"])
    share = twice / best.batch_size
    expected = best.held + share * (best.need - best.held)
    return twice if twice > best.batch_size and expected <= best.limit else None


def largest(tries: Sequence[Try]) -> Try | None:
    """The largest batch that fits; None where none does."""
    return max((one for one in tries if one.fits), key=lambda one: one.batch_size, default=None)


def with_batch(record: RunRecord, batch_size: int) -> RunRecord:
    """The same run with other batches."""
    replace, config = msgspec.structs.replace, record.config
    training = replace(config.training, batch_size=batch_size)
    return replace(record, config=replace(config, training=training))


def summary(tries: Sequence[Try]) -> dict[str, Any]:
    """All of it as plain values: the `fit` report."""
    best = largest(tries)
    return {
        "largest": best.batch_size if best else 0,
        "tries": [
            {
                "batch_size": one.batch_size,
                "fits": one.fits,
                "need": one.need,
                "limit": one.limit,
                "why": one.why,
                **{name: value for name, value in one.report.items() if name != "data"},
            }
            for one in tries
        ],
    }
