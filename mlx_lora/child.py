"""A worker as a child process, read as typed events: what the command line runs its jobs with."""

from __future__ import annotations

import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora import events, jobs
from mlx_lora.storage import hide_home

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_TAIL = 200


class Child:
    """One job in a fresh process of its own session, so that Ctrl-C reaches its owner alone."""

    def __init__(self, job: jobs.Job, log: Path | None = None) -> None:
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._queue: queue.Queue[events.Event | None] = queue.Queue()
        self._last: events.Event | None = None
        self._seconds: deque[float] = deque(maxlen=50)
        self._process = subprocess.Popen(
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=worker_environment(),
            start_new_session=True,
        )
        self._threads = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_stderr, args=(log,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._write(msgspec.json.encode(job))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, command: jobs.Command) -> None:
        """Say something to it; a worker that is gone does not mind."""
        self._write(msgspec.json.encode(command))

    def read(self) -> Iterator[events.Event]:
        """Everything it says until it ends; too long a silence becomes a notice."""
        quiet_since, warned = time.monotonic(), False
        while True:
            try:
                event = self._queue.get(timeout=1.0)
            except queue.Empty:
                if not warned and time.monotonic() - quiet_since > self._patience():
                    warned = True
                    text = "The worker is not responding. It may recover; Ctrl-C twice ends it."
                    yield events.Notice(level="warning", code="not_responding", text=text)
                continue
            if event is None:
                return
            if isinstance(event, events.TrainStep):
                self._seconds.append(time.monotonic() - quiet_since)
            quiet_since, warned, self._last = time.monotonic(), False, event
            yield event

    def outcome(self) -> events.Finished | events.Failed:
        """How it ended; waits for that."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        return jobs.judge(self._last, code, list(self._tail))

    def kill(self) -> None:
        """End it at once; what it saved stays whole."""
        self._process.kill()

    def _patience(self) -> float:
        return patience(self._seconds)

    def _write(self, line: bytes) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            return
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def _read_events(self) -> None:
        for line in self._process.stdout or ():
            event = events.decode(line)
            if event is not None:
                self._queue.put(event)
        self._queue.put(None)

    def _read_stderr(self, log: Path | None) -> None:
        """Keep the end of what it prints; the log in the run folder names no home folder."""
        for raw in self._process.stderr or ():
            line = hide_home(raw.decode("utf-8", errors="replace"))
            self._tail.append(line)
            # a log that cannot be written must not stop the reading: the worker would stand still
            with suppress(OSError), (log or Path(os.devnull)).open("a", encoding="utf-8") as file:
                file.write(line)


def worker_command() -> list[str]:
    """What starts a worker: from a checkout or an installed package, or inside a bundled app.

    `-P`, so that no `app/` of the current folder shadows ours.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable, "--worker"]
    return [sys.executable, "-P", "-m", "app", "--worker"]


def patience(step_seconds: Collection[float]) -> float:
    """Seconds of silence after which a worker counts as not responding."""
    return max(60.0, 20.0 * statistics.median(step_seconds)) if step_seconds else 60.0


def worker_environment() -> dict[str, str]:
    """The child finds this very code, from a checkout too, whatever folder it is started in."""
    here = str(Path(__file__).parents[1])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
