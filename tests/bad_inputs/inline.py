"""A worker inside the test's own process: all of its code but the process boundary, in no time."""

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora import events, jobs, worker
from mlx_lora.control import Control
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class InlineChild:
    """Takes the place of `mlx_lora.child.Child`."""

    def __init__(self, job: jobs.Job, log: Path | None = None) -> None:
        self._job: Any = msgspec.json.decode(msgspec.json.encode(job), type=jobs.Job)
        self._last: events.Event | None = None
        del log

    def read(self) -> Iterator[events.Event]:
        """Every event, as it is after its way through JSON."""
        control, run = Control(), None
        outlet = worker.Outlet(io.BytesIO(), control)
        with ExitStack() as stack:
            try:
                run = worker._open(self._job, outlet, stack)
                for event in worker._work(self._job, control):
                    yield self._sent(outlet, event)
            except UserError as error:
                yield self._sent(outlet, worker._failed(error, run))

    def outcome(self) -> events.Finished | events.Failed:
        return jobs.judge(self._last, 0, [])

    def _sent(self, outlet: worker.Outlet, event: events.Event) -> events.Event:
        outlet.send(event)
        line = events.encode(event)
        self._last = events.decode(line)
        assert self._last is not None, f"no reader can take this in: {line!r}"
        return self._last


class NoChild:
    """In the place of a worker where none may be started."""

    def __init__(self, job: jobs.Job, log: Path | None = None) -> None:
        raise AssertionError(f"a worker was started: {job} {log}")
