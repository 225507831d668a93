"""Short calls: results, errors, and the thread things end on."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtCore import QObject, QTimer

from app import tasks as module
from app.tasks import Tasks
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot


@pytest.fixture
def tasks(qapp: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tasks]:
    """Collects garbage often, so that a test need not wait for it."""
    assert qapp is not None
    monkeypatch.setattr(module, "_COLLECT_EVERY", 10)
    made = Tasks()
    yield made
    made.wait()


def _refuse() -> None:
    raise UserError("bad_data", "rows", "no", "yes")


def test_results_come_back_on_the_main_thread(tasks: Tasks, qtbot: QtBot) -> None:
    seen: list[tuple[int, int]] = []
    work = threading.get_ident
    tasks.run(work, lambda there: seen.append((there, threading.get_ident())))
    qtbot.waitUntil(lambda: len(seen) == 1)
    there, here = seen[0]
    assert here == threading.get_ident() != there


def test_each_call_gets_its_own_result(tasks: Tasks, qtbot: QtBot) -> None:
    seen: dict[int, int] = {}
    for number in range(200):
        tasks.run(lambda n=number: n * n, lambda result, n=number: seen.update({n: result}))
    qtbot.waitUntil(lambda: len(seen) == 200)
    assert all(result == number * number for number, result in seen.items())


def test_errors_go_to_who_asked_else_to_failed(tasks: Tasks, qtbot: QtBot) -> None:
    seen: list[str] = []
    tasks.failed.connect(lambda error: seen.append(f"failed {error.code}"))
    tasks.run(_refuse, seen.append, lambda error: seen.append(error.code))
    qtbot.waitUntil(lambda: seen == ["bad_data"])
    tasks.run(_refuse, seen.append)
    qtbot.waitUntil(lambda: seen == ["bad_data", "failed bad_data"])


def test_a_bug_reaches_the_last_resort(
    tasks: Tasks, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: seen.append(kind))
    tasks.run(lambda: 1 / 0, seen.append)
    qtbot.waitUntil(lambda: seen == [ZeroDivisionError])


def test_what_is_forgotten_stays_away(tasks: Tasks, qtbot: QtBot) -> None:
    seen: list[str] = []
    forget = tasks.run(lambda: "one", seen.append)
    forget()
    tasks.run(lambda: "two", seen.append)
    qtbot.waitUntil(lambda: seen == ["two"])


class _Widgetlike(QObject):
    """Something of Qt's in a cycle, as pages and dialogs are, with a timer that runs."""

    def __init__(self, ends: list[int]) -> None:
        super().__init__()
        self._ends, self._self = ends, self
        self._timer = QTimer(self, interval=1)
        self._timer.start()

    def __del__(self) -> None:
        self._ends.append(threading.get_ident())


def test_garbage_is_collected_on_the_main_thread_alone(tasks: Tasks, qtbot: QtBot) -> None:
    """A timer that is deleted on a thread of the pool takes the process down."""
    ends: list[int] = []
    for _ in range(50):
        _Widgetlike(ends)
    done: list[int] = []
    for _ in range(20):
        tasks.run(lambda: len([[n] for n in range(20_000)]), done.append)
    qtbot.waitUntil(lambda: len(done) == 20)
    gc.collect()
    qtbot.waitUntil(lambda: len(ends) == 50)
    assert set(ends) == {threading.get_ident()}


def test_garbage_is_collected_without_being_asked(tasks: Tasks, qtbot: QtBot) -> None:
    assert tasks is not None
    assert not gc.isenabled()
    ends: list[int] = []
    _Widgetlike(ends)
    keep = []
    for _ in range(40):
        keep.append([[n] for n in range(3000)])
        qtbot.wait(12)
    qtbot.waitUntil(lambda: len(ends) == 1)


def test_after_the_end_nobody_hears(qtbot: QtBot) -> None:
    """A result that is on its way when the app ends finds no window any more."""
    tasks, heard = Tasks(), list[int]()
    tasks.run(lambda: 1, heard.append)
    tasks.leave()
    qtbot.wait(20)
    assert heard == []
