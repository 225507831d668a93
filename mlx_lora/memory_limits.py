"""How much memory MLX may take while a job runs, and its cache of freed buffers kept in bounds.

MLX's own limits let a job on a Mac take one and a half times what the GPU can hold, freed buffers
included, before it holds back; by then the machine swaps.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Of the memory a backend has, what each limit allows; None leaves MLX's own.

    Attributes:
        wired: kept resident, never swapped or compressed (macOS 15 and later).
        memory: above it MLX waits for work in hand before it takes more, and gives freed buffers
            back; nothing fails there.
        cache: freed buffers kept for reuse.
    """

    wired: float | None = None
    memory: float | None = None
    cache: float


# The shares are chosen, none was measured on a Mac.
# Metal, of the working set that the system recommends for the GPU:
# - wired: a training that wired all of it made a 48 GB Mac reboot, and ran stably at nine tenths
#   (ml-explore/mlx-lm, issue 828; issue 883 is a kernel panic of that kind)
# - memory: where MLX begins to give freed buffers back by itself (mlx/backend/metal/allocator.cpp)
# - cache: it is taken from whatever else runs on the machine; with far less, down to nothing, the
#   writer of issue 828 saw no loss of speed
_METAL = Shares(wired=0.9, memory=0.95, cache=1 / 8)
# The CPU, of physical memory: MLX's own limit is 32 MB, this share of 8 GB. A larger cache took as
# much more resident memory and made no step faster that the noise let us see (Linux)
_CPU = Shares(cache=1 / 256)

# of its limit, how full the cache may be before it is emptied, and how rarely that may happen
_FULL, _REST = 0.9, 64


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, as `Shares` has them; None leaves MLX's own."""

    wired: int | None
    memory: int | None
    cache: int


def limits_of(recommended: int | None, physical: int) -> Limits:
    """The limits of a machine; `recommended` is what its GPU should take, None without one."""
    shares, whole = (_CPU, physical) if recommended is None else (_METAL, recommended)
    return Limits(
        wired=_part(shares.wired, whole),
        memory=_part(shares.memory, whole),
        cache=int(shares.cache * whole),
    )


def _part(share: float | None, whole: int) -> int | None:
    return None if share is None else int(share * whole)


def machine_limits() -> Limits:
    """The limits of this machine on the device MLX computes on."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return limits_of(working_set(), physical)


def working_set() -> int | None:
    """Bytes the system recommends the GPU to take at most; None on the CPU."""
    if mx.default_device() == mx.cpu:
        return None
    found: Mapping[str, Any] = mx.device_info()
    recommended = found.get("max_recommended_working_set_size")
    return int(recommended) if recommended else None


class Tidier:
    """Empties MLX's cache of freed buffers when it is full, which is never at each step.

    Buffers are reused for tensors of about their size. When the shapes change, those of the old
    ones stay; on the CPU they are never pushed out, and a full cache takes in nothing new.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._calls = limit, _REST

    def tidy(self) -> bool:
        """Look once, as after a step; returns whether the cache was emptied."""
        self._calls += 1
        if self._calls <= _REST or mx.get_cache_memory() <= _FULL * self._limit:
            return False
        self._calls = 0
        mx.clear_cache()
        return True


@contextmanager
def engine_limits() -> Iterator[Tidier]:
    """This machine's limits for as long as the block lasts; then those that held before.

    Gives what keeps the cache tidy meanwhile.
    """
    limits = machine_limits()
    with ExitStack() as stack:
        if limits.wired is not None:
            stack.callback(mx.set_wired_limit, mx.set_wired_limit(limits.wired))
            # it must not change under work in hand (mlx-lm's `wired_limit` waits as well)
            stack.callback(mx.synchronize)
        if limits.memory is not None:
            stack.callback(mx.set_memory_limit, mx.set_memory_limit(limits.memory))
        stack.callback(mx.set_cache_limit, mx.set_cache_limit(limits.cache))
        yield Tidier(limits.cache)
