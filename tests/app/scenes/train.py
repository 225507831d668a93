"""Train: a run in every state, with an invented worker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication

from app.jobs import Job
from app.project import DataChoice, ModelChoice, recipe_of
from mlx_lora import events, jobs
from mlx_lora.config import build_config, merge
from mlx_lora.runs import Run, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application

NAME = "20261107-152210-qwen3-4b-support-tickets"
STEPS, EPOCH = 4332, 2166
_BASE = 2.71
_FACTS = {"training_rows": 4331, "validation_rows": 481, "model": "Qwen/Qwen3-4B-Instruct"}
_LOG = (
    "loading Qwen/Qwen3-4B-Instruct: 3 files, 2.26 GB",
    "tokenizers 0.22.1: fast tokenizer with 151,669 entries",
    "252 linear layers adapted, 33.0 M of 4.02 B weights learn (0.82 %)",
)


class Told(Job):
    """A job that is at work as far as anybody can see; the scene says its events."""

    def __init__(self, run: Run) -> None:
        super().__init__(jobs.TrainJob(run=str(run.folder), root=""), title=run.name)

    def begin(self) -> None:
        self.state = "running"
        self.tail.extend(_LOG)

    def say(self, *said: events.Event) -> None:
        for event in said:
            self._hear(event)

    def end(self, outcome: events.Finished | events.Failed) -> None:
        self._end(outcome)


def step(at: int, steps: int = STEPS, *, loss: float | None = None) -> events.TrainStep:
    """A loss that falls, with the luck of each batch."""
    luck = 0.5 * (math.sin(at * 12.9898) * 43758.5453 % 1.0 - 0.5) + 0.1 * math.cos(at * 4.1414)
    value = 0.82 + (_BASE - 0.82) * math.exp(-9 * at / steps) + luck if loss is None else loss
    return events.TrainStep(
        step=at, steps=steps, epoch=at / EPOCH, loss=value, learning_rate=1e-4 * (1 - at / steps),
        grad_norm=1.1, tokens=at * 1720, tokens_per_second=1142 + 9 * math.sin(at),
        peak_memory=6_100_000_000, eta=(steps - at) * 0.525,
    )  # fmt: skip


def validation(at: int, loss: float | None = None, steps: int = STEPS) -> events.Validation:
    """What the held-out rows say."""
    value = 0.93 + (_BASE - 0.93) * math.exp(-9.5 * at / steps) if loss is None else loss
    return events.Validation(step=at, loss=value, accuracy=0.71, rows=64)


def sample(at: int) -> tuple[events.Sample, ...]:
    """Two prompts, each a little better than before."""
    angry = "Draft a reply to an angry customer about a late delivery."
    said = {
        800: "We are sorry to hear. Your parcel is on the way and will be there soon. Please wait "
        "for it and contact us when it is there.",
        1600: "Hi Sam, sorry about the delay. Your parcel has left our warehouse and should be "
        "with you this week.",
        2400: "Hi Sam, I’m sorry your parcel is late. It left our warehouse on Tuesday and should "
        "reach you tomorrow before noon. I’ve refunded the shipping fee.",
    }
    base = (
        "Dear Customer, Thank you for reaching out to us. We understand your frustration and we "
        "truly value your feedback. Please be assured that our team is working on it. Is there "
        "anything else I can help you with today?"
    )
    return (
        events.Sample(step=at, prompt=angry, base=base, text=said[at]),
        events.Sample(
            step=at, prompt="Which plan includes phone support?\nAnswer:",
            base=" Most providers offer phone support in their premium plans.",
            text=" Phone support comes with Team and Business. You can switch any time.",
        ),
    )  # fmt: skip


# what a worker says of how it computes
ENGINE = {
    "base": "packed", "batching": "pack", "loss": "chunked", "recompute": 2, "prefix": True,
    "compiled": True, "source": "measured", "padding": 0.013, "row_length": 512,
    "prefix_bytes": 412_000_000,
    "measured": [
        {"batching": "pack", "compiled": True, "seconds_per_token": 0.00081},
        {"batching": "buckets", "compiled": True, "seconds_per_token": 0.00098},
        {"batching": "pack", "compiled": False, "seconds_per_token": 0.00102},
        {"batching": "buckets", "compiled": False, "seconds_per_token": 0.00117},
    ],
    "words": [
        "Short rows of yours share rows of 512 tokens and do not see each other; 1.3% of the work "
        "is on nothing.",
        "The scores of all words are made for a few tokens at a time, to save memory.",
        "To save memory, what one layer in 2 made is computed again when it is needed.",
        "What the frozen layers make of your rows is kept over the epochs (412 MB).",
        "Each step goes through MLX's compiler.",
        "This was the fastest of 4 ways tried on this machine.",
    ],
}  # fmt: skip


def opening() -> list[events.Event]:
    """Until the first step."""
    return [
        events.Hello(pid=4711), events.Phase("loading_model"), events.Phase("reading_data"),
        events.Report(kind="setup", data={"data": _FACTS, "steps": STEPS}),
        events.Phase("validation", 0, 64), validation(0), events.Phase("training", 0, STEPS),
    ]  # fmt: skip


def training(until: int = 2610) -> list[events.Event]:
    """The steps of a run that goes well."""
    said = opening()
    for at in range(1, until + 1):
        said.append(step(at))
        if at % 200 == 0:
            said += [validation(at)]
            said += [events.CheckpointSaved(step=at, path=f"checkpoints/step-{at:06}", best=True)]
        if at in {800, 1600, 2400}:
            said += sample(at)
    return said


def choose(application: Application, **settings: Any) -> RunRecord:
    """A project with everything chosen, and the record of a run of it."""
    application.project.update(
        name="support-tickets",
        model=ModelChoice("Qwen/Qwen3-4B-Instruct", "Qwen3 4B Instruct", "4-bit"),
        data=DataChoice("~/Data/support_tickets.jsonl", "support_tickets", _FACTS),
        settings=settings,
    )
    sources = {
        "model": {"source": "Qwen/Qwen3-4B-Instruct"},
        "data": {"source": "~/Data/support_tickets.jsonl"},
        "training": {"eval_every": 200, "sample_every": 800},
    }
    return RunRecord(
        config=build_config(merge(sources, settings)), versions={}, data_sha256="0",
        base_fingerprint="0", model_name="Qwen3-4B-Instruct", created="2026-11-07",
    )  # fmt: skip


def make_run(
    application: Application, said: list[events.Event], name: str = NAME, **settings: Any
) -> Run:
    """A run folder with these events, the project's."""
    record = choose(application, **settings)
    run = application.runs.create(record, "", application.runs.runs / name)
    with (run.folder / "events.jsonl").open("wb") as file:
        file.writelines(events.encode(event) for event in said)
    return run


