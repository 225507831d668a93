"""What the owner of a job may ask of it while it runs; set from any thread, read between steps."""

from __future__ import annotations

import threading


class Control:
    """Flags between the thread that reads commands and the one that computes."""

    def __init__(self) -> None:
        self._stop, self._save = threading.Event(), threading.Event()
        self._go = threading.Event()
        self._go.set()

    def stop(self) -> None:
        """End after the step in hand, saved."""
        self._stop.set()
        self._go.set()

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
