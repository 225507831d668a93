"""The conversation of Compare: both voices are asked, and what they say is passed on.

A worker starts with the first question, stays for the next ones, and leaves when heavy work begins
or another run is looked at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.models.exchange import Exchange, Exchanges, Spoken, spoken_of
from app.models.talk_worker import TalkWorker
from app.problems import Problem, problem_of
from mlx_lora import events, jobs
from mlx_lora.trained import Trained, trained_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.desk import Desk
    from mlx_lora.errors import UserError
    from mlx_lora.runs import Run

State = Literal["off", "loading", "reading", "ready", "answering", "stopping"]
# thirty times a second
_INTERVAL = 33
_SAFE = "Your run, its adapter and everything asked before are kept."
_ENDS = {
    "killed": ("The system ended the engine", "Most often this is because memory ran out."),
    "out_of_memory": (
        "Memory ran out while answering",
        "One answer after the other needs less than both at once, and so does a shorter answer.",
    ),
    "crashed": ("The engine stopped while answering", "Asking again starts it anew."),
    "engine": ("The engine stopped while answering", "Asking again starts it anew."),
}  # fmt: skip


class Piece(msgspec.Struct, frozen=True):
    """What both voices said since the last piece, and how many tokens each has by now."""

    base: str
    adapted: str
    tokens: tuple[int, int]


class Talk(QObject):
    """Asks both voices, keeps what was asked.

    Attributes:
        changed: `state`, `quiet`, the queue or the questions asked so far are others now.
        streamed: a `Piece`, at most thirty times a second.
        answered: the `Exchange` that is complete now, stopped or failed ones included.
        failed: a `Problem`: the worker ended, or could not begin; what was said so far stays.
        noticed: a `Notice` of the worker.
        rows_came: the held-out prompts (dicts with `prompt` and `answer`), or a `Problem`.
        now: the question that is answered now, None where there is none.
        quiet: the worker has said nothing for too long.
    """

    changed = Signal()
    streamed = Signal(object)
    answered = Signal(object)
    failed = Signal(object)
    noticed = Signal(object)
    rows_came = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.worker, self.history = TalkWorker(), Exchanges(desk.tasks)
        self.state: State = "off"
        self.run: Run | None = None
        self.now: Exchange | None = None
        self.quiet = False
        self.rows: list[dict[str, str]] | None = None
        self._number, self._wants_rows = 0, False
        self._forget: Callable[[], None] = lambda: None
        self._texts, self._tokens, self._fresh = ["", ""], [0, 0], ["", ""]
        self._timer = QTimer(self, singleShot=True, interval=_INTERVAL)
        self._timer.timeout.connect(self._pass_on)
        self.worker.said.connect(self._hear)
        self.worker.ended.connect(self._ended)
        self.worker.silent.connect(self._say_quiet)
        desk.queue.starting.connect(lambda _: self.end())
        desk.queue.changed.connect(self.changed)
        desk.progress.changed.connect(self._follow)
        self._follow()

    @property
    def busy(self) -> bool:
        """Whether something is answered or read, or the model loaded for it."""
        return self.state not in {"off", "ready"}

    @property
    def waits(self) -> bool:
        """Whether heavy work must end before anything can be asked."""
        return self._desk.queue.running is not None

    def ask(self, exchange: Exchange, *, together: bool = True) -> None:
        """Ask both voices; the worker is started where there is none."""
        if self.run is None or self.busy or self.waits:
            return
        self._number += 1
        self.now = exchange
        self._texts, self._tokens, self._fresh = ["", ""], [0, 0], ["", ""]
        self._prepare(partial(self._send, exchange, together), exchange.step)

    def want_rows(self) -> None:
        """Prompts of held-out rows: at once where they are known."""
        if self.rows is not None:
            self.rows_came.emit(self.rows)
        elif self.run is not None and not self.busy and not self.waits:
            self._wants_rows = True
            self._prepare(lambda _: self.worker.tell(jobs.HeldOut()), None)

    def stop(self) -> None:
        """End the answer where it is; what is still loading or being read is given up."""
        if self.state == "answering":
            self._set("stopping")
            self.worker.tell(jobs.Cancel(id=self._number))
        elif self.busy:
            self.end()

    def end(self) -> None:
        """Let the worker leave; an answer in the making stays as it is."""
        self._forget()
        self.worker.let_go()
        self._finish("stopped")
        self._set("off")

    def _prepare(self, then: Callable[[Trained], object], step: int | None) -> None:
        """Find the adapter off the window's thread, start the worker, then go on."""
        run = self.run
        assert run is not None
        self._set(self._doing() if self.worker.alive else "loading")

        def found(trained: Trained) -> None:
            if not self.worker.alive:
                self.worker.start(_job(trained, str(self._desk.runs.root)))
            then(trained)

        self._forget = self._desk.tasks.run(lambda: trained_run(run, step), found, self._refuse)

    def _send(self, exchange: Exchange, together: bool, trained: Trained) -> None:
        question = jobs.Question(
            id=self._number, prompt=exchange.prompt, together=together,
            sampling=msgspec.to_builtins(exchange.sampling),
            voice=jobs.Voice(trained.adapter, label="adapted"),
        )  # fmt: skip
        self.worker.tell(question)

    def _doing(self) -> State:
        """What a worker that has loaded is at."""
        if self.now is not None:
            return "answering"
        return "reading" if self._wants_rows else "ready"

    def _hear(self, event: events.Event) -> None:
        match event:
            case events.Phase(name="idle") if self.state == "loading":
                self._set(self._doing())
            case events.Token(row=row, text=text):
                self._tokens[row] += 1
                self._texts[row] += text
                self._fresh[row] += text
                if not self._timer.isActive():
                    self._timer.start()
            case events.Report(kind="answer", data=data) if data.get("id") == self._number:
                self._pass_on()
                error = data.get("error")
                self._complete(spoken_of(data, 0), spoken_of(data, 1), kept=error is None)
                if error is not None:
                    self.failed.emit(_refused(error))
            case events.Report(kind="rows", data=data):
                self._take_rows(data)
            case events.Notice():
                self.noticed.emit(event)
            case _:
                pass

    def _pass_on(self) -> None:
        """What was said since the last time."""
        self._timer.stop()
        fresh, self._fresh = self._fresh, ["", ""]
        if self.now is not None:
            self.streamed.emit(Piece(fresh[0], fresh[1], (self._tokens[0], self._tokens[1])))

    def _complete(self, base: Spoken, adapted: Spoken, *, kept: bool = True) -> None:
        """Nothing will be added to this answer."""
        if self.now is None:
            return
        exchange = msgspec.structs.replace(self.now, base=base, adapted=adapted)
        self.now = None
        if kept:
            self.history.add(exchange)
        self._set(self._doing() if self.worker.alive else "off")
        self.answered.emit(exchange)

    def _finish(self, stop: str) -> None:
        """Give up what is wanted; an answer ends as it is."""
        self._wants_rows = False
        if self.now is None:
            return
        self._pass_on()
        base, adapted = (
            Spoken(text=text, tokens=tokens, stop=stop)
            for text, tokens in zip(self._texts, self._tokens, strict=True)
        )
        self._complete(base, adapted, kept=stop == "stopped" and any(self._texts))

    def _take_rows(self, data: dict[str, object]) -> None:
        self._wants_rows = False
        self._set(self._doing())
        error = data.get("error")
        if error:
            self.rows_came.emit(problem_of(msgspec.convert(error, events.Failed)))
            return
        self.rows = msgspec.convert(data["rows"], list[dict[str, str]])
        self.rows_came.emit(self.rows)

    def _ended(self, outcome: events.Finished | events.Failed) -> None:
        """The worker is gone though nobody told it to go."""
        self.quiet = False
        self._finish("failed" if isinstance(outcome, events.Failed) else "stopped")
        self._set("off")
        if isinstance(outcome, events.Failed):
            self.failed.emit(_problem(outcome, self.worker.tail))

    def _refuse(self, error: UserError) -> None:
        """There is no adapter to ask."""
        self._finish("failed")
        self._set(self._doing() if self.worker.alive else "off")
        self.failed.emit(problem_of(error))

    def _follow(self) -> None:
        """The project may look at another run."""
        run = self._desk.progress.run
        if (run.folder if run else None) == (self.run.folder if self.run else None):
            return
        self.end()
        self.run, self.rows = run, None
        self.history.open(run, self.changed.emit)
        self.changed.emit()

    def _say_quiet(self, quiet: bool) -> None:
        self.quiet = quiet
        self.changed.emit()

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.changed.emit()


def _refused(error: dict[str, str]) -> Problem:
    """What is wrong with a question."""
    problem = problem_of(msgspec.convert(error, events.Failed))
    return msgspec.structs.replace(problem, title="This cannot be asked")


def _job(trained: Trained, root: str) -> jobs.TalkJob:
    record = trained.record
    assert record is not None
    return jobs.TalkJob(
        model=record.config.model, data=record.config.data, seed=record.config.training.seed,
        root=root, today=record.created, data_sha256=record.data_sha256,
    )  # fmt: skip


def _problem(outcome: events.Failed, tail: list[str]) -> Problem:
    """The end of the worker, in the words of somebody who only asked something."""
    problem = problem_of(outcome, tail)
    if outcome.code not in _ENDS:
        return msgspec.structs.replace(problem, safe=_SAFE)
    title, text = _ENDS[outcome.code]
    return msgspec.structs.replace(problem, title=title, text=text, safe=_SAFE)