def adopt(application: Application, run: Run) -> None:
    """The project's run is this one; its past is read."""
    recipe = recipe_of(application.project.value)
    application.project.update(run=run.name, recipe=recipe)
    settle(application)
    application.window.go("train")


def settle(application: Application) -> None:
    """What is read elsewhere has arrived."""
    application.tasks.wait()
    QApplication.processEvents()


def past(application: Application, said: list[events.Event], **settings: Any) -> None:
    """A run nobody works on."""
    adopt(application, make_run(application, said, **settings))


def live(
    application: Application, said: list[events.Event], *, begin: bool = True, **settings: Any
) -> Told:
    """A run at work that has said all this."""
    run = make_run(application, [], **settings)
    job = Told(run)
    application.queue.jobs.append(job)
    if begin:
        job.begin()
    adopt(application, run)
    job.say(*said)
    application.progress.refresh()
    return job


def _failure(code: str, why: str) -> events.Failed:
    return events.Failed(code=code, where="worker", why=why, fix="", saved="")


def _empty(application: Application) -> None:
    choose(application)
    application.window.go("train")


def _loading(application: Application) -> None:
    past(application, training(400))
    page = application.window.page
    page.pause.hide()
    page.show_loading("Reading the run…")
    page._sign.timeout.emit()


def _checking(application: Application) -> None:
    choose(application)
    application.training.checking = True
    application.window.go("train")


def _queued(application: Application) -> None:
    before = make_run(application, [], "20261107-151000-llama-1b-recipes")
    first = Told(before)
    first.begin()
    application.queue.jobs.append(first)
    live(application, [], begin=False)


def _preparing(application: Application) -> None:
    live(application, [*opening()[:3], events.Phase("rendering", 2100, 4812)])


def _running(application: Application) -> None:
    live(application, training())


def _first_steps(application: Application) -> None:
    live(application, training(14))


def _validating(application: Application) -> None:
    live(application, [*training(2600), events.Phase("validation", 16, 64)])


def _paused(application: Application) -> None:
    said = [events.CheckpointSaved(step=2610, path="", best=False), events.Phase("paused")]
    live(application, [*training(), *said])


def _stopping(application: Application) -> None:
    live(application, training()).asked = "stop"
    application.progress.refresh()


def _sheet(application: Application) -> None:
    _running(application)
    application.window.page.ask_to_stop()


def _values(application: Application) -> None:
    _running(application)
    chart = application.window.page.chart
    for key in (Qt.Key.Key_Home, *[Qt.Key.Key_PageDown] * 4):
        chart.keyPressEvent(QKeyEvent(QKeyEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier))


def _log_scale(application: Application) -> None:
    _running(application)
    application.window.page.loss.log.click()


def _earlier(application: Application) -> None:
    _running(application)
    application.window.page.samples.slider.setValue(0)


