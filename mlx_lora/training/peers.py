"""Training shared by several processes or Macs through MLX's ring (`mlx.launch`).

Every process holds the whole model and computes the gradient of its share of a step's rows; the
sums over all of them make the step, the same one everywhere. Rank 0 decides and writes; the others
follow. A process that was not started by MLX's launcher is alone, and nothing here costs anything.

All calls but `share` must come in the same order in every process.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

from mlx_lora.errors import UserError
from mlx_lora.events import Phase, Pulse
from mlx_lora.training.links import Links, Meeting, launched, shut, sockets

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

# seconds to wait for the others to start, and for MLX to join those that did
_MEETING, _JOINING = 300.0, 120
# seconds a sum may take once everyone has reached it, and more by its size: 1 MB/s is no network
_SUM, _SLOWEST = 60.0, 1e6


class Peers(msgspec.Struct, frozen=True):
    """The processes of this run.

    Attributes:
        rank: which of them this is; 0 decides and writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1
    links: Links | None = None
    group: Any = None

    def share(self, costs: Sequence[int]) -> list[int]:
        """Which of these rows this rank computes, every row being some rank's; may be none.

        The dearest row goes to whoever has least to do (Graham 1969), so that all end together.
        """
        loads = [0] * self.size
        mine = []
        for at in sorted(range(len(costs)), key=lambda at: (-costs[at], at)):
            rank = loads.index(min(loads))
            loads[rank] += costs[at]
            if rank == self.rank:
                mine.append(at)
        return sorted(mine)

    def sum(self, flat: mx.array) -> mx.array:
        """The sum over all ranks of a vector (numbers,), computed; the same bits in every rank.

        Apart from everything else and on the CPU: a GPU that waits for another machine gives up
        after a few seconds. In place of what a broken ring leaves there is an error.

        Raises:
            UserError: `peer_lost`.
            PeerLeftError: a peer ended in good order.
        """
        if self.links is None:
            return flat
        mx.eval(flat)
        self.links.exchange(None)
        with self.links.watched(_SUM + flat.nbytes / _SLOWEST):
            total = mx.distributed.all_sum(flat, group=self.group, stream=mx.cpu)
            mx.eval(total)
        return total

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Whether any rank says so, flag by flag."""
        if self.links is None:
            return flags
        return tuple(map(any, zip(*self.links.exchange(flags), strict=True)))

    def first(self, value: Any) -> Any:
        """What rank 0 has, as JSON says it; other ranks' `value` counts for nothing."""
        if self.links is None:
            return value
        return self.links.exchange(value if self.rank == 0 else None)[0]

    def first_tensors(self, tensors: dict[str, mx.array]) -> dict[str, mx.array]:
        """What rank 0 has of named tensors, bit for bit; names, shapes and types are everyone's."""
        if self.links is None:
            return tensors
        names = sorted(tensors)
        # added up as whole numbers: zero added to a float may change a bit (-0.0)
        bits = mx.concatenate([tensors[name].reshape(-1).view(mx.uint8) for name in names])
        found, at = {}, 0
        total = self.sum(bits if self.rank == 0 else mx.zeros_like(bits))
        for name in names:
            tensor = tensors[name]
            part = total[at : at + tensor.nbytes]
            found[name] = part.view(tensor.dtype).reshape(tensor.shape)
            at += tensor.nbytes
        return found

    def leave(self, words: str = "") -> None:
        """Go, so that the others take this end for one in good order; `words` say what failed."""
        if self.links is not None:
            self.links.leave(words)


def join() -> Generator[Phase, None, Peers]:
    """Find the other processes of MLX's launcher, if there are any.

    Raises:
        UserError: `peer_lost` where they do not come, `bad_option`.
    """
    place = launched()
    if place is None:
        return Peers()
    meeting, pulse, began = Meeting(place), Pulse(), time.monotonic()
    try:
        while (links := meeting.links()) is None:
            if time.monotonic() - began > _MEETING:
                fix = "start all of them together by mlx.launch, and look at the cables"
                why = f"the others did not come within {_MEETING:.0f} seconds"
                where = f"process {place.rank + 1} of {place.size}"
                raise UserError("peer_lost", where, why, fix)
            if pulse.due():
                yield Phase("meeting", 1, place.size)
            time.sleep(0.02)
    finally:
        meeting.give_up()
    return Peers(place.rank, place.size, links, _ring(links))


def _ring(links: Links) -> Any:
    """MLX's ring of processes that are all there.

    MLX waits for them with the interpreter's lock held, so nothing of ours runs meanwhile: the
    system's own alarm ends a process whose peers die in just this moment.
    """
    links.exchange("ready")
    before = sockets()
    signal.alarm(_JOINING)
    try:
        group = mx.distributed.init(strict=True, backend="ring")
    except RuntimeError as error:
        why = f"MLX could not connect the processes ({error})"
        fix = "start again, with other ports: mlx.launch --starting-port"
        raise UserError("peer_lost", "MLX's ring", why, fix) from error
    finally:
        signal.alarm(0)
    ring = sockets() - before
    links.cut = lambda: shut(ring)
    return group
