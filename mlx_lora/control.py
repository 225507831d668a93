"""What the owner of a job may ask of it while it runs; set from any thread, read between steps."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlx_lora.jobs import HeldOut, Question


class Control:
    """Flags between the thread that reads commands and the one that computes."""

    def __init__(self) -> None:
        self._stop, self._save = threading.Event(), threading.Event()
        self._go = threading.Event()
        self._go.set()
        # SimpleQueue: a signal handler may put into it while the same thread takes out of it
        self._asked: queue.SimpleQueue[Question | HeldOut | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def stop(self) -> None:
        """End after the step in hand, saved."""
        self._stop.set()
        self._go.set()
        self._asked.put(None)

    def pause(self) -> None:
        """Wait after the step in hand."""
        self._go.clear()

    def resume(self) -> None:
        """Go on."""
        self._go.set()

    def save(self) -> None:
        """Make a checkpoint after the step in hand."""
        self._save.set()

    @property
    def stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stop.is_set()

    @property
    def paused(self) -> bool:
        """Whether it must wait."""
        return not self._go.is_set()

    def wait(self, seconds: float) -> None:
        """Wait while paused, at most `seconds`."""
        self._go.wait(seconds)

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked = self._save.is_set()
        self._save.clear()
        return asked

    def ask(self, request: Question | HeldOut) -> None:
        """Let it be answered after what was asked before."""
        self._asked.put(request)

    def next_request(self) -> Question | HeldOut | None:
        """Wait for the next request; None when the end was asked for."""
        request = self._asked.get()
        return None if self.stopping else request

    def cancel(self, number: int) -> None:
        """The answer to this question is not wanted any more."""
        self._cancelled.add(number)

    def is_cancelled(self, number: int) -> bool:
        """Whether nobody wants the answer to this question."""
        return self.stopping or number in self._cancelled