def _log(application: Application) -> None:
    _running(application)
    application.window.page.show_log()


def _output(application: Application) -> None:
    _running(application)
    application.window.page.record.turn("output")


def computing(until: int = 2610) -> list[events.Event]:
    """A run that says how it computes, and what the whole process takes."""
    said = training(until)
    at = next(at for at, event in enumerate(said) if isinstance(event, events.Report)) + 1
    taken = [
        msgspec.structs.replace(event, footprint=7_400_000_000)
        if isinstance(event, events.TrainStep)
        else event
        for event in said
    ]
    return [*taken[:at], events.Report(kind="engine", data=ENGINE), *taken[at:]]


def _told(application: Application) -> None:
    live(application, computing())


def _computing(application: Application) -> None:
    live(application, computing())
    application.window.page.record.turn("engine")


def _measuring(application: Application) -> None:
    live(application, [*opening()[:3], events.Phase("measuring_forms", 1, 4)])


def _overfitting(application: Application) -> None:
    said = training(1800)
    for number, at in enumerate(range(2000, 2601, 200), start=1):
        said += [step(n) for n in range(at - 199, at + 1)]
        said += [validation(at, 0.93 + 0.035 * number)]
        said += [events.CheckpointSaved(step=at, path="", best=False)]
    live(application, said)


def _slow(application: Application) -> None:
    said = opening()
    for at in range(1, 1300):
        said.append(step(at, loss=_BASE + 0.1 * math.sin(at * 12.9898)))
        if at % 200 == 0:
            said += [validation(at, _BASE - 0.0001 * at / 200)]
            said += [events.CheckpointSaved(step=at, path="", best=True)]
    past(application, [*said, events.Finished(reason="stopped", result={})])


def _diverged(application: Application) -> None:
    job = live(
        application,
        [*training(620), *(step(n, loss=2.0 + 0.4 * (n - 620)) for n in range(621, 640))],
        training={"learning_rate": 2e-3},
    )
    application.queue.jobs.remove(job)
    job.end(_failure("diverged", "the loss rose from 2.71 to 9.64 and stays there"))


def _fails(application: Application, code: str, why: str, *log: str) -> None:
    job = live(application, training())
    job.tail.extend(log)
    application.queue.jobs.remove(job)
    job.end(_failure(code, why))


def _memory(application: Application) -> None:
    words = (
        "libc++abi: terminating due to uncaught exception of type std::runtime_error:",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008)",
    )
    _fails(application, "out_of_memory", "memory ran out", *words)


def _killed(application: Application) -> None:
    _fails(application, "killed", "the system ended the worker")


def _details(application: Application) -> None:
    _memory(application)
    application.window.page.banner.more.click()


def _silent(application: Application) -> None:
    live(application, training()).silent.emit(True)


def _interrupted(application: Application) -> None:
    past(application, training())


def _stopped(application: Application) -> None:
    saved = events.CheckpointSaved(step=2610, path="", best=False)
    past(application, [*training(), saved, events.Finished(reason="stopped", result={})])


def _end(reason: str, best: int) -> list[events.Event]:
    result = {"adapter": "adapter", "step": best, "last_step": 2610}
    last = events.Validation(step=best, loss=0.941, accuracy=0.72, rows=481)
    return [last, events.Finished(reason=reason, result=result)]


def _done(application: Application) -> None:
    past(application, [*training(STEPS), *_end("done", 4200)])


def _early(application: Application) -> None:
    past(application, [*training(), *_end("early_stop", 1800)])


def _no_rows(application: Application) -> None:
    said = [event for event in training() if not isinstance(event, events.Validation)]
    live(application, said)


def _other(application: Application) -> None:
    _done(application)
    application.project.update(preset="thorough")


SCENES: dict[str, Callable[[Application], None]] = {
    "train-empty": _empty,
    "train-loading": _loading,
    "train-checking": _checking,
    "train-queued": _queued,
    "train-preparing": _preparing,
    "train-first-steps": _first_steps,
    "train-running": _running,
    "train-validating": _validating,
    "train-paused": _paused,
    "train-stopping": _stopping,
    "train-stop-sheet": _sheet,
    "train-values": _values,
    "train-log-scale": _log_scale,
    "train-earlier": _earlier,
    "train-log": _log,
    "train-output": _output,
    "train-told": _told,
    "train-computing": _computing,
    "train-measuring": _measuring,
    "train-overfitting": _overfitting,
    "train-slow": _slow,
    "train-diverged": _diverged,
    "train-out-of-memory": _memory,
    "train-details": _details,
    "train-killed": _killed,
    "train-silent": _silent,
    "train-interrupted": _interrupted,
    "train-stopped": _stopped,
    "train-done": _done,
    "train-early": _early,
    "train-no-rows": _no_rows,
    "train-other": _other,
}
