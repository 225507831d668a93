"""Short calls off the window's thread: a folder scan, a hash. Results come back on the main thread.

No engine here: everything that computes is a job in a worker (`jobs.py`).
"""

from __future__ import annotations

import gc
import itertools
import sys
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, QTimer, Signal, SignalInstance, Slot

from mlx_lora.errors import UserError

_COLLECT_EVERY = 1000

if TYPE_CHECKING:
    from collections.abc import Callable


class _Outcome:
    def __init__(self, result: Any = None, error: UserError | None = None, bug: Any = None) -> None:
        self.number = 0
        self.result, self.error, self.bug = result, error, bug


class _Call(QRunnable):
    def __init__(self, number: int, work: Callable[[], Any], done: SignalInstance) -> None:
        super().__init__()
        self._number, self._done = number, done
        self._work: Callable[[], Any] | None = work

    def run(self) -> None:
        """On a thread of the pool; what `work` holds is let go before the main thread hears."""
        work, self._work = self._work, None
        assert work is not None
        try:
            outcome = _Outcome(work())
        except UserError as error:
            outcome = _Outcome(error=error)
        except Exception:  # noqa: BLE001  (raised again on the main thread)
            outcome = _Outcome(bug=sys.exc_info())
        del work
        outcome.number = self._number
        self._done.emit(outcome)


class _Collector(QObject):
    """Collects garbage on the main thread only.

    Python collects cycles on whichever thread happens to allocate. A timer or a widget that is
    deleted on a thread of the pool takes the process down, so automatic collection is off.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        gc.disable()
        self._timer = QTimer(self, interval=_COLLECT_EVERY)
        self._timer.timeout.connect(self._collect)
        self._timer.start()

    def _collect(self) -> None:
        """The oldest generation that is due, as Python itself would."""
        pairs = list(zip(gc.get_count(), gc.get_threshold(), strict=True))
        due = [number for number, (count, limit) in enumerate(pairs) if count > limit]
        if due:
            gc.collect(due[-1])


class Tasks(QObject):
    """Runs calls; every call without a handler for its error goes to `failed`."""

    failed = Signal(object)
    _done = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._pool, self._collector = QThreadPool(self), _Collector(self)
        self._numbers, self._over = itertools.count(), False
        # by number: what to do with the outcome, and the call, which must not end elsewhere
        self._calls: dict[int, tuple[Callable[[_Outcome], None], Callable[[], Any]]] = {}
        self._done.connect(self._receive, Qt.ConnectionType.QueuedConnection)

    def run(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], object],
        otherwise: Callable[[UserError], object] | None = None,
    ) -> Callable[[], None]:
        """Do `work` elsewhere, then call back here; returns what forgets about the result."""
        wanted = [True]

        def finish(outcome: _Outcome) -> None:
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

        number = next(self._numbers)
        self._calls[number] = (finish, work)
        self._pool.start(_Call(number, work, self._done))
        return lambda: wanted.__setitem__(0, False)

    def wait(self) -> None:
        """Until every thread is done (at the end, and in tests)."""
        self._pool.waitForDone()

    def leave(self) -> None:
        """The app ends: wait for every thread, and hand no result to anybody any more."""
        self.wait()
        self._over = True

    @Slot(object)
    def _receive(self, outcome: _Outcome) -> None:
        finish, _ = self._calls.pop(outcome.number)
        if not self._over:
            finish(outcome)
