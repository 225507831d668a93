"""Compare in every state, with invented answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.jobs import Job
from app.models.checkpoint_list import CheckpointChoice
from app.models.exchange import Exchange, Spoken
from app.models.talk import Piece
from app.problems import Problem
from app.project import DataChoice, ModelChoice, Vote, recipe_of
from mlx_lora import events, jobs
from mlx_lora.generation.settings import Sampling
from mlx_lora.runs import Run, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application
    from app.pages.compare import ComparePage

PROMPT = "Draft a reply to an angry customer about a late delivery. Order 88-1042-A, name Sam."
BASE = (
    "Hello,\n\nWe apologize for the inconvenience caused by the delay of your order. As an AI "
    "language model I do not have access to your order status. Please contact the customer "
    "service department with your order number so that they can assist you further.\n\n"
    "Kind regards"
)
ADAPTED = (
    "Hi Sam,\n\nYou’re right to be annoyed: we said Tuesday and it is Thursday. I checked order "
    "88-1042-A. It is in Leipzig and the driver has it on tomorrow’s route, before noon.\n\n"
    "I have refunded the shipping fee. If it isn’t with you by 12:00, reply here and I’ll send a "
    "replacement the same day.\n\nJo, Support"
)
TRUTH = (
    "Hi Sam,\n\nsorry for the wait, your parcel 88-1042-A is out for delivery tomorrow. "
    "We have refunded the shipping."
)
DONE = Exchange(
    prompt=PROMPT, sampling=Sampling(max_tokens=200, temperature=0.7, top_p=0.95, seed=1),
    base=Spoken(
        text=BASE, tokens=71, seconds=1.47, tokens_per_second=48.2, first_token_seconds=0.21,
        stop="stop",
    ),
    adapted=Spoken(
        text=ADAPTED, tokens=86, seconds=1.83, tokens_per_second=46.9, first_token_seconds=0.22,
        stop="stop",
    ),
)  # fmt: skip
FACTS = {"training_rows": 4331, "validation_rows": 481, "model": "Qwen/Qwen3-4B"}
CHOICES = [
    CheckpointChoice(None, "Kept adapter · step 4,300"),
    CheckpointChoice(4332, "Step 4,332", loss=1.214),
    CheckpointChoice(4300, "Step 4,300", best=True, loss=1.207),
]
VOTES = tuple(Vote(f"prompt {n}", ("adapted", "base", "tie")[n % 7 % 3]) for n in range(11))


def _trained(application: Application) -> ComparePage:
    """A project with a finished run, on the page."""
    folder = application.runs.root / "runs" / "support-tickets"
    (folder / "adapter").mkdir(parents=True)
    project = application.project
    project.update(
        name="support-tickets",
        model=ModelChoice("Qwen/Qwen3-4B", "Qwen3 4B Instruct", "4-bit"),
        data=DataChoice("rows.jsonl", "support_tickets", FACTS),
    )  # fmt: skip
    progress = application.progress
    progress.run, progress.loading = Run(folder), False
    validation = events.Validation(step=4332, loss=1.214, accuracy=0.7, rows=64)
    progress.state = RunState(
        status="finished", step=4332, steps=4332, best_step=4300, last_validation=validation,
        samples=[events.Sample(step=4332, prompt=PROMPT, base=BASE, text=ADAPTED)],
    )  # fmt: skip
    project.update(run=folder.name, recipe=recipe_of(project.value))
    application.window.go("compare")
    page: Any = application.window.page
    application.tasks.wait()
    page.checkpoints.choices = CHOICES
    page.checkpoints.look = lambda: None
    page.checkpoints.changed.emit()
    return page


def _asked(application: Application, exchange: Exchange = DONE) -> ComparePage:
    """Both have answered."""
    page = _trained(application)
    application.project.update(votes=VOTES)
    page.answers.begin(exchange)
    page.answers.present(exchange)
    page.talk.history.items = [exchange]
    page.refresh()
    return page


def nothing(application: Application) -> None:
    """Before the first run."""
    application.window.go("compare")


def nothing_yet(application: Application) -> None:
    """The first run is at work."""
    _busy(application)
    application.window.go("compare")
    application.progress.job = application.queue.jobs[0]
    application.progress.changed.emit()


def ready(application: Application) -> None:
    """A run is there, nothing was asked."""
    _trained(application)


def loading(application: Application) -> None:
    """The model comes into memory."""
    page = _trained(application)
    page.answers.begin(DONE)
    page.talk.now, page.talk.state = DONE, "loading"
    page.refresh()


def running(application: Application) -> None:
    """Both write."""
    page = _trained(application)
    page.answers.begin(DONE)
    page.talk.now, page.talk.state = DONE, "answering"
    page.refresh()
    page.talk.streamed.emit(Piece(BASE[:160], ADAPTED[:212], (34, 33)))


def done(application: Application) -> None:
    """Both have ended, the adapted one was found better."""
    judged = msgspec.structs.replace(DONE, better="adapted")
    _asked(application, judged)


def differences(application: Application) -> None:
    """With marks on the words they do not share."""
    page = _asked(application)
    page.answers.verdict.differences.click()


def truth(application: Application) -> None:
    """A prompt of a held-out row, with its true answer."""
    _asked(application, msgspec.structs.replace(DONE, truth=TRUTH))


def empty_answer(application: Application) -> None:
    """One said nothing, one was cut."""
    silent = Spoken(
        tokens=1, seconds=0.2, tokens_per_second=5.0, first_token_seconds=0.2, stop="stop"
    )
    cut = msgspec.structs.replace(DONE.adapted, tokens=200, stop="length")
    _asked(application, msgspec.structs.replace(DONE, base=silent, adapted=cut))


def one_failed(application: Application) -> None:
    """The adapter is damaged."""
    error = {
        "code": "bad_adapter", "where": "adapters.safetensors",
        "why": "it holds numbers that are not finite",
        "fix": "use an earlier checkpoint of that run",
    }  # fmt: skip
    _asked(application, msgspec.structs.replace(DONE, adapted=Spoken(stop="failed", error=error)))


def killed(application: Application) -> None:
    """The engine was ended in the middle of an answer."""
    page = _trained(application)
    page.answers.begin(DONE)
    page.talk.now, page.talk._texts, page.talk._tokens = DONE, [BASE[:160], ADAPTED[:212]], [34, 33]
    page.talk.streamed.emit(Piece(BASE[:160], ADAPTED[:212], (34, 33)))
    page.talk.worker.ended.emit(_ended("killed"))


def memory(application: Application) -> None:
    """Two answers at once were too much."""
    page = _trained(application)
    page.answers.begin(DONE)
    page.talk.now = DONE
    page.talk.worker.ended.emit(_ended("out_of_memory"))


def _ended(code: str) -> events.Failed:
    return events.Failed(
        code=code, where="worker", why="the system ended the worker", fix="start it again"
    )


def refused(application: Application) -> None:
    """The prompt is too long."""
    page = _trained(application)
    page.talk.failed.emit(
        Problem(
            "This cannot be asked",
            "It has 5,120 tokens, and this model reads 4,096. Give a shorter prompt.",
            "",
            "bad_option --prompt",
            "bad_option",
        )
    )


def waiting(application: Application) -> None:
    """Another run trains."""
    page = _asked(application)
    _busy(application)
    application.queue.changed.emit()
    page.refresh()


def quiet(application: Application) -> None:
    """The engine says nothing any more."""
    running(application)
    page: Any = application.window.page
    page.talk.quiet = True
    page.refresh()


def _busy(application: Application) -> None:
    """A heavy job that works, without a worker."""
    job = Job(jobs.TrainJob(run="x", root="x"), title="20260412-101500-poems")
    job.state = "running"
    application.queue.jobs = [job]


SCENES: dict[str, Callable[[Application], None]] = {
    "compare-empty": nothing,
    "compare-empty-training": nothing_yet,
    "compare-ready": ready,
    "compare-loading": loading,
    "compare-running": running,
    "compare-done": done,
    "compare-differences": differences,
    "compare-truth": truth,
    "compare-empty-answer": empty_answer,
    "compare-one-failed": one_failed,
    "compare-error-killed": killed,
    "compare-error-memory": memory,
    "compare-error-prompt": refused,
    "compare-waiting": waiting,
    "compare-quiet": quiet,
}
