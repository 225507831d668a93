"""What the window costs, measured:  python tests/benchmarks/window.py [paint chart train sample]

First paint (median of 10 process starts), repaint of the chart at 100,000 points, and a demo run
with the real worker: event to screen, longest gap of the event loop, memory, kill to banner; and
the sample from the first click to a verified file, with five questions to both panes.
Offscreen and at one pixel a point; run it on an idle machine.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(ROOT))

_STARTS, _REPAINTS, _STEPS = 10, 50, 400
# one short row a step: as many events a second as the demo model can give
_FAST = {
    "training": {"steps": _STEPS, "batch_size": 1, "eval_every": 100, "eval_rows": 8},
    "data": {"max_length": 32, "val_fraction": 0.01},
}
_CHILD = """
import sys, time
sys.path.insert(0, {root!r})
from PySide6.QtCore import QEvent, QTimer
import app.application as application
class Window(application.MainWindow):
    def event(self, event):
        done = super().event(event)
        if event.type() == QEvent.Type.Paint and not hasattr(self, "seen"):
            self.seen = True
            QTimer.singleShot(0, self.say)
        return done
    def say(self):
        print(time.time(), self.current, flush=True)
        application.QApplication.quit()
application.MainWindow = Window
application.run()
"""


def say(name: str, **facts: object) -> None:
    """One line of the result."""
    sys.stdout.write(json.dumps({"what": name, **facts}) + "\n")
    sys.stdout.flush()


def measure_first_paint() -> None:
    """From before the process is made to behind its first paint."""
    seconds = []
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "UNDERSTUDY_HOME": home}
        code = _CHILD.format(root=str(ROOT))
        for _ in range(_STARTS):
            began = time.time()
            out = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=environment,
                check=True, timeout=60,
            ).stdout.split()  # fmt: skip
            seconds.append(float(out[0]) - began)
    rounded = [round(value, 3) for value in sorted(seconds)]
    say("first_paint", median_s=round(statistics.median(seconds), 3), all_s=rounded, page=out[1])


def measure_chart(app: Any) -> None:
    """Repaint at 960x300 with 100,000 points, and reading them."""
    from app.widgets.chart import LossChart

    luck, count = random.Random(0), 100_000
    points = [
        (n, 0.8 + 2 * math.exp(-8 * n / count) + luck.gauss(0, 0.12)) for n in range(1, count + 1)
    ]
    held_out = [(n, 0.9 + 1.9 * math.exp(-8 * n / count)) for n in range(0, count, 5000)]
    chart = LossChart()
    chart.resize(960, 300)
    began = time.perf_counter()
    chart.plot.behind = True
    while chart.plot.behind:
        chart.plot.show(points, held_out, steps=count, best=90_000)
    reading = time.perf_counter() - began
    chart.show()
    app.processEvents()
    took = []
    for _ in range(_REPAINTS):
        began = time.perf_counter()
        chart.repaint()
        took.append((time.perf_counter() - began) * 1000)
    say(
        "chart_100k", median_ms=round(statistics.median(took), 2), max_ms=round(max(took), 2),
        append_us=round(reading / count * 1e6, 2),
    )  # fmt: skip


class Watch:
    """Gaps of the event loop, and the way of each step from the worker onto the screen.

    Attributes:
        gaps: seconds between two rounds of the event loop.
        busy: seconds of processor time the window itself took in each; the rest of a gap is
            others' share of the machine.
    """

    def __init__(self) -> None:
        from PySide6.QtCore import Qt, QTimer

        self.gaps: list[float] = []
        self.busy: list[float] = []
        self.latencies: list[float] = []
        self._open: list[tuple[int, float]] = []
        self._last, self._spent = time.perf_counter(), time.thread_time()
        self._timer = QTimer(interval=5, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def see(self, chart: Any) -> None:
        """Everything up to the chart's newest step is on the screen now."""
        now, steps = time.perf_counter(), chart.plot.raw.steps
        shown = steps[-1] if len(steps) else 0
        self.latencies += [now - at for step, at in self._open if step <= shown]
        self._open = [(step, at) for step, at in self._open if step > shown]

    def hear(self, event: Any) -> None:
        """An event came."""
        if type(event).__name__ == "TrainStep":
            self._open.append((event.step, time.perf_counter()))

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        spent = time.thread_time()
        self.busy.append(spent - self._spent)
        self._last, self._spent = now, spent


def memory() -> float:
    """Of this process, MB."""
    out = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    ).stdout
    return round(int(out) / 1024, 1)


