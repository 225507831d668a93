"""The batches of the next steps, laid out ahead in a thread while the engine computes.

The thread touches NumPy only; templates were rendered before, on the main thread.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlx_lora.data.batching import Batch

_AHEAD = 2


class Feed:
    """Batches by step number, asked for in order."""

    def __init__(self, lay_out: Callable[[int], list[Batch]], last: int) -> None:
        self._lay_out, self._last = lay_out, last
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._coming: dict[int, Future[list[Batch]]] = {}

    def take(self, step: int) -> list[Batch]:
        """The micro-batches of a step, in NumPy arrays."""
        self._coming = {n: made for n, made in self._coming.items() if n >= step}
        for number in range(step, min(step + _AHEAD, self._last) + 1):
            if number not in self._coming:
                self._coming[number] = self._pool.submit(self._lay_out, number)
        return self._coming.pop(step).result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
