"""Runs in processes of their own, and what is left of them: for the tests of what survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora import checkpoints, events, jobs
from mlx_lora.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wanted = Callable[[events.Event], bool]

ROOT = Path(__file__).parents[1]
SCENE = "FIRST:\nWho goes there in the {}?\n\nSECOND:\nA friend, with bread and wine.\n\n"
# two micro-batches, dropout, cosine; validated, sampled and saved at different steps
HARD = (
    *("--max-length", "64", "--steps", "16", "--dropout", "0.1", "--grad-accumulation", "2"),
    *("--eval-every", "4", "--save-every", "3", "--sample-every", "8", "--learning-rate", "2e-3"),
)


def write_play(folder: Path) -> Path:
    """Data for a few steps."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "play.txt"
    path.write_text("".join(SCENE.format(f"night of day {n}") for n in range(60)))
    return path


class Process:
    """A process of ours whose stdout is read line by line as it comes."""

    def __init__(
        self, arguments: tuple[str, ...], home: Path, before: str = "", **environment: str
    ) -> None:
        self.lines: list[bytes] = []
        noise = [environment.pop("noise")] if "noise" in environment else []
        self.process = subprocess.Popen(
            [
                *("/bin/sh", "-c", f'{before} exec "$0" "$@"'),
                *(sys.executable, "-P", "-m", "app", *arguments),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "UNDERSTUDY_HOME": str(home),
                "PYTHONPATH": os.pathsep.join([*noise, str(ROOT)]),
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._stderr, self._deaf = b"", False
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def stderr(self) -> str:
        """All of it, once the process ended."""
        return self._stderr.decode()

    @property
    def said(self) -> list[events.Event]:
        """What can be read of it as events."""
        return [event for event in map(events.decode, list(self.lines)) if event is not None]

    def write(self, line: bytes) -> None:
        """A line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def stop_reading(self) -> None:
        """Hear nothing of it any more."""
        self._deaf = True
        self._threads[0].join(10)

    def close(self) -> None:
        """Be gone for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_for(self, wanted: Wanted, timeout: float = 60) -> events.Event:
        """The first event that is wanted."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            found = next((event for event in self.said if wanted(event)), None)
            if found is not None:
                return found
            if self.process.poll() is not None and not any(t.is_alive() for t in self._threads):
                break
            time.sleep(0.002)
        raise AssertionError(f"it never came: {self.said[-3:]} {self.stderr[-800:]}")

    def wait(self, timeout: float = 120) -> int:
        """Its exit code, after everything it said was read."""
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if self._deaf:
                self.process.stdout.close()
                return

    def _read_stderr(self) -> None:
        for line in self.process.stderr or ():
            self._stderr += line


def train(model: Path, data: Path, out: Path, *options: str, **environment: str) -> Process:
    """`understudy train ... --json`, started; the data root is beside `out`."""
    names = ("--model", str(model), "--data", str(data), "--out", str(out), "--json")
    return Process(("train", *names, *options), out.parent / "home", **environment)


def resume(out: Path, **environment: str) -> Process:
    """`understudy resume RUN --json`, started."""
    return Process(("resume", str(out), "--json"), out.parent / "home", **environment)


def worker(out: Path, **environment: str) -> Process:
    """A bare worker on a run, as the window would start one."""
    process = Process(("--worker",), out.parent / "home", **environment)
    process.write(msgspec.json.encode(jobs.TrainJob(run=str(out), root=str(out.parent / "home"))))
    return process


def step(number: int) -> Wanted:
    """Is it the step `number`, or a later one?"""
    return lambda event: isinstance(event, events.TrainStep) and event.step >= number


def finished(event: events.Event) -> bool:
    """Is it the end?"""
    return isinstance(event, events.Finished)


def figures(out: Path) -> dict[str, str]:
    """Every figure of a run that must not depend on luck, as JSON text; the last word counts."""
    found: dict[str, str] = {}
    for line in log_lines(out):
        try:
            # numbers stay the text they are in the file
            event: dict[str, Any] = json.loads(line, parse_float=str)
        except ValueError:
            continue
        match event["type"]:
            case "train_step":
                names = ("loss", "grad_norm", "learning_rate", "tokens", "epoch")
                found[f"step {event['step']}"] = " ".join(str(event[name]) for name in names)
            case "validation":
                key = f"validation {event['step']} of {event['rows']}"
                found[key] = f"{event['loss']} {event['accuracy']}"
            case "sample":
                found[f"sample {event['step']} {event['prompt']}"] = event["text"]
            case "finished":
                found["finished"] = json.dumps(event, sort_keys=True)
            case _:
                pass
    return found


def log_lines(out: Path) -> list[bytes]:
    """The lines of its events.jsonl."""
    path = out / "events.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []


def outcome(out: Path) -> dict[str, Any]:
    """What a finished run leaves: figures, adapter bytes, everything its last checkpoint holds."""
    newest = checkpoints.scan(out / "checkpoints")[-1]
    return {
        "figures": figures(out),
        "adapter": (out / "adapter" / "adapters.safetensors").read_bytes(),
        "config": (out / "adapter" / "adapter_config.json").read_bytes(),
        "weights": tensors(newest.file(checkpoints.WEIGHTS)),
        "moments": tensors(newest.file(checkpoints.OPTIMIZER)),
        # MLX's own random state begins with the time of day; nothing is drawn from it
        "state": {**newest.manifest.state, "random": None},
    }


def tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of every tensor of a safetensors file, in whatever order they lie."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: (info["dtype"], info["shape"], body[slice(*info["data_offsets"])])
        for name, info in header.items()
    }


def leftovers(folder: Path) -> list[str]:
    """What is half-written anywhere below a folder."""
    return [str(path) for path in folder.rglob(".incomplete-*")]


def last_step(out: Path) -> int:
    """The last step its log knows of."""
    steps = [e.step for e in Run(out).events() if isinstance(e, events.TrainStep)]
    return steps[-1] if steps else 0


def resumed_at(said: list[events.Event]) -> int:
    """Where a resumed run took up."""
    return next((e.done for e in said if isinstance(e, events.Phase) and e.name == "resumed"), 0)


def is_gone(pid: int, within: float = 20.0) -> bool:
    """Whether a process ends by itself soon."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if _is_zombie(pid):
            return True
        time.sleep(0.05)
    return False


def _is_zombie(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def instants(seconds: float) -> Iterator[float]:
    """Instants from now on, close together, for as long as `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield time.monotonic()
        time.sleep(0.0005)


def kill(pid: int) -> None:
    """kill -9; one that is gone already does not mind."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def drain(work: Any) -> Any:
    """What a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
