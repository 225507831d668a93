"""Compare: the same prompt, before and after. Both voices write at the same time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QTimer, Signal

from app.models.checkpoint_list import CheckpointList
from app.models.exchange import Exchange
from app.models.run_row import named
from app.models.talk import Talk
from app.pages.page import Page, Primary
from app.problems import Problem
from app.project import Vote
from app.widgets.answers import Answers
from app.widgets.ask_card import AskCard
from app.widgets.banner import announce
from app.widgets.checkpoint_picker import CheckpointPicker
from app.widgets.nothing_yet import NothingYet
from app.widgets.word_diff import diff_words
from app.words import plural
from mlx_lora import jobs

if TYPE_CHECKING:
    from PySide6.QtGui import QHideEvent

    from app.desk import Desk
    from app.jobs import JobQueue
    from app.models.exchange import Better
    from app.pages.page import State
    from app.widgets.banner import Tone
    from mlx_lora import events

# a worker nobody listens to gives its memory back after so many milliseconds
_AWAY = 30_000
_SHOWN_PAST = 20


class ComparePage(Page):
    """One prompt, two answers.

    Attributes:
        sample: the bundled example is wanted.
        talk: asks, and keeps what was asked.
        checkpoints: the states of the adapter there are.
        card: the prompt and how answers are drawn.
        answers: what both said.
        picker: which state of the adapter is heard.
    """

    sample = Signal()
    key, title = "compare", "Compare"
    purpose = "The same prompt, before and after, side by side."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.talk, self.checkpoints = Talk(desk), CheckpointList(desk)
        self.card = AskCard()
        self.answers = Answers(lambda a, b, then: desk.tasks.run(lambda: diff_words(a, b), then))
        self.picker = CheckpointPicker(self.checkpoints.choose)
        self.add_action(self.picker)
        self.body.addWidget(self.card)
        self.body.addWidget(self.answers, 1)
        self.nothing = NothingYet(lambda: self.leave.emit("train"), self.sample.emit)
        self.empty.addWidget(self.nothing, 1)
        self._run = self._file = ""
        self._together = True
        self._truth, self._notice = ("", ""), ""
        self._told: tuple[Tone, str, str] | None = None
        self._away = QTimer(self, singleShot=True, interval=_AWAY)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        card, talk, desk = self.card, self.talk, self.desk

        def rest() -> None:
            if talk.busy:
                self._away.start()
            elif not self.isVisible():
                talk.end()

        card.asked.connect(self.ask)
        card.stopped.connect(talk.stop)
        card.want_rows.connect(talk.want_rows)
        card.prompt.left.connect(lambda: desk.project.update(prompt=card.prompt.toPlainText()))
        self.answers.voted.connect(self._vote)
        talk.changed.connect(self.refresh)
        talk.streamed.connect(self.answers.stream)
        talk.answered.connect(self._answered)
        talk.failed.connect(self._failed)
        talk.noticed.connect(self._note)
        talk.rows_came.connect(self._offer_rows)
        desk.progress.changed.connect(self.refresh)
        desk.progress.ended.connect(lambda _: self.checkpoints.look())
        self.checkpoints.changed.connect(self.refresh)
        self._away.timeout.connect(rest)

    # -- what the window asks

    def hint(self) -> str:
        """What is true now."""
        if self.state == "empty":
            return "Train first; then both can be asked"
        if self.talk.waits:
            return "Comparing waits until the work at hand is done"
        return "Both use the same seed and settings"

    def primary(self) -> Primary:
        """On to the last step."""
        return Primary("Continue to Export", enabled=self.state != "empty")

    def act(self) -> None:
        """On to the last step."""
        self.leave.emit("export")

    def entered(self) -> None:
        """The page is shown."""
        self._away.stop()
        self.checkpoints.look()
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        """Another page is shown: the engine stays a little, in case this one comes back."""
        super().hideEvent(event)
        self._away.start()

    # -- asking

    def ask(self) -> None:
        """Put the prompt to both; one after the other where memory ran out before."""
        prompt = self.card.prompt.toPlainText()
        if not prompt.strip() or self.talk.busy or self.talk.waits or self.state == "empty":
            return
        exchange = Exchange(
            prompt=prompt, sampling=self.card.sampling, step=self.checkpoints.chosen.step,
            truth=self._truth[1] if self._truth[0] == prompt else "",
        )  # fmt: skip
        self.desk.project.update(prompt=prompt)
        self._notice = ""
        self.answers.begin(exchange)
        self.show_state("ready")
        self.talk.ask(exchange, together=self._together)
        self.refresh()

    def refresh(self) -> None:
        """Everything on the page, from the conversation, the run and the project."""
        self._follow()
        busy, waits = self.talk.busy, self.talk.waits
        state = self._state()
        if state != self.state and not (self.state == "error" and state in {"ready", "done"}):
            self.show_state(state)
        self.nothing.say(live=self.desk.progress.live, begun=self.desk.chosen.run is not None)
        usable = state != "empty"
        self.picker.setVisible(usable)
        self.picker.offer(self.checkpoints.choices, self.checkpoints.chosen.step)
        self.picker.setEnabled(bool(self.checkpoints.choices) and not busy)
        stop = "Cancel" if self.talk.state == "loading" else "Stop"
        self.card.say_state(can_ask=usable and not waits, busy=busy, stop=stop)
        self._say_answers()
        self._say_banner()
        self.changed.emit()

    def _state(self) -> State:
        """Where the page stands."""
        if not self.desk.progress.usable:
            return "empty"
        if self.talk.state == "loading":
            return "loading"
        if self.talk.busy:
            return "running"
        return "done" if self.answers.exchange else "ready"

    def _follow(self) -> None:
        """Another project or run: its prompt, its checkpoints, nothing of the one before."""
        project, progress = self.desk.chosen, self.desk.progress
        run = progress.run.name if progress.run else ""
        if str(self.desk.project.file) != self._file:
            self._file = str(self.desk.project.file)
            self.card.prompt.setPlainText(project.prompt)
        if run != self._run:
            self._run, self._truth, self._together = run, ("", ""), True
            self.answers.clear()
            self.checkpoints.look()
        samples, prompt = progress.state.samples, self.card.prompt
        untouched = not prompt.toPlainText() and not prompt.document().isModified()
        if samples and progress.usable and untouched:
            prompt.setPlainText(samples[0].prompt)

    def _say_answers(self) -> None:
        """Names over the panes, what was asked before, how the verdicts stand."""
        model, shown = self.desk.chosen.model, self.answers.exchange
        step = shown.step if shown else self.checkpoints.chosen.step
        self.answers.base.source.setText(model.title if model else "")
        self.answers.adapted.source.setText(self.checkpoints.name(step))
        if self.talk.now is not None:
            if self.talk.state == "loading":
                self.answers.say_loading()
            else:
                self.answers.say_writing()
        past = self.talk.history.items[: -_SHOWN_PAST - 1 : -1]
        entries = [(exchange.prompt, _note_of(exchange)) for exchange in past]
        self.card.list_past(
            [] if self.talk.busy else entries,
            lambda at: self._choose_past(self.talk.history.items[-1 - at]),
        )
        self.answers.verdict.tally.setText(tally(self.desk.chosen.votes))

    def _say_banner(self) -> None:
        """What stands in the way, most important first; said once."""
        if self.state in {"error", "empty"}:
            return
        told: tuple[Tone, str, str] | None = None
        if self.talk.waits:
            told = ("info", *_waiting(self.desk.queue))
        elif self.talk.quiet:
            text = "It may be busy with something large. Ending it loses this answer only."
            told = ("warn", "The engine has not said a word for a while", text)
        elif self._notice:
            told = ("warn", "Good to know", self._notice)
        if told == self._told and (told is None or self.banner.isVisibleTo(self)):
            return
        self._told = told
        if told is None:
            self.banner.clear()
            return
        tone, title, text = told
        fix = ("Force Stop", self.talk.worker.kill) if tone != "info" and self.talk.quiet else None
        self.banner.say(title, text, tone, fix=fix, closable=False)

    # -- what comes back

    def _answered(self, exchange: Exchange) -> None:
        self.answers.present(exchange)
        self.refresh()
        announce(self, "Both answers are there")

    def _failed(self, problem: Problem) -> None:
        """The engine is gone, or never came; what was said stays on the page."""
        memory = problem.code == "out_of_memory"
        self._together = self._together and not memory
        self._told = None
        text = "Ask One After the Other" if memory else "Ask Again"
        self.show_error(problem, (text, self.ask))
        self.refresh()

    def _note(self, notice: events.Notice) -> None:
        self._notice = notice.text
        self.refresh()

    def _offer_rows(self, found: list[dict[str, str]] | Problem) -> None:
        """Held-out prompts to choose from, or why there are none."""
        if isinstance(found, Problem):
            self.show_error(found)
        elif not found:
            self._notice = "This run held out no rows, so there is no prompt it has never seen."
        else:
            entries = [(row["prompt"], "") for row in found]
            self.card.offer_rows(entries, lambda at: self._choose_row(found, at))
        self.refresh()

    def _choose_row(self, rows: list[dict[str, str]], at: int) -> None:
        """A held-out prompt, at random for -1; its true answer is kept beside it."""
        row = random.choice(rows) if at < 0 else rows[at]
        self._truth = (row["prompt"], row["answer"])
        self.card.prompt.setPlainText(row["prompt"])
        self.card.prompt.setFocus()
        self.desk.project.update(prompt=row["prompt"])

    def _choose_past(self, exchange: Exchange) -> None:
        """Show an earlier question as it was."""
        self.card.prompt.setPlainText(exchange.prompt)
        self.card.show_sampling(exchange.sampling)
        self._truth = (exchange.prompt, exchange.truth)
        self.show_state("done")
        self.answers.present(exchange)
        self.refresh()

    def _vote(self, which: Better) -> None:
        """Judge, or take the judgement back."""
        exchange = self.answers.exchange
        if exchange is None:
            return
        better: Better = "" if exchange.better == which else which
        after = msgspec.structs.replace(exchange, better=better)
        self.talk.history.replace(exchange, after)
        self.answers.say_vote(after)
        votes = tuple(v for v in self.desk.chosen.votes if v.prompt != exchange.prompt)
        new = (Vote(exchange.prompt, better),) if better else ()
        self.desk.project.update(votes=votes + new)
        self.refresh()


def tally(votes: tuple[Vote, ...]) -> str:
    """How the verdicts stand, in words."""
    if not votes:
        return "Press Better or Tie; your verdicts are counted here."
    base, adapted, tie = (
        sum(vote.better == which for vote in votes) for which in ("base", "adapted", "tie")
    )
    return (
        f"{plural(len(votes), 'prompt')} judged: adapted better in {adapted}, "
        f"base in {base}, tie in {tie}."
    )


def _note_of(exchange: Exchange) -> str:
    """What tells an earlier question from its like."""
    drawn = exchange.sampling
    words = {"base": "base better", "adapted": "adapted better", "tie": "tie"}
    heat = f"seed {drawn.seed}" if drawn.temperature else "likeliest words"
    return " · ".join(filter(None, (heat, words.get(exchange.better, ""))))


def _waiting(queue: JobQueue) -> tuple[str, str]:
    """Why nothing can be asked now."""
    running = queue.running
    what = running.what if running else None
    kinds = {jobs.TrainJob: "training is done", jobs.ExportJob: "the export is done"}
    until = kinds.get(type(what), "the work at hand is done")  # type: ignore[arg-type]
    more = len(queue.waiting)
    behind = f" {plural(more, 'more job')} waits behind it." if more == 1 else ""
    behind = f" {plural(more, 'more job')} wait behind it." if more > 1 else behind
    who = f"“{named(running.title)[1]}”" if running and running.title else "It"
    text = f"{who} has the memory and the GPU to itself; your answers stay here."
    return f"Comparing waits until {until}", text + behind
