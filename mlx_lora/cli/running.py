"""Running a job in a worker from the command line: events out, Ctrl-C in, an end in words."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_lora import events, jobs
from mlx_lora.child import Child
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType


_KEPT = "Finishing the step and saving"
_QUIET = ""  # rank 0 speaks for all
_DROPPED = "Stopping, nothing half-written is kept"


class InterruptedJobError(Exception):
    """The person asked for the end: a run is saved, an export is whole or not there."""


def run_job(
    job: jobs.Job,
    show: Callable[[events.Event], None],
    *,
    as_json: bool = False,
    also: Callable[[events.Event], None] | None = None,
    log: Path | None = None,
) -> events.Finished:
    """Run a job to its end, handing every event to `show`, or to stdout as JSON lines.

    `also` is handed every event either way.

    Raises:
        UserError: what the worker failed with.
        InterruptedJobError: Ctrl-C or SIGTERM; the worker ended as `job` ends.
    """
    child = Child(job, log)
    interruptions: list[int] = []
    last: events.Event | None = None
    with _interruptible(child, interruptions, _ending(job)):
        for event in child.read():
            last = event
            _emit(event) if as_json else show(event)
            if also is not None:
                also(event)
        outcome = child.outcome()
    if isinstance(outcome, events.Failed):
        if as_json and last is not outcome:
            _emit(outcome)
        if len(interruptions) < 2:  # noqa: PLR2004
            raise UserError(outcome.code, outcome.where, outcome.why, outcome.fix, outcome.saved)
    if interruptions:
        raise InterruptedJobError
    assert isinstance(outcome, events.Finished)
    return outcome


def _emit(event: events.Event) -> None:
    sys.stdout.buffer.write(events.encode(event))
    sys.stdout.buffer.flush()


def _ending(job: jobs.Job) -> str:
    """What becomes of a job that is told to stop."""
    if isinstance(job, jobs.FollowJob):
        return _QUIET
    return _KEPT if isinstance(job, jobs.TrainJob) else _DROPPED


@contextmanager
def _interruptible(child: Child, interruptions: list[int], ending: str) -> Iterator[None]:
    """First Ctrl-C: stop in good order, which is what `ending` says. Second: end at once."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        interruptions.append(number)
        if len(interruptions) == 1:
            if ending:
                sys.stderr.write(f"\n{ending}; press Ctrl-C again to end at once.\n")
            child.send(jobs.Command(type="stop"))
        else:
            child.kill()

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
