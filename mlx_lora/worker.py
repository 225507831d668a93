"""The worker process: owns stdout, stdin and the exit code.

One job a process, MLX on its main thread. Out: one JSON line an event on the original stdout;
whatever else prints lands on stderr. In: the job as the first line, then commands; a closed stdin
means the owner is gone: save and leave. Exit: 0 finished or stopped, 2 failed with words, 1 bug.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

import msgspec

from mlx_lora import blas, jobs
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Failed, Hello, encode
from mlx_lora.runs import Run, RunStore
from mlx_lora.storage import hide_home, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator


class Outlet:
    """Where events go: the run's log first, then the owner; `control` hears if it is gone."""

    def __init__(self, stream: BinaryIO, control: Control) -> None:
        self._stream, self._control = stream, control
        self.log: IO[bytes] | None = None

    def send(self, event: Event) -> None:
        """Write one event."""
        line = encode(event)
        try:
            self._keep(line)
        except UserError:
            if not isinstance(event, Failed):
                raise
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            self._control.stop()

    def _keep(self, line: bytes) -> None:
        """Append to the log; one that cannot be written is given up."""
        log, self.log = self.log, None
        if log is None:
            return
        with storage_errors(Path(log.name)):
            while line:
                line = line[log.write(line) :]
        self.log = log


def main() -> int:
    """Run the job on stdin; returns the exit code."""
    stream = _guard_stdout()
    blas.prepare()
    control = Control()
    outlet = Outlet(stream, control)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: control.stop())
    lines = _lines()
    first = next(lines, b"")
    threading.Thread(target=_listen, args=(lines, control), daemon=True).start()
    run: Run | None = None
    with ExitStack() as stack:
        try:
            job: jobs.Job = msgspec.json.decode(first, type=jobs.Job)
            run = _open(job, outlet, stack)
            outlet.send(Hello(pid=os.getpid()))
            for event in _work(job, control):
                outlet.send(event)
        except UserError as error:
            outlet.send(_failed(error, run))
            return 2
        except (RuntimeError, MemoryError) as error:
            # an engine that failed once may hold garbage: nothing is saved from it
            traceback.print_exc()
            outlet.send(_engine_failed(error, run))
            return 2
        except Exception as error:  # noqa: BLE001  (the last resort of the process)
            traceback.print_exc()
            where, why = type(error).__name__, hide_home(str(error)) or "no words"
            outlet.send(
                Failed(code="internal", where=where, why=why, fix="send us worker.log of this run")
            )
            return 1
    return 0


def _work(job: jobs.Job, control: Control) -> Iterator[Event]:
    """The events of a job. Engine imports happen here, after the owner has heard hello."""
    events: Iterator[Event]
    match job:
        case jobs.TrainJob() | jobs.FollowJob() | jobs.ProbeJob():
            events = _train(job, control)
        case jobs.GenerateJob():
            from mlx_lora.generation.voices import speak

            kind = "compare" if isinstance(job, jobs.CompareJob) else "generate"
            events = speak(job, kind, control)
        case jobs.EvaluateJob():
            from mlx_lora.generation.evaluate import evaluate

            events = evaluate(job)
        case jobs.CleanJob():
            from mlx_lora.data.clean import clean

            events = clean(job, control)
        case jobs.InspectJob():
            from mlx_lora.data.inspect import inspect

            events = inspect(job, control)
        case jobs.MeasureJob() | jobs.QuantizeJob():
            events = _weigh(job, control)
        case jobs.LlamaJob():
            from mlx_lora.export.llama_cpp import run

            events = run(job)
        case jobs.DownloadJob() | jobs.VerifyJob() | jobs.Errand():
            events = _bring(job, control)
        case jobs.TalkJob():
            from mlx_lora.generation.conversation import converse

            events = converse(job, control)
    return events


def _bring(
    job: jobs.DownloadJob | jobs.VerifyJob | jobs.Errand, control: Control
) -> Iterator[Event]:
    """Jobs that have a model's files in place, and questions about models."""
    if isinstance(job, jobs.Errand):
        from mlx_lora.models.errands import run_errand

        return run_errand(job)
    if isinstance(job, jobs.VerifyJob):
        from mlx_lora.models.verification import verify

        return verify(job, control)
    from mlx_lora.models.fetch import bring

    return bring(job, control)


def _weigh(job: jobs.MeasureJob | jobs.QuantizeJob, control: Control) -> Iterator[Event]:
    """Jobs that make models, or measure what making them would cost."""
    if isinstance(job, jobs.QuantizeJob):
        from mlx_lora.models.quantization import quantize

        return quantize(job, control)
    if isinstance(job, jobs.ExportJob):
        from mlx_lora.export.export import export

        return export(job, control)
    from mlx_lora.export.measure import measure

    return measure(job, control)


def _train(
    job: jobs.TrainJob | jobs.FollowJob | jobs.ProbeJob, control: Control
) -> Iterator[Event]:
    if isinstance(job, jobs.ProbeJob):
        from mlx_lora.training.probe import probe

        return probe(job, control)
    from mlx_lora.training.company import follow, lead

    root = Path(job.root)
    if isinstance(job, jobs.FollowJob):
        return follow(root, control)
    return lead(Run(Path(job.run)), root, control)


def _open(job: jobs.Job, outlet: Outlet, stack: ExitStack) -> Run | None:
    """Take the locks a job needs and open its log; returns its run where it has one."""
    alone = jobs.TrainJob | jobs.ProbeJob | jobs.EvaluateJob | jobs.MeasureJob | jobs.QuantizeJob
    if isinstance(job, alone):
        stack.enter_context(RunStore(Path(job.root)).engine())
    if not isinstance(job, jobs.TrainJob):
        return None
    run = Run(Path(job.run))
    stack.enter_context(run.lock())
    outlet.log = stack.enter_context(run.append_log())
    return run


def _guard_stdout() -> BinaryIO:
    """Keep fd 1 for events; everything else that prints goes to stderr."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def _lines() -> Iterator[bytes]:
    """Lines of stdin, unbuffered: a buffered reader in a thread trips the exit."""
    rest = b""
    while chunk := os.read(0, 65536):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _listen(lines: Iterator[bytes], control: Control) -> None:
    """Pass the owner's commands on; when stdin closes, the owner is gone."""
    actions = {
        "stop": control.stop,
        "leave": control.stop,
        "pause": control.pause,
        "resume": control.resume,
        "save": control.save,
    }
    for line in lines:
        match jobs.read_command(line):
            case jobs.Command(type=what):
                actions[what]()
            case jobs.Cancel(id=number):
                control.cancel(number)
            case jobs.Question() | jobs.HeldOut() as request:
                control.ask(request)
            case None:
                continue
    control.stop()


def _failed(error: UserError, run: Run | None) -> Failed:
    saved = error.saved or (run.saved() if run else "")
    return Failed(code=error.code, where=error.where, why=error.why, fix=error.fix, saved=saved)


def _engine_failed(error: BaseException, run: Run | None) -> Failed:
    words = hide_home(" ".join(str(error).split())) or type(error).__name__
    memory = isinstance(error, MemoryError) or "alloc" in words.lower() or "memory" in words.lower()
    code = "out_of_memory" if memory else "engine"
    fix = (
        "lower --batch-size or --max-length, or use --grad-checkpoint"
        if memory
        else "resume the run"
    )
    return Failed(
        code=code, where="MLX", why=words[:400], fix=fix, saved=run.saved() if run else ""
    )
