"""Short calls off the window's thread: a folder scan, a hash. Results come back on the main thread.

No engine here: everything that computes is a job in a worker (`jobs.py`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, Signal, Slot

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


class _Bridge(QObject):
    """Carries one outcome over to the main thread, where it lives."""

    done = Signal(object)

    def __init__(self, finish: Callable[[_Outcome], None]) -> None:
        super().__init__()
        self._finish = finish
        self.done.connect(self._receive, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def _receive(self, outcome: _Outcome) -> None:
        self._finish(outcome)


class _Outcome:
    def __init__(self, result: Any = None, error: UserError | None = None, bug: Any = None) -> None:
        self.result, self.error, self.bug = result, error, bug


class _Call(QRunnable):
    def __init__(self, work: Callable[[], Any], bridge: _Bridge) -> None:
        super().__init__()
        self._work, self._bridge = work, bridge

    def run(self) -> None:
        """On a thread of the pool."""
        try:
            outcome = _Outcome(self._work())
        except UserError as error:
            outcome = _Outcome(error=error)
        except Exception:  # noqa: BLE001  (raised again on the main thread)
            outcome = _Outcome(bug=sys.exc_info())
        self._bridge.done.emit(outcome)


class Tasks(QObject):
    """Runs calls; every call without a handler for its error goes to `failed`."""

    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._pool = QThreadPool(self)
        self._waiting: set[_Bridge] = set()

    def run(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], object],
        otherwise: Callable[[UserError], object] | None = None,
    ) -> Callable[[], None]:
        """Do `work` elsewhere, then call back here; returns what forgets about the result."""
        wanted = [True]

        def finish(outcome: _Outcome) -> None:
            self._waiting.discard(bridge)
            if outcome.bug is not None:
                sys.excepthook(*outcome.bug)
            elif not wanted[0]:
                return
            elif outcome.error is None:
                then(outcome.result)
            elif otherwise is not None:
                otherwise(outcome.error)
            else:
                self.failed.emit(outcome.error)

        bridge = _Bridge(finish)
        self._waiting.add(bridge)
        self._pool.start(_Call(work, bridge))
        return lambda: wanted.__setitem__(0, False)

    def wait(self) -> None:
        """Until every thread is done (at the end, and in tests)."""
        self._pool.waitForDone()
