"""Work in workers: a job is one QProcess read as typed events, the queue lets one train at a time.

A job knows nobody: it says events and one outcome. Nothing here ends a worker that is slow; only a
person does that, with Force Stop.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Literal

import msgspec
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from mlx_lora import events, jobs
from mlx_lora.child import patience, worker_command, worker_environment
from mlx_lora.storage import hide_home

if TYPE_CHECKING:
    from pathlib import Path

_TAIL = 200
# the longest line of output that is waited for; a progress bar may never end its line
_LINE = 1 << 16
State = Literal["waiting", "running", "ended"]


class Job(QObject):
    """One job in a worker of its own.

    Attributes:
        said: every event, in order.
        ended: once, with `Finished` or `Failed`.
        silent: True when the worker has not said a word for too long, False when it is back.
        asked: the last command it was given: pause, resume, stop or save; empty before the first.
        count: how many events it has said; the first one is number 1.
        worker: the process id the worker gave with its hello, 0 before.
        tail: the last lines of what it printed.
    """

    said = Signal(object)
    ended = Signal(object)
    silent = Signal(bool)
    look_every = 1000

    def __init__(self, what: jobs.Job, *, title: str = "", log: Path | None = None) -> None:
        super().__init__()
        self.what, self.title, self.state = what, title, "waiting"
        self.outcome: events.Finished | events.Failed | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.asked, self.count, self.worker = "", 0, 0
        self._log, self._rest, self._printed = log, b"", b""
        self._last: events.Event | None = None
        self._heard, self._quiet, self._idle = 0.0, False, False
        self._seconds: deque[float] = deque(maxlen=50)
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.readyReadStandardError.connect(self._read_log)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._trouble)
        self._watch = QTimer(self, interval=self.look_every)
        self._watch.timeout.connect(self._look)

    @property
    def pid(self) -> int:
        """Of the worker, 0 where there is none."""
        return int(self._process.processId())

    def start(self) -> None:
        """Start the worker and hand it the job."""
        self.state, self._heard = "running", time.monotonic()
        environment = QProcessEnvironment()
        for name, value in worker_environment().items():
            environment.insert(name, value)
        self._process.setProcessEnvironment(environment)
        program, *arguments = self.command()
        self._process.start(program, arguments)
        self.send(self.what)
        self._watch.start()

    def command(self) -> list[str]:
        """What starts the worker."""
        return worker_command()

    def send(self, command: msgspec.Struct) -> None:
        """Say something to the worker; one that is gone does not mind."""
        if isinstance(command, jobs.Command):
            self.asked = command.type
        if self._idle:
            self._idle, self._heard = False, time.monotonic()
        if self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.write(msgspec.json.encode(command) + b"\n")

    def stop(self) -> None:
        """Finish the step, save, leave."""
        self.send(jobs.Command(type="stop"))

    def cancel(self) -> None:
        """Give up before it began."""
        if self.state == "waiting":
            self._end(events.Finished(reason="stopped"))

    def allowed_silence(self) -> float:
        """Seconds without a word after which it counts as not responding; none while it idles."""
        return math.inf if self._idle else patience(self._seconds)

    def leave(self) -> None:
        """The owner goes: the worker saves and leaves by itself."""
        self._process.closeWriteChannel()

    def kill(self) -> None:
        """End it at once; what it saved stays whole."""
        self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, without events; for leaving the app only."""
        return self._process.waitForFinished(round(seconds * 1000))

    def _read(self) -> None:
        chunk = bytes(self._process.readAllStandardOutput().data())
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            event = events.decode(line)
            if event is not None:
                self._hear(event)

    def _hear(self, event: events.Event) -> None:
        now = time.monotonic()
        if isinstance(event, events.TrainStep):
            self._seconds.append(now - self._heard)
        if isinstance(event, events.Hello):
            self.worker = event.pid
        self._heard, self._last = now, event
        self._idle = event == events.Phase("idle")
        self.count += 1
        self._set_quiet(False)
        self.said.emit(event)

    def _read_log(self) -> None:
        """Keep whole lines: a path or a letter cut in two would not be recognised."""
        chunk = bytes(self._process.readAllStandardError().data())
        lines = (self._printed + chunk).replace(b"\r", b"\n").split(b"\n")
        self._printed = lines.pop()
        if len(self._printed) > _LINE:
            lines, self._printed = [*lines, self._printed], b""
        self._keep(lines)

    def _keep(self, lines: list[bytes]) -> None:
        texts = [hide_home(line.decode("utf-8", "replace")) for line in lines]
        self.tail.extend(texts)
        if self._log is None or not texts:
            return
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.write("\n".join(texts) + "\n")
        except OSError:  # a log that cannot be written stops nothing
            self._log = None

    def _look(self) -> None:
        self._set_quiet(time.monotonic() - self._heard > self.allowed_silence())

    def _set_quiet(self, quiet: bool) -> None:
        if quiet != self._quiet:
            self._quiet = quiet
            self.silent.emit(quiet)

    def _trouble(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            why = f"its worker could not be started ({self._process.errorString()})"
            fix = "install Understudy again"
            self._end(events.Failed(code="internal", where="worker", why=why, fix=fix))

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        self._read_log()
        if self._printed:
            self._keep([self._printed])
            self._printed = b""
        signal = -code if status == QProcess.ExitStatus.CrashExit else code
        self._end(jobs.judge(self._last, signal, list(self.tail)))

    def _end(self, outcome: events.Finished | events.Failed) -> None:
        if self.state == "ended":
            return
        self.state, self.outcome = "ended", outcome
        self._watch.stop()
        self.ended.emit(outcome)


class KeepAwake:
    """Holds off sleep while a worker lives: on a Mac by `caffeinate`, elsewhere not at all.

    `-i` and never `-d`: with the display on, macOS' GPU watchdog ends long work (mlx issue 3267).
    """

    def __init__(self) -> None:
        self.wanted = True

    def hold(self, pid: int) -> None:
        """Until the process `pid` ends."""
        if self.wanted and sys.platform == "darwin" and pid:
            QProcess.startDetached("/usr/bin/caffeinate", ["-i", "-m", "-w", str(pid)])


class JobQueue(QObject):
    """Heavy jobs, one at a time, in the order they stand in; `changed` after every change."""

    changed = Signal()
    starting = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.awake = KeepAwake()
        self.jobs: list[Job] = []

    @property
    def running(self) -> Job | None:
        """The one that works now."""
        return next((job for job in self.jobs if job.state == "running"), None)

    @property
    def waiting(self) -> list[Job]:
        """Those that wait, the next one first."""
        return [job for job in self.jobs if job.state == "waiting"]

    def add(self, job: Job) -> None:
        """Put a job at the end of the line."""
        self.jobs.append(job)
        job.ended.connect(self._next)
        self._next()

    def move(self, job: Job, by: int) -> None:
        """Let a waiting job go `by` places later (earlier when negative)."""
        line = self.waiting
        at = line.index(job)
        line.insert(max(0, min(len(line) - 1, at + by)), line.pop(at))
        self.jobs = [job for job in self.jobs if job.state != "waiting"] + line
        self.changed.emit()

    def cancel(self, job: Job) -> None:
        """Take a waiting job out, or stop the running one."""
        if job.state == "waiting":
            job.cancel()
        else:
            job.stop()

    def leave(self) -> list[Job]:
        """Let the running job save and leave; those that wait are forgotten. For the end."""
        self.jobs = [job for job in self.jobs if job.state == "running"]
        for job in self.jobs:
            job.leave()
        return self.jobs

    def _next(self) -> None:
        self.jobs = [job for job in self.jobs if job.state != "ended"]
        if self.running is None and self.waiting:
            job = self.waiting[0]
            self.starting.emit(job)
            job.start()
            self.awake.hold(job.pid)
        self.changed.emit()