def until(check: Any) -> None:
    """Let the window live until something holds."""
    from PySide6.QtCore import QEventLoop, QTimer

    # not QApplication.quit: it would close the window first
    loop, timer = QEventLoop(), QTimer(interval=10)
    timer.timeout.connect(lambda: loop.quit() if check() else None)
    timer.start()
    loop.exec()
    timer.stop()


def measure_sample() -> None:
    """Try with Sample as a person does it: train, ask five times, export; then what it took."""
    from app.application import Application

    with tempfile.TemporaryDirectory() as home:
        application, watch = Application(Path(home)), Watch()
        application.start()
        until(lambda: len(application.window.pages) == 6)  # made ahead, while nothing happens
        began = time.perf_counter()
        application.try_sample()
        until(lambda: application.progress.status == "finished")
        trained = time.perf_counter() - began
        application.window.go("compare")
        page: Any = application.window.page
        answered: list[Any] = []
        page.talk.answered.connect(answered.append)
        worst, busy = [], 0.0
        for count in range(1, 6):
            until(lambda: not page.talk.busy)
            watch.gaps.clear()
            watch.busy.clear()
            page.ask()
            until(lambda count=count: len(answered) == count)
            worst.append(round(max(watch.gaps) * 1000, 1))
            busy = max(busy, *watch.busy)
        asked = time.perf_counter() - began - trained
        application.window.go("export")
        until(lambda: application.window.page.primary().enabled)
        application.window.page.act()
        until(lambda: bool(application.progress.state.exports))
        made = application.progress.state.exports[-1]
        say(
            "sample", total_s=round(time.perf_counter() - began, 1), training_s=round(trained, 1),
            five_questions_s=round(asked, 1), verdict=made["words"],
        )  # fmt: skip
        say("two_panes", longest_gaps_ms=worst, longest_busy_ms=round(busy * 1000, 1))
        application.queue.leave()
        application.tasks.wait()


def measure_training() -> None:
    """The demo with the real worker, watched from the Train page; then a kill."""
    from app.application import Application
    from app.project import DataChoice, ModelChoice
    from app.widgets.chart import LossChart

    with tempfile.TemporaryDirectory() as home:
        application, watch = Application(Path(home)), Watch()
        paint = LossChart.paintEvent

        def painted(chart: Any, event: Any) -> None:
            paint(chart, event)
            watch.see(chart)

        LossChart.paintEvent = painted  # type: ignore[method-assign]
        application.start()
        until(lambda: len(watch.gaps) > 100)
        start = memory()
        application.project.update(
            model=ModelChoice("demo", "Storybook"), data=DataChoice("demo", "Shakespeare"),
            preset="demo", settings=_FAST,
        )  # fmt: skip
        application.training.start()
        until(lambda: application.progress.job is not None)
        application.progress.job.said.connect(watch.hear)
        until(lambda: application.progress.state.step >= 1)
        watch.gaps.clear()
        watch.busy.clear()
        began = time.perf_counter()
        until(lambda: application.progress.state.step >= _STEPS - 20)
        rate = application.progress.state.step / (time.perf_counter() - began)
        gaps, late = sorted(watch.gaps), sorted(watch.latencies)
        worst = [round(gap * 1000, 1) for gap in gaps[-3:]]
        say(
            "training", steps_per_second=round(rate, 1), longest_gaps_ms=worst,
            longest_busy_ms=round(max(watch.busy) * 1000, 1),
            median_gap_ms=round(statistics.median(gaps) * 1000, 1),
            event_to_screen_median_ms=round(statistics.median(late) * 1000, 1),
            event_to_screen_p95_ms=round(late[int(len(late) * 0.95)] * 1000, 1),
        )  # fmt: skip
        began = time.perf_counter()
        os.kill(application.progress.job.pid, signal.SIGKILL)
        page: Any = application.window.page
        until(lambda: page.state == "error")
        application.window.repaint()
        say("kill_to_banner", ms=round((time.perf_counter() - began) * 1000, 1))
        gc.collect()
        say("memory", after_start_mb=start, after_run_mb=memory())
        application.tasks.wait()


def main(names: list[str]) -> None:
    """Measure what is named; everything without a name."""
    wanted = names or ["paint", "chart", "train", "sample"]
    if "paint" in wanted:
        measure_first_paint()
    if wanted == ["paint"]:
        return
    from PySide6.QtWidgets import QApplication

    from app.theme import prepare

    app = QApplication([])
    prepare(app)
    app.setQuitOnLastWindowClosed(False)
    if "chart" in wanted:
        measure_chart(app)
    if "train" in wanted:
        measure_training()
    if "sample" in wanted:
        measure_sample()


if __name__ == "__main__":
    main(sys.argv[1:])
