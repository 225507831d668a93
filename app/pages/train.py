"""Train: watch a run learn, pause it, stop it, and know at any time what is safe."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from app.chart_export import ChartExport
from app.folders import SHOW, reveal
from app.log_feed import LogFeed
from app.models.engine_report import sentences
from app.models.hints import Hint, find_hints, remedy
from app.models.queue_line import place_in_line
from app.models.run_row import named
from app.models.run_words import ending, missing_words, numbers, saved_words
from app.models.stage import line_of, problem_of_run, share_of, stage_of
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.project import recipe_of
from app.steering import RESUMABLE, Steering
from app.widgets.empty import EmptyView
from app.widgets.hint_list import HintList, HintRow
from app.widgets.loss_card import LossCard
from app.widgets.run_record import RunRecord
from app.widgets.run_status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.desk import Desk
    from mlx_lora.errors import UserError
    from mlx_lora.events import Failed

_MOST_HINTS = 2
_OTHER = Hint(
    "other", "info", "You have chosen differently since",
    "Model, data or settings are other ones than this run was made with. It stays as it is.",
    "Start New Run",
)  # fmt: skip


class TrainPage(Page):
    """The project's run, live or as it ended."""

    key, title = "train", "Train"
    purpose = "You can keep using your computer while it learns."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.progress = desk.progress
        self._shown: tuple[object, ...] = ()
        self._hinted: tuple[object, ...] = ()
        self.steering = Steering(desk, self)
        self.pause, self.stop = self.steering.pause, self.steering.stop
        self.add_action(self.pause)
        self.add_action(self.stop)
        self.status, self.hints = RunStatus(), HintList()
        self.loss, self.record = LossCard(), RunRecord(SHOW)
        self.chart, self.samples = self.loss.chart, self.record.samples
        for widget, stretch in ((self.status, 0), (self.hints, 0), (self.loss, 1)):
            self.body.addWidget(widget, stretch)
        self.body.addWidget(self.record)
        self.empty.addWidget(
            EmptyView(
                "chart", "Nothing is training yet",
                "Choose settings and press Train. Loss, samples and what is saved appear here "
                "while it learns.",
                ("Configure", lambda: self.leave.emit("configure")),
            ),
            1,
        )  # fmt: skip
        self.feed = LogFeed(self.progress, desk.tasks, self.record.log, self.record.output)
        self.export = ChartExport(
            self.progress, self.chart.render_to, desk.tasks, self._not_exported
        )
        self.loss.export.connect(lambda kind: self.export.ask(self, kind, self._name()))
        self.record.turned.connect(self.feed.show)
        self.record.reveal.connect(self._reveal)
        for changed in (self.progress.changed, desk.queue.changed, desk.project.changed):
            changed.connect(self.refresh)

    def hint(self) -> str:
        """What is safe."""
        if self.state == "empty":
            return missing_words(self.desk.chosen)
        return saved_words(self.progress)

    def primary(self) -> Primary:
        """On to Compare as soon as there is something to hear."""
        return Primary("Continue to Compare", enabled=self.progress.usable)

    def act(self) -> None:
        """On to Compare."""
        self.leave.emit("compare")

    def entered(self) -> None:
        """Catch up with what happened while another page was shown."""
        self.refresh()

    def show_log(self) -> None:
        """From the menu."""
        self.record.turn("log")
        self.record.log.setFocus()

    def ask_to_stop(self) -> None:
        """From the menu."""
        self.steering.ask_to_stop()

    def refresh(self) -> None:
        """Everything that is seen, from the run as it stands; nothing while another page is."""
        if not self.isVisibleTo(self.window()):
            return
        progress, checking = self.progress, self.desk.training.checking
        self.steering.show()
        if progress.run is None and not checking:
            self._change(("empty",), lambda: self.show_state("empty"))
            return
        if progress.loading and progress.state.status == "new" and progress.job is None:
            self.pause.hide()
            self._change(("loading",), lambda: self.show_loading("Reading the run…"))
            return
        failure = progress.state.failure if progress.status == "failed" else None
        facts = (self._name(), progress.status, failure, progress.quiet, checking)
        self._change(facts, partial(self._enter, failure, checking=checking))
        self._show_numbers(checking=checking)
        self._show_hints()
        self.feed.show(self.record.view)
        self.changed.emit()

    def _change(self, facts: tuple[object, ...], enter: Callable[[], object]) -> None:
        """Once for every other state, so that nothing is announced ten times a second."""
        if facts != self._shown:
            self._shown = facts
            enter()

    def _enter(self, failure: Failed | None, *, checking: bool) -> None:
        """The banner of a state."""
        progress, status = self.progress, self.progress.status
        if failure is not None and not checking:
            self._say_failed(failure)
        elif checking or progress.live or status in {"queued", "running"}:
            self.show_state("running")
            if progress.quiet:
                self._say_silent()
        elif status == "finished":
            self.show_state("done")
            self.banner.say("Training is done", ending(progress), "ok")
        else:
            self.show_state("ready")
            if status == "interrupted":
                self._say_interrupted()

    def _say_silent(self) -> None:
        text = "The worker has not said a word for over a minute. It may recover by itself."
        fix = ("Force Stop…", self.steering.ask_to_force)
        self.banner.say("Not Responding", text, "warn", fix=fix, closable=False)

    def _say_interrupted(self) -> None:
        saved = self.progress.saved
        again = "It goes on{} exactly as if nothing had happened."
        text = again.format(f" from step {saved:,},") if saved else (
            "Nothing was saved yet, so it begins anew."
        )  # fmt: skip
        fix = ("Resume", self.steering.resume)
        self.banner.say("Training was interrupted", text, "warn", fix=fix, closable=False)

    def _say_failed(self, failure: Failed) -> None:
        progress, config = self.progress, self.progress.beside.config
        tail = [text for event in progress.beside.recent if (text := line_of(event))][-20:]
        tail += list(progress.job.tail)[-40:] if progress.job is not None else []
        cure = remedy(failure, config) if config is not None else None
        fix: tuple[str, Callable[[], object]] = ("Start Again", self.desk.training.start)
        if cure is not None:
            fix = (cure.button, partial(self.steering.start_with, cure.changes))
        elif failure.code in RESUMABLE:
            fix = ("Resume", self.steering.resume)
        self.show_error(problem_of_run(progress, failure, tail), fix)

    def _show_numbers(self, *, checking: bool) -> None:
        progress, state = self.progress, self.progress.state
        stage = stage_of(progress, checking=checking)
        queued = progress.status == "queued"
        text = place_in_line(self.desk.queue, progress.job) if queued else stage.text
        self.status.say(stage.word, stage.tone, stage.icon, text)
        self.status.say_share(*share_of(progress))
        held_out = [(v.step, v.loss) for v in state.validations]
        self.chart.show_run(state.losses, held_out, steps=state.steps, best=state.best_step)
        smoothed = self.chart.plot.raw.smoothed
        self.status.say_numbers(*numbers(progress, smoothed[-1] if smoothed else None))
        coming = progress.live or checking or progress.status in {"queued", "new"}
        self.samples.say_empty(
            "Continuations of a few fixed prompts appear here while it learns."
            if coming
            else "This run wrote no samples."
        )
        self.samples.show_frames(state.samples)
        self.record.say_engine(sentences(progress.beside.engine))
        self.loss.save.setEnabled(not self.chart.plot.empty)

    def _show_hints(self) -> None:
        """Remarks, and what they offer; nothing that would line up a second run behind this."""
        progress, project = self.progress, self.desk.chosen
        found = find_hints(progress.state, progress.beside.config, progress.notices)
        if project.run and project.recipe and project.recipe != recipe_of(project):
            found = [_OTHER, *found]
        found = found[:_MOST_HINTS]
        key = (*found, progress.live)
        if key != self._hinted:
            self._hinted = key
            self.hints.show_rows([HintRow(h.tone, h.title, h.text, self._act_of(h)) for h in found])

    def _act_of(self, hint: Hint) -> tuple[str, Callable[[], object]] | None:
        if hint.button and hint.step is not None:
            return hint.button, partial(self._use, hint.step)
        if not hint.button or self.progress.live:
            return None
        return hint.button, partial(self.steering.start_with, hint.changes)

    def _use(self, step: int) -> None:
        self.desk.project.update(checkpoint=step)
        self.leave.emit("compare")

    def _name(self) -> str:
        run = self.progress.run
        return named(run.name)[1] if run is not None else ""

    def _reveal(self) -> None:
        if self.progress.run is not None:
            reveal(self.progress.run.folder)

    def _not_exported(self, error: UserError) -> None:
        self.banner.show_problem(problem_of(error), closable=True)
