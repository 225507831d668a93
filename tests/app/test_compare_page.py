"""Compare, by its buttons: what is asked, what is shown, what is kept, who leaves and when."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from models_made import attach_adapter, randomize_adapter
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QPlainTextEdit

from app.jobs import Job
from app.models import talk_worker
from app.models.exchange import FILE, Exchange
from app.pages.compare import ComparePage, tally
from app.project import DataChoice, ModelChoice, Vote
from app.widgets.word_diff import diff_words
from mlx_lora import __version__, checkpoints, events, jobs
from mlx_lora.config import build_config
from mlx_lora.control import Control
from mlx_lora.generation.voices import speak
from mlx_lora.lora.store import AdapterFacts, save_adapter, write_adapter
from mlx_lora.models.loading import load_model
from mlx_lora.preflight import make_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from mlx_lora.runs import Run, RunRecord

CLICK = Qt.MouseButton.LeftButton
PROMPT = "Once upon a time"


class FakeJob(QObject):
    """A worker that says what the test lets it say."""

    said = Signal(object)
    ended = Signal(object)
    silent = Signal(bool)
    made: list[FakeJob]

    def __init__(self, what: Any, **_: Any) -> None:
        super().__init__()
        self.what, self.sent = what, list[Any]()
        self.tail, self.pid = ["last words"], 1
        self.made.append(self)

    def start(self) -> None:
        """Nothing yet."""

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self.ended.emit(events.Finished(reason="stopped"))

    def kill(self) -> None:
        self.fail("killed")

    def wait(self, _seconds: float) -> bool:
        return True

    def fail(self, code: str) -> None:
        self.ended.emit(events.Failed(code=code, where="worker", why="it went", fix="again"))

    def idle(self) -> None:
        self.said.emit(events.Phase("idle"))

    def token(self, row: int, text: str) -> None:
        self.said.emit(events.Token(row=row, text=text, logprob=-1.0))

    def answer(self, base: str = "one", adapted: str = "two", **more: Any) -> None:
        number = next(m.id for m in reversed(self.sent) if isinstance(m, jobs.Question))
        facts = {"tokens": 3, "seconds": 1.5, "tokens_per_second": 2.0, "first_token_seconds": 0.5}
        voices = [
            {"row": row, "voice": "", "text": text, "stop": "stop", **facts}
            for row, text in enumerate((base, adapted))
        ]
        voices[1] |= more.pop("second", {})
        data = {"id": number, "voices": voices, **more}
        self.said.emit(events.Report(kind="answer", data=data))
        self.idle()

    @property
    def questions(self) -> list[jobs.Question]:
        return [message for message in self.sent if isinstance(message, jobs.Question)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[FakeJob]:
    """Every worker that was started."""
    made: list[FakeJob] = []
    monkeypatch.setattr(FakeJob, "made", made, raising=False)
    monkeypatch.setattr(talk_worker, "Job", FakeJob)
    return made


@functools.cache
def _record() -> tuple[RunRecord, str]:
    sources = {"model": {"source": "demo"}, "data": {"source": "demo", "max_length": 64}}
    return make_record(build_config(sources), Path())


def make_run(application: Application, write: Callable[[Run], None]) -> Run:
    """A finished run of the demo model; `write` gives it its adapter."""
    run = application.runs.create(*_record())
    write(run)
    sample = events.Sample(step=2, prompt=PROMPT, base="a", text="b")
    said = (events.Hello(pid=1), sample, events.Finished(reason="done", result={"step": 2}))
    (run.folder / "events.jsonl").write_bytes(b"".join(map(events.encode, said)))
    return run


def add_checkpoint(run: Run, step: int, loss: float, write: Callable[[Path], None]) -> None:
    checkpoints.save_checkpoint(
        run.checkpoints, step, write, state={}, environment={}, base_fingerprint="",
        validation_loss=loss,
    )  # fmt: skip


@pytest.fixture
def pages() -> Iterator[list[ComparePage]]:
    made: list[ComparePage] = []
    yield made
    for page in made:
        page.talk.worker.close()


def show(application: Application, qtbot: QtBot, run: Run, pages: list[ComparePage]) -> ComparePage:
    """The page, on a run."""
    application.project.update(
        name="Play", model=ModelChoice("demo", "Storybook"), data=DataChoice("demo", "Shakespeare")
    )
    application.project.update(run=run.name)
    page = ComparePage(application.desk)
    pages.append(page)
    qtbot.addWidget(page)
    page.show()
    page.entered()
    qtbot.waitUntil(lambda: page.state == "ready" and bool(page.checkpoints.choices))
    return page


@pytest.fixture
def run(application: Application) -> Run:
    """A finished run whose files nobody reads."""

    def write(run: Run) -> None:
        run.adapter.mkdir()
        for step, loss in ((1, 3.0), (2, 2.5)):
            add_checkpoint(run, step, loss, lambda folder: (folder / "x").write_text("x") and None)

    return make_run(application, write)


@pytest.fixture
def page(
    application: Application, qtbot: QtBot, run: Run, fake: list[FakeJob], pages: list[ComparePage]
) -> ComparePage:
    """The page on a finished run, its worker a fake."""
    assert fake == []
    return show(application, qtbot, run, pages)


def ask(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> FakeJob:
    """Press Ask, and wait until the worker has heard it."""
    before = sum(len(job.questions) for job in fake)
    qtbot.mouseClick(page.card.ask, CLICK)
    qtbot.waitUntil(lambda: sum(len(job.questions) for job in fake) > before)
    if page.talk.state == "loading":
        fake[-1].idle()
    return fake[-1]


# -- words that differ


def test_words_that_differ_are_marked() -> None:
    left, right = diff_words("the old king said no.", "the young king said no, twice.")
    assert [(s.text, s.kind) for s in left if s.kind != "same"] == [("old", "removed")]
    marked = [(s.text, s.kind) for s in right if s.kind != "same"]
    assert marked == [("young", "added"), (", twice", "added")]
    assert diff_words("a b", "a\n b")[0] == diff_words("a b", "a b")[0]
    assert diff_words("", "") == ([], [])


def test_marks_change_no_letter() -> None:
    luck = random.Random(3)
    for _ in range(200):
        texts = ["".join(luck.choices("ab .,\n\t’é", k=luck.randrange(30))) for _ in range(2)]
        for text, spans in zip(texts, diff_words(*texts), strict=True):
            assert "".join(span.text for span in spans) == text
            assert all(s.text.strip() == s.text for s in spans if s.kind != "same")


# -- asking


def test_one_click_shows_a_result(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    assert page.card.prompt.toPlainText() == PROMPT
    assert fake == []
    qtbot.mouseClick(page.card.ask, CLICK)
    assert page.state == "loading"
    assert page.answers.base.status.text() == "Loading the model…"
    assert page.card.ask.text() == "Cancel"
    qtbot.waitUntil(lambda: bool(fake and fake[0].questions))
    job = fake[0]
    assert job.what.model.source == "demo"
    assert job.what.data_sha256
    (question,) = job.questions
    assert question.prompt == PROMPT
    assert question.voice is not None
    assert question.voice.adapter == str(page.talk.run.adapter)  # type: ignore[union-attr]
    assert question.sampling["seed"] == page.card.sampling.seed
    job.idle()
    assert page.state == "running"
    assert page.card.ask.text() == "Stop"
    job.token(0, "on\n")
    job.token(1, " tw")
    with qtbot.waitSignal(page.talk.streamed):
        pass
    assert page.answers.base.view.toPlainText() == "on\n"
    assert page.answers.adapted.view.toPlainText() == " tw"
    job.answer("on\ne", " two")
    assert page.state == "done"
    assert page.answers.base.text == "on\ne"
    assert page.answers.base.status.text() == "Ended by itself"
    assert page.answers.base.facts.text() == "3 tokens · 2.0 tok/s · first in 0.50 s"
    assert page.hint() == "Both use the same seed and settings"
    assert page.primary().enabled
    qtbot.mouseClick(page.answers.adapted.copy, CLICK)
    assert QGuiApplication.clipboard().text() == " two"


def test_the_worker_stays_for_the_next_question(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    ask(page, qtbot, fake).answer()
    page.card.pills["temperature"].number.setValue(0)
    page.card.pills["max_tokens"].number.setValue(12)
    seed = page.card.sampling.seed
    qtbot.mouseClick(page.card.seed_again, CLICK)
    page.checkpoints.choose(1)
    job = ask(page, qtbot, fake)
    assert len(fake) == 1
    first, second = job.questions
    assert first.id != second.id
    assert (second.sampling["temperature"], second.sampling["max_tokens"]) == (0, 12)
    assert second.sampling["seed"] != seed
    assert second.voice is not None
    assert second.voice.adapter is not None
    assert second.voice.adapter.endswith("step-000001")
    assert page.answers.adapted.source.text() == "Step 1"


def test_tokens_are_passed_on_thirty_times_a_second(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    job = ask(page, qtbot, fake)
    heard: list[Any] = []
    page.talk.streamed.connect(heard.append)
    for number in range(300):
        job.token(number % 2, "x ")
    assert heard == []
    qtbot.waitUntil(lambda: bool(heard))
    assert len(heard) == 1
    assert heard[0].tokens == (150, 150)
    assert page.answers.base.text == "x " * 150


def test_stop_keeps_what_was_said(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    job = ask(page, qtbot, fake)
    job.token(0, "half")
    qtbot.mouseClick(page.card.ask, CLICK)
    assert job.sent[-1] == jobs.Cancel(id=job.questions[0].id)
    job.answer("half", "", second={"stop": "stopped", "tokens": 0})
    assert page.answers.base.text == "half"
    assert page.answers.adapted.status.text() == "Stopped"
    assert page.answers.adapted.view.placeholderText().startswith("The answer is empty")
    assert page.card.ask.text() == "Ask"


def test_a_model_that_loads_can_be_given_up(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    qtbot.mouseClick(page.card.ask, CLICK)
    qtbot.waitUntil(lambda: bool(fake and fake[0].questions))
    qtbot.mouseClick(page.card.ask, CLICK)
    assert page.talk.state == "off"
    assert page.card.ask.text() == "Ask"
    ask(page, qtbot, fake)
    assert len(fake) == 2


@pytest.mark.parametrize("prompt", ["", " \n\t"])
def test_nothing_is_not_asked(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob], prompt: str
) -> None:
    page.card.prompt.setPlainText(prompt)
    qtbot.mouseClick(page.card.ask, CLICK)
    assert page.talk.state == "off"
    assert fake == []


def test_the_keyboard_asks_and_goes_on(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    prompt = page.card.prompt
    prompt.setFocus()
    qtbot.keyClick(prompt, Qt.Key.Key_Return)
    assert "\n" in prompt.toPlainText()
    qtbot.keyClick(prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert page.talk.busy
    qtbot.waitUntil(lambda: bool(fake))
    assert all(edit.tabChangesFocus() for edit in page.findChildren(QPlainTextEdit))


def test_what_is_typed_is_kept(page: ComparePage, qtbot: QtBot, application: Application) -> None:
    page.card.prompt.setPlainText("Who goes there?")
    page.card.prompt.left.emit()
    assert application.project.value.prompt == "Who goes there?"
    application.project.new("Another")
    assert page.card.prompt.toPlainText() == ""
    assert page.state == "empty"
    assert qtbot is not None


# -- judging


def test_votes_are_counted_and_taken_back(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob], application: Application
) -> None:
    for button in (page.answers.base.better, page.answers.verdict.tie):
        assert not button.isEnabled()
    ask(page, qtbot, fake).answer()
    qtbot.mouseClick(page.answers.adapted.better, CLICK)
    assert application.project.value.votes == (Vote(PROMPT, "adapted"),)
    assert page.answers.verdict.tally.text().startswith("1 prompt judged: adapted better in 1")
    qtbot.mouseClick(page.answers.verdict.tie, CLICK)
    assert application.project.value.votes == (Vote(PROMPT, "tie"),)
    assert page.answers.verdict.tie.isChecked()
    assert not page.answers.adapted.better.isChecked()
    qtbot.mouseClick(page.answers.verdict.tie, CLICK)
    assert application.project.value.votes == ()
    assert not page.answers.verdict.tie.isChecked()


def test_the_tally_in_words() -> None:
    votes = (Vote("a", "base"), Vote("b", "adapted"), Vote("c", "adapted"))
    assert tally(votes) == "3 prompts judged: adapted better in 2, base in 1, tie in 0."


def test_differences_are_marked_by_more_than_colour(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    ask(page, qtbot, fake).answer("a day, cold", "a day, warm")
    qtbot.mouseClick(page.answers.verdict.differences, CLICK)
    qtbot.waitUntil(lambda: "warm" in _formatted(page.answers.adapted.view, "fontUnderline"))
    assert _formatted(page.answers.base.view, "fontStrikeOut") == ["cold"]
    assert _formatted(page.answers.adapted.view, "fontUnderline") == ["warm"]
    assert page.answers.adapted.view.toPlainText() == "a day, warm"
    qtbot.mouseClick(page.answers.verdict.differences, CLICK)
    assert _formatted(page.answers.adapted.view, "fontUnderline") == []
    qtbot.mouseClick(page.answers.verdict.differences, CLICK)
    job = ask(page, qtbot, fake)
    job.token(1, "next")
    job.answer("next", "next")
    assert _formatted(page.answers.adapted.view, "fontUnderline") == []


def _formatted(view: QPlainTextEdit, how: str) -> list[str]:
    found, block = [], view.document().begin()
    while block.isValid():
        iterator = block.begin()
        while not iterator.atEnd():
            if getattr(iterator.fragment().charFormat(), how)():
                found.append(iterator.fragment().text())
            iterator += 1
        block = block.next()
    return found


# -- earlier questions, held-out prompts, checkpoints


def test_questions_are_kept_with_the_run(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob], application: Application,
    pages: list[ComparePage],
) -> None:  # fmt: skip
    run = page.talk.run
    assert run is not None
    ask(page, qtbot, fake).answer("first", "erste")
    qtbot.mouseClick(page.answers.base.better, CLICK)
    page.card.prompt.setPlainText("And then?")
    ask(page, qtbot, fake).answer("second", "zweite")
    application.tasks.wait()
    qtbot.waitUntil(lambda: len((run.folder / FILE).read_bytes().splitlines()) == 2)
    application.tasks.wait()
    with (run.folder / FILE).open("ab") as file:
        file.write(b'{"prompt": 3}\n{torn')
    other = show(application, qtbot, run, pages)
    qtbot.waitUntil(lambda: len(other.talk.history.items) == 2)
    menu = other.card.history.menu()
    texts = [action.text() for action in menu.actions()]
    assert texts[0].startswith("And then?\tseed")
    assert texts[1] == f"{PROMPT}\tseed 1 · base better"
    menu.actions()[1].trigger()
    assert other.card.prompt.toPlainText() == PROMPT
    assert other.answers.adapted.text == "erste"
    assert other.answers.base.better.isChecked()
    assert other.state == "done"


def test_no_more_than_two_hundred_are_kept(
    page: ComparePage, qtbot: QtBot, application: Application, run: Run
) -> None:
    for number in range(230):
        page.talk.history.add(Exchange(prompt=f"q{number}"))
    qtbot.waitUntil(lambda: not page.talk.history._saving)
    application.tasks.wait()
    lines = (run.folder / FILE).read_bytes().splitlines()
    assert len(lines) == 200
    assert json.loads(lines[-1])["prompt"] == "q229"


ROWS = [{"prompt": f"row {n}\n& more", "answer": f" goes on {n}"} for n in range(3)]


def test_prompts_the_run_never_saw(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob], application: Application
) -> None:
    qtbot.mouseClick(page.card.rows, CLICK)
    qtbot.waitUntil(lambda: bool(fake and fake[0].sent))
    assert fake[0].sent == [jobs.HeldOut()]
    fake[0].idle()
    assert page.talk.state == "reading"
    fake[0].said.emit(events.Report(kind="rows", data={"rows": ROWS}))
    menu = page.card._held
    assert [a.text() for a in menu.actions() if a.text()] == [
        "Any of Them", "row 0 && more", "row 1 && more", "row 2 && more"
    ]  # fmt: skip
    menu.hide()
    menu.actions()[3].trigger()
    assert page.card.prompt.toPlainText() == ROWS[1]["prompt"]
    assert application.project.value.prompt == ROWS[1]["prompt"]
    assert page.answers.truth.isHidden()
    ask(page, qtbot, fake).answer()
    assert page.answers.truth.text.toPlainText() == " goes on 1"
    assert not page.answers.truth.isHidden()
    page.card.prompt.setPlainText("my own")
    ask(page, qtbot, fake).answer()
    assert page.answers.truth.isHidden()
    qtbot.mouseClick(page.card.rows, CLICK)
    page.card._held.hide()
    page.card._held.actions()[0].trigger()
    assert page.card.prompt.toPlainText() in {row["prompt"] for row in ROWS}
    assert fake[0].sent.count(jobs.HeldOut()) == 1


def test_held_out_rows_that_cannot_be_had(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    error = {"code": "no_such_data", "where": "x", "why": "it is gone", "fix": "bring it back"}
    qtbot.mouseClick(page.card.rows, CLICK)
    qtbot.waitUntil(lambda: bool(fake and fake[0].sent))
    fake[0].said.emit(events.Report(kind="rows", data={"rows": [], "error": error}))
    assert page.state == "error"
    assert page.banner.text.text() == "It is gone. Bring it back."
    page.talk.rows_came.emit([])
    ask(page, qtbot, fake).answer()
    assert page.state == "done"


def test_which_checkpoint_is_heard(page: ComparePage, application: Application) -> None:
    texts = [action.text() for action in page.picker.menu().actions()]
    assert texts == ["Kept adapter · step 2", "Step 2\tloss 2.500 · best", "Step 1\tloss 3.000"]
    assert page.picker.text() == "Kept adapter · step 2"
    page.picker.menu().actions()[2].trigger()
    assert application.project.value.checkpoint == 1
    assert page.picker.text() == "Step 1"
    application.project.update(checkpoint=77)
    page.checkpoints.look()
    application.tasks.wait()


def test_a_checkpoint_that_is_gone_is_not_chosen(
    page: ComparePage, application: Application, qtbot: QtBot
) -> None:
    application.project.update(checkpoint=77)
    page.entered()
    qtbot.waitUntil(lambda: application.project.value.checkpoint is None)
    assert page.picker.text() == "Kept adapter · step 2"


# -- what goes wrong


ENDS = {
    "killed": ("The system ended the engine", "Ask Again", True),
    "out_of_memory": ("Memory ran out while answering", "Ask One After the Other", False),
    "crashed": ("The engine stopped while answering", "Ask Again", True),
}


@pytest.mark.parametrize("code", ENDS)
def test_the_engine_ends(page: ComparePage, qtbot: QtBot, fake: list[FakeJob], code: str) -> None:
    title, fix, together = ENDS[code]
    job = ask(page, qtbot, fake)
    job.token(0, "half a")
    job.fail(code)
    assert page.state == "error"
    assert page.banner.title.text() == title
    assert "are kept" in page.banner.text.text()
    assert "last words" in page.banner.details.toPlainText()
    assert page.answers.base.text == "half a"
    assert page.answers.base.status.text() == "Failed"
    assert page.banner.fix.text() == fix
    assert page.talk.history.items == []
    qtbot.mouseClick(page.banner.fix, CLICK)
    qtbot.waitUntil(lambda: len(fake) == 2 and bool(fake[1].questions))
    assert fake[1].questions[0].together is together
    fake[1].idle()
    fake[1].answer()
    assert page.state == "done"
    assert not page.banner.isVisible()


def test_a_question_that_is_refused(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    job = ask(page, qtbot, fake)
    error = {"code": "bad_option", "where": "--prompt", "why": "too long", "fix": "shorten it"}
    job.answer(voices=[], error=error)
    assert page.state == "error"
    assert page.banner.title.text() == "This cannot be asked"
    assert page.banner.text.text() == "Too long. Shorten it."
    assert page.talk.history.items == []
    assert not page.answers.base.better.isEnabled()
    ask(page, qtbot, fake).answer()
    assert len(fake) == 1


def test_one_side_fails(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    error = {"code": "bad_adapter", "where": "x", "why": "it is damaged", "fix": "use another"}
    ask(page, qtbot, fake).answer("fine", "", second={"stop": "failed", "error": error})
    assert page.state == "done"
    assert page.answers.base.text == "fine"
    assert page.answers.adapted.status.text() == "Failed"
    assert "It is damaged. Use another." in page.answers.adapted.view.placeholderText()
    assert not page.answers.base.better.isEnabled()
    assert page.answers.base.copy.isEnabled()
    assert not page.answers.adapted.copy.isEnabled()


def test_an_answer_that_is_cut(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    cut = {"stop": "length", "tokens": page.card.sampling.max_tokens}
    ask(page, qtbot, fake).answer(second=cut)
    assert page.answers.adapted.status.text() == "Cut at 200 tokens"


def test_a_silent_engine_can_be_ended(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    job = ask(page, qtbot, fake)
    job.silent.emit(True)
    assert page.banner.fix.text() == "Force Stop"
    job.silent.emit(False)
    assert not page.banner.isVisible()
    job.silent.emit(True)
    qtbot.mouseClick(page.banner.fix, CLICK)
    assert page.state == "error"
    assert page.banner.title.text() == "The system ended the engine"


def test_a_notice_is_shown(page: ComparePage, qtbot: QtBot, fake: list[FakeJob]) -> None:
    job = ask(page, qtbot, fake)
    notice = events.Notice(level="warning", code="template_changed", text="Another template.")
    job.said.emit(notice)
    job.answer()
    assert page.banner.text.text() == "Another template."
    ask(page, qtbot, fake)
    assert not page.banner.isVisible()


# -- making room


class Heavy(Job):
    """Work that takes a while."""

    def command(self) -> list[str]:
        return ["sleep", "60"]


def heavy(application: Application) -> Heavy:
    job = Heavy(jobs.TrainJob(run="x", root="x"), title="poems")
    application.queue.add(job)
    return job


def test_comparing_makes_room_for_training(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob], application: Application
) -> None:
    job = ask(page, qtbot, fake)
    job.token(0, "half")
    work = heavy(application)
    assert page.talk.state == "off"
    assert not page.talk.worker.alive
    assert page.answers.base.text == "half"
    assert page.answers.base.status.text() == "Stopped"
    assert page.banner.title.text() == "Comparing waits until training is done"
    assert not page.card.ask.isEnabled()
    page.ask()
    assert len(fake) == 1
    heavy(application)
    assert "1 more job waits" in page.banner.text.text()
    application.queue.cancel(application.queue.waiting[0])
    work.kill()
    qtbot.waitUntil(page.card.ask.isEnabled)
    assert not page.banner.isVisible()
    ask(page, qtbot, fake)
    assert len(fake) == 2


def test_another_page_gives_the_memory_back(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob]
) -> None:
    page._away.setInterval(1)
    job = ask(page, qtbot, fake)
    page.hide()
    qtbot.wait(20)
    assert page.talk.worker.alive
    job.answer()
    qtbot.waitUntil(lambda: not page.talk.worker.alive)
    assert page.talk.state == "off"


def test_another_run_starts_anew(
    page: ComparePage, qtbot: QtBot, fake: list[FakeJob], application: Application
) -> None:
    ask(page, qtbot, fake).answer()
    other = make_run(application, lambda run: run.adapter.mkdir())
    application.project.update(run=other.name)
    qtbot.waitUntil(lambda: page.state == "ready")
    assert not page.talk.worker.alive
    assert page.answers.base.text == ""
    assert not page.card.history.isEnabled()


def test_nothing_trained_yet(
    application: Application, qtbot: QtBot, pages: list[ComparePage]
) -> None:
    page = ComparePage(application.desk)
    pages.append(page)
    qtbot.addWidget(page)
    page.show()
    page.entered()
    assert page.state == "empty"
    assert not page.primary().enabled
    with qtbot.waitSignal(page.leave) as left:
        qtbot.mouseClick(page.nothing.train, CLICK)
    assert left.args == ["train"]
    with qtbot.waitSignal(page.sample):
        qtbot.mouseClick(page.nothing.sample, CLICK)


def test_on_to_export(page: ComparePage, qtbot: QtBot) -> None:
    with qtbot.waitSignal(page.leave) as left:
        page.act()
    assert left.args == ["export"]


# -- with a real worker


@pytest.fixture
def trained(application: Application) -> Run:
    """A run of the demo model whose adapters speak differently."""
    base = load_model("demo")
    adapter = attach_adapter(base.module, alpha=6.0, rank=4)
    facts = AdapterFacts(
        base_name=base.name, base_fingerprint=base.fingerprint, bits="keep", prompt_style="raw",
        template_sha256="", settings={}, step=2, version=__version__,
    )  # fmt: skip

    def write(run: Run) -> None:
        randomize_adapter(adapter, seed=1, size=0.15)
        save_adapter(run.adapter, adapter.tensors(), adapter.shape, facts)
        randomize_adapter(adapter, seed=2, size=0.15)
        add_checkpoint(
            run, 1, 3.0,
            lambda folder: write_adapter(
                folder, adapter.tensors(), adapter.shape, facts, checkpoints.WEIGHTS
            ),
        )  # fmt: skip

    return make_run(application, write)


def texts(page: ComparePage) -> list[str]:
    return [page.answers.base.text, page.answers.adapted.text]


def test_both_voices_of_a_real_worker(
    application: Application, qtbot: QtBot, trained: Run, pages: list[ComparePage]
) -> None:
    page = show(application, qtbot, trained, pages)
    page.card.pills["max_tokens"].number.setValue(12)

    def asked() -> list[str]:
        with qtbot.waitSignal(page.talk.answered, timeout=30_000):
            qtbot.mouseClick(page.card.ask, CLICK)
        return texts(page)

    kept = asked()
    pid = page.talk.worker.pid
    page.checkpoints.choose(1)
    other = asked()
    assert other[0] == kept[0] != other[1] != kept[1]
    page.checkpoints.choose(None)
    assert asked() == kept
    assert page.talk.worker.pid == pid
    job = jobs.CompareJob(
        model=jobs.ModelConfig(source="demo"), prompts=(PROMPT,),
        voices=(jobs.Voice(), jobs.Voice(str(trained.adapter), label="adapted")),
        sampling=msgspec.to_builtins(page.card.sampling),
    )  # fmt: skip
    said = next(e for e in speak(job, "compare", Control()) if isinstance(e, events.Report))
    assert [row["text"] for row in said.data["rows"]] == kept
    with qtbot.waitSignal(page.talk.rows_came, timeout=30_000):
        qtbot.mouseClick(page.card.rows, CLICK)
    page.card._held.hide()
    assert page.talk.rows
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: page.state == "error", timeout=2000)
    with qtbot.waitSignal(page.talk.answered, timeout=30_000):
        qtbot.mouseClick(page.banner.fix, CLICK)
    assert texts(page) == kept
    job_left = page.talk.worker._job
    assert job_left is not None
    page.talk.end()
    qtbot.waitUntil(lambda: job_left.state == "ended", timeout=10_000)
    assert job_left.outcome == events.Finished(reason="stopped", result={"answers": 1})


def test_an_idle_worker_is_not_called_silent(qtbot: QtBot) -> None:
    job = Job(jobs.TalkJob(model=jobs.ModelConfig(source="demo")))
    job._hear(events.Phase("loading_model"))
    assert job.allowed_silence() == 60
    job._hear(events.Phase("idle"))
    assert job.allowed_silence() == float("inf")
    job.send(jobs.HeldOut())
    assert job.allowed_silence() == 60
    assert qtbot is not None
