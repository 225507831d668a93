"""The Model page and Hugging Face: what a person does, with workers whose words are fed in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox
from scenes import hub as scenes
from scenes.dataset import SilentJob
from scenes.model import put_cached, put_model
from shiboken6 import isValid

from app.models.downloads import Downloads
from app.models.hub_model import HubModel, hub_name
from app.pages import access
from app.pages.model import ModelPage
from app.problems import problem_of, without_commands
from mlx_lora import events, jobs
from mlx_lora.errors import UserError
from mlx_lora.machine import System
from mlx_lora.models.catalog import find_entry
from mlx_lora.models.offline import offline_reason, switch_offline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application
    from app.models.downloads import Download

GEMMA, QWEN, LLAMA, CLOSED = scenes.GEMMA, scenes.QWEN, scenes.LLAMA, scenes.CLOSED
CANARY = "hf_canary_0123"
DONE = events.Finished(reason="done")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with one model of the catalogue."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    entry = find_entry(LLAMA)
    assert entry is not None
    put_cached(folder, entry)
    return folder


@pytest.fixture
def page(application: Application, cache: Path, qtbot: QtBot) -> Iterator[ModelPage]:  # noqa: ARG001
    """The page, shown, its scan done, its workers silent."""
    application.start()
    found = application.window.page
    assert isinstance(found, ModelPage)
    scenes.silence(application, found)
    qtbot.waitUntil(lambda: (offer := found.models.offer(LLAMA)) is not None and offer.here)
    yield found
    for sheet in (found.care.gate, found.care.sheet):
        if sheet is not None and isValid(sheet):
            sheet.close()


def keys(page: ModelPage) -> list[str]:
    """What can be done about the model the rail tells of."""
    assert page.rail.facts is not None
    return [act.key for act in (*page.rail.facts.acts, *page.rail.facts.more)]


def note(page: ModelPage) -> str:
    assert page.rail.facts is not None
    return page.rail.facts.note[1] if page.rail.facts.note else ""


def failed(code: str, why: str = "it did not work", fix: str = "try again") -> events.Failed:
    return events.Failed(code=code, where="hub", why=why, fix=fix)


def download(page: ModelPage, source: str) -> Download:
    return page.desk.downloads.all[source]


def begin(page: ModelPage, source: str = GEMMA) -> Any:
    """Press a card and its button; returns the job."""
    page.choose(source)
    page.rail.acts.buttons["download"].click()
    return download(page, source).job


def press(page: ModelPage, key: str) -> None:
    {**page.rail.acts.buttons, **page.rail.more.buttons}[key].click()


# -- search


def test_words_are_searched_on_the_hub_and_a_result_is_looked_at(
    page: ModelPage, qtbot: QtBot
) -> None:
    qtbot.keyClicks(page.search.field, "ministral")
    assert not page.view.nothing.isHidden()
    qtbot.keyClick(page.search.field, Qt.Key.Key_Return)
    asked = page.hub.searching.job
    assert asked is not None
    assert asked.what == jobs.SearchJob(words="ministral", root=str(page.desk.runs.root))
    assert (page.state, page.search.filter) == ("loading", "hub")
    scenes.answer(asked, "search", scenes.listing())
    assert page.state == "ready"
    cards = page.grid.cards
    assert list(cards) == [one[0] for one in scenes._FOUND]
    assert cards[CLOSED].facts.line == "mistralai · 3.43 B"
    assert cards[CLOSED].facts.licence == "A licence of its own · to be accepted"
    assert "4-bit" in next(iter(cards.values())).facts.line
    qtbot.mouseClick(cards[CLOSED], Qt.MouseButton.LeftButton)
    assert page.hub.looking == CLOSED
    twin = "mlx-community/Ministral-3B-Instruct-4bit"
    scenes.answer(page.hub.glance.job, "remote", scenes.remote(twin=twin, missing=6_000_000_000))
    facts = page.rail.facts
    assert facts is not None
    assert dict(facts.facts) == {
        "Licence": "A licence of its own, to be accepted", "To download": "6.0 GB",
        "Here already": "862 MB", "Downloads": "391,020",
    }  # fmt: skip
    assert facts.pill is not None
    assert keys(page) == ["download", "twin", "page"]
    press(page, "twin")
    assert page.hub.searching.job is not None
    assert page.hub.searching.job.what == jobs.LookJob(model=twin, root=str(page.desk.runs.root))


def test_a_search_can_be_left_and_one_that_fails_tried_again(page: ModelPage) -> None:
    page.search.choose("hub")
    first = page.hub.searching.job
    assert first is not None
    assert page.state == "loading"
    page._waiting.cancel.click()
    assert (page.state, page.hub.state) == ("ready", "idle")
    assert not page.view.ready_to_ask.isHidden()
    page.view.ready_to_ask.buttons[0].click()
    why = "the hub asks to wait a while"
    scenes.say(page.hub.searching.job, failed("network", why))
    assert page.state == "error"
    assert "asks to wait" in page.banner.text.text()
    assert page.banner.fix.text() == "Try Again"
    page.banner.fix.click()
    scenes.answer(page.hub.searching.job, "search", {"models": []})
    assert page.state == "ready"
    assert not page.view.none_there.isHidden()
    page.search.choose("recommended")
    assert page.view.none_there.isHidden()


def test_a_name_or_an_address_is_looked_up(page: ModelPage, qtbot: QtBot) -> None:
    for text in ("maker/some-1b", "https://huggingface.co/maker/some-1b/tree/main?x=1"):
        page.search.field.setText(text)
        qtbot.keyClick(page.search.field, Qt.Key.Key_Return)
        assert page.hub.searching.job is not None
        what = page.hub.searching.job.what
        assert what == jobs.LookJob(model="maker/some-1b", root=str(page.desk.runs.root))
    scenes.answer(page.hub.searching.job, "remote", scenes.remote("maker/some-1b"))
    assert (page.looked, list(page.grid.cards)) == ("maker/some-1b", ["maker/some-1b"])
    page.search.field.setText("maker/private")
    page.search_hub()
    scenes.say(page.hub.searching.job, failed("no_access", "it is private"))
    assert page.looked == "maker/private"
    assert keys(page) == ["look", "token", "page"]
    page.search.field.setText("maker/nobody")
    page.search_hub()
    scenes.say(page.hub.searching.job, failed("no_such_model", "no such", "did you mean a/b?"))
    assert page.state == "error"
    assert "Did you mean a/b?" in page.banner.text.text()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", "owner/name"), ("huggingface.co/owner/name", "owner/name"),
        ("https://hf.co/owner/name#usage", "owner/name"), ("owner/name/other", ""),
        ("https://huggingface.co/datasets/owner/name", ""), ("two words", ""), ("qwen", ""),
        ("/Users/anna", ""), ("", ""),
    ],
)  # fmt: skip
def test_what_names_a_model_of_the_hub(text: str, name: str) -> None:
    assert hub_name(text) == name


# -- downloads


def test_a_download_shows_how_far_it_is_and_is_chosen_when_it_is_here(
    application: Application, page: ModelPage, qtbot: QtBot, cache: Path
) -> None:
    job = begin(page)
    assert isinstance(job.what, jobs.DownloadJob)
    scenes.say(job, events.Report(kind="model", data={"size": 600_000_000, "missing": 600_000_000}))
    scenes.say(job, events.Phase("downloading", 240_000_000, 600_000_000, rate=12e6, eta=30.0))
    qtbot.waitUntil(lambda: page.rail.strong.text() == "240 of 600 MB")
    assert page.rail.plain.text() == "12 MB a second · 0:30 left"
    card = page.grid.cards[GEMMA].facts
    assert card.share == pytest.approx(0.4)
    assert card.place[0] == "240 of 600 MB · 0:30 left"
    assert application.window.sidebar.work.text() == "Downloading Gemma 3 1B"
    assert application.window.hint.text() == "Gemma 3 1B: 240 of 600 MB · 0:30 left"
    assert keys(page)[:2] == ["pause", "cancel"]
    application.window.go("runs")  # it goes on wherever the person is
    entry = find_entry(GEMMA)
    assert entry is not None
    put_cached(cache, entry)
    scenes.say(job, DONE)
    qtbot.waitUntil(lambda: application.project.value.model is not None)
    assert application.project.value.model is not None
    assert application.project.value.model.source == GEMMA
    assert GEMMA not in page.desk.downloads.all
    assert application.window.sidebar.work.text() == "Nothing is running"


def test_one_that_arrives_late_does_not_take_the_place_of_another_choice(
    application: Application, page: ModelPage, qtbot: QtBot, cache: Path
) -> None:
    job = begin(page)
    page.choose(LLAMA)
    entry = find_entry(GEMMA)
    assert entry is not None
    put_cached(cache, entry)
    scenes.say(job, DONE)
    qtbot.waitUntil(lambda: (offer := page.models.offer(GEMMA)) is not None and offer.here)
    model = application.project.value.model
    assert model is not None
    assert model.source == LLAMA


def test_a_pause_ends_the_worker_and_go_on_starts_another(page: ModelPage) -> None:
    job = begin(page)
    scenes.say(job, events.Phase("downloading", 240_000_000, 600_000_000))
    press(page, "pause")
    assert job.asked == "stop"
    assert page.rail.strong.text() == "Paused at 40%"
    assert keys(page)[:2] == ["download", "cancel"]
    press(page, "download")
    assert download(page, GEMMA).job is job  # the one before has not left yet
    scenes.say(job, events.Finished(reason="stopped"))
    again = download(page, GEMMA)
    assert again.job is not None
    assert again.job is not job
    assert (again.doing, again.done) == ("looking", 240_000_000)


def test_two_downloads_follow_each_other(page: ModelPage) -> None:
    first = begin(page)
    assert begin(page, QWEN) is None
    assert page.rail.strong.text() == "Waiting"
    scenes.say(first, failed("network", "the hub cannot be reached"))
    assert download(page, QWEN).job is not None
    page.choose(GEMMA)
    assert "cannot be reached" in note(page)
    assert keys(page)[:2] == ["download", "cancel"]


def test_after_a_restart_what_was_begun_can_go_on(
    application: Application, page: ModelPage, qtbot: QtBot, cache: Path
) -> None:
    job = begin(page)
    scenes.say(job, events.Report(kind="model", data={"size": 1_000, "missing": 1_000}))
    blobs = cache / f"models--{GEMMA.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / ("a" * 64 + ".incomplete")).write_bytes(bytes(400))
    other = cache / "models--maker--other" / "blobs"  # begun by another tool
    other.mkdir(parents=True)
    (other / ("b" * 64 + ".incomplete")).write_bytes(bytes(7))
    job.wait = lambda _: True
    application.downloads.leave()
    after = Downloads(application.runs.root, application.tasks, application.queue.awake)
    after.restore()
    qtbot.waitUntil(lambda: len(after.all) == 2)
    one = after.all[GEMMA]
    assert (one.title, one.doing, one.done, one.total) == ("Gemma 3 1B", "paused", 400, 1_000)
    assert after.all["maker/other"].done == 7


def test_to_cancel_deletes_what_has_arrived_after_a_word(page: ModelPage) -> None:
    job = begin(page)
    scenes.say(job, events.Report(kind="model", data={"size": 600_000_000, "missing": 600_000_000}))
    scenes.say(job, events.Phase("downloading", 240_000_000, 600_000_000))
    press(page, "cancel")
    sheet = page.care.sheet
    assert isinstance(sheet, QMessageBox)
    assert "240 MB have arrived" in sheet.informativeText()
    assert sheet.defaultButton().text() == "Keep"
    sheet.done(0)
    assert GEMMA in page.desk.downloads.all
    press(page, "cancel")
    sheet = page.care.sheet
    assert isinstance(sheet, QMessageBox)
    next(b for b in sheet.buttons() if b.text() == "Cancel Download").click()
    scenes.say(job, failed("killed"))
    assert GEMMA not in page.desk.downloads.all
    erasing = page.desk.downloads.erasing.job
    assert erasing is not None
    assert erasing.what == jobs.DeleteJob(
        model=GEMMA, root=str(page.desk.runs.root), unfinished=True
    )
    assert json.loads((page.desk.runs.root / "downloads.json").read_text()) == []


@pytest.mark.parametrize(
    ("code", "why", "said"),
    [
        ("disk_full", "there are 2 MB free", "There are 2 MB free."),
        ("network", "the hub answers with an error (500)", "an error (500)"),
        ("no_such_model", "the hub has no such model", "no such model"),
        ("unsupported_model", "it holds GGUF files alone", "GGUF files alone"),
    ],
)
def test_why_a_download_ended_is_said_beside_it(
    page: ModelPage, code: str, why: str, said: str
) -> None:
    fix = "look for another with: understudy models search WORDS; take another"
    scenes.say(begin(page), failed(code, why, fix))
    assert said in note(page)
    assert "understudy models" not in note(page)
    assert page.grid.cards[GEMMA].facts.place == ("Stopped", "warn")
    press(page, "cancel")  # nothing had arrived: nothing to ask
    assert GEMMA not in page.desk.downloads.all


# -- access


def gate(page: ModelPage, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sheet after a refusal, and what it opened so far."""
    opened: list[str] = []
    monkeypatch.setattr("app.pages.model_care.open_address", opened.append)
    monkeypatch.setattr(access, "open_address", opened.append)
    scenes.results(page_application(page))
    job = begin(page, CLOSED)
    scenes.say(job, failed("no_access", "its owner asks for consent"))
    sheet = page.care.gate
    assert sheet is not None
    return sheet, opened


def page_application(page: ModelPage) -> Any:
    """What the scenes take for the whole app."""

    class Some:
        window = page.window()
        runs, project, tasks, downloads = (
            page.desk.runs, page.desk.project, page.desk.tasks, page.desk.downloads
        )  # fmt: skip

    return Some()


def test_a_closed_model_opens_a_sheet_of_two_steps(
    page: ModelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet, opened = gate(page, monkeypatch)
    assert isinstance(page.care.keys.job, SilentJob)
    assert page.care.keys.job.what == jobs.TokenJob()
    scenes.answer(page.care.keys.job, "token", {"act": "show", "source": "", "gone": False})
    assert sheet.state.text() == "No token is in use."
    sheet.page.click()
    sheet.tokens.click()
    assert [address.partition("//")[2].partition("/")[2] for address in opened] == [
        CLOSED, "settings/tokens",
    ]  # fmt: skip
    sent: list[msgspec.Struct] = []

    def worker(what: Any) -> SilentJob:
        sent.append(what)
        return SilentJob(what)

    page.care.keys.worker = worker
    sheet.field.setText(f" {CANARY} ")
    assert sheet.go.text() == "Keep and Download"
    sheet.go.click()
    assert sheet.field.text() == ""
    assert sent == [jobs.TokenJob(act="store", value=CANARY)]
    job = page.care.keys.job
    assert job is not None
    assert (job.what.value, CANARY in repr(sent)) == ("", False)  # type: ignore[union-attr]
    scenes.say(job, failed("no_keychain", "this machine has no Keychain", "set HF_TOKEN"))
    assert "no Keychain" in sheet.state.text()
    sheet.field.setText(CANARY)
    sheet.go.click()
    told = {"act": "store", "source": "the Keychain", "gone": False}
    scenes.answer(page.care.keys.job, "token", told)
    assert page.care.gate is None
    assert download(page, CLOSED).job is not None  # it goes on by itself
    kept = [path for path in page.desk.runs.root.glob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if CANARY.encode() in path.read_bytes()]


def test_the_open_twin_is_one_press_away(page: ModelPage, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet, _ = gate(page, monkeypatch)
    env = {"act": "show", "source": "HF_TOKEN in the environment", "gone": False}
    scenes.answer(page.care.keys.job, "token", env)
    assert "HF_TOKEN in the environment" in sheet.state.text()
    assert "goes before" in sheet.state.text()
    sheet.twin.click()
    assert page.search.text == "mlx-community/Ministral-3B-Instruct-4bit"
    assert CLOSED not in page.desk.downloads.all


# -- what is here


def test_damaged_files_are_brought_again_with_one_press(
    application: Application, page: ModelPage, qtbot: QtBot, cache: Path
) -> None:
    weights = next(cache.rglob("model.safetensors"))
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(1_000_000)
    page.search.choose("here")
    page.models.rescan()
    qtbot.waitUntil(lambda: page.grid.cards[LLAMA].facts.place == ("Damaged", "warn"))
    page.choose(LLAMA)
    assert application.project.value.model is None
    assert keys(page)[0] == "repair"
    press(page, "repair")
    job: Any = download(page, LLAMA).job
    root = str(page.desk.runs.root)
    assert job.what == jobs.VerifyJob(model=LLAMA, root=root, repair=True)
    with weights.open("r+b") as file:
        file.truncate(size)
    scenes.say(job, events.Phase("downloading", 3, 9), DONE)
    qtbot.waitUntil(lambda: application.project.value.model is not None)


def test_verify_names_what_is_damaged(page: ModelPage, qtbot: QtBot) -> None:
    page.choose(LLAMA)
    qtbot.waitUntil(lambda: "verify" in keys(page))
    press(page, "verify")
    job: Any = download(page, LLAMA).job
    assert job.what.again
    scenes.say(job, events.Phase("checking", 412_000_000, 824_000_000))
    qtbot.waitUntil(lambda: page.rail.strong.text() == "Checking 50%")
    scenes.say(job, DONE)
    assert note(page) == "Every file is as it should be."
    press(page, "verify")
    damage = {"name": "model.safetensors", "kind": "wrong_hash", "why": "its checksum differs"}
    found = {"damage": [damage], "repairable": True}
    scenes.say(
        download(page, LLAMA).job, events.Report(kind="verify", data=found),
        failed("damaged_model"),
    )  # fmt: skip
    assert note(page) == "Damaged: model.safetensors. Its checksum differs."
    assert keys(page)[:2] == ["repair", "forget"]


def test_delete_says_what_it_frees_and_who_needs_it(
    application: Application, page: ModelPage, qtbot: QtBot
) -> None:
    page.choose(LLAMA)
    qtbot.waitUntil(lambda: LLAMA in page.care.holdings)
    found = page.care.holdings[LLAMA]
    page.care.holdings[LLAMA] = msgspec.structs.replace(found, runs=("one", "two"))
    press(page, "delete")
    sheet = page.care.sheet
    assert isinstance(sheet, QMessageBox)
    assert "695 MB of the disk become free" in sheet.informativeText()
    assert "2 runs need it" in sheet.informativeText()
    assert "one, two" in sheet.informativeText()
    assert sheet.defaultButton().text() == "Keep"
    next(b for b in sheet.buttons() if b.text() == "Delete Model").click()
    job = page.care.errand.job
    assert job is not None
    assert job.what == jobs.DeleteJob(model=LLAMA, root=str(page.desk.runs.root), even_if_used=True)
    scenes.answer(job, "deleted", {"model": LLAMA, "freed": 695_000_000})
    assert application.project.value.model is None
    assert page.banner.text.text() == "695 MB of the disk are free again."


def test_a_smaller_copy_is_packed_in_the_queue_and_offered(
    application: Application, page: ModelPage, qtbot: QtBot, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("app.models.packing.Job", SilentJob)
    entry = find_entry("mlx-community/SmolLM2-360M-Instruct")
    assert entry is not None
    folder = put_model(tmp_path / "shelf" / "full", entry.shape, 16)
    page.take(str(folder))
    qtbot.waitUntil(lambda: application.project.value.model is not None)
    press(page, "pack")
    sheet: Any = page.care.sheet
    assert sheet.weight.text() == "About 203 MB"
    sheet.bits.buttons["8"].click()
    sheet.make.click()
    job: Any = application.queue.running
    assert (job.what.bits, job.what.model) == (8, str(folder))
    out = application.runs.root / "models" / "full-8bit"
    assert job.what.out == str(out)
    scenes.say(job, events.Phase("packing", 10, 20))
    qtbot.waitUntil(lambda: page.rail.strong.text() == "Packing")
    assert keys(page)[0] == "stop_pack"
    put_model(out, entry.shape, 8)
    report = {"original_bytes": 724_000_000, "bytes": 385_000_000, "words": "99 % are the same"}
    scenes.say(job, events.Report(kind="quantize", data=report), DONE)
    qtbot.waitUntil(lambda: page.banner.title.text() == "The smaller copy is ready")
    assert page.banner.text.text() == "724 MB became 385 MB. 99 % are the same."
    page.banner.fix.click()
    assert application.project.value.model.source.endswith("full-8bit")


# -- offline, and what fits


def test_offline_no_worker_is_started(page: ModelPage, qtbot: QtBot) -> None:
    def refuse(what: object) -> Any:
        raise AssertionError(f"asked {what}")

    page.hub.searching.worker = page.hub.glance.worker = refuse
    page.desk.downloads.worker = refuse
    page.hub.switch(offline=True)
    assert not page.view.offline.isHidden()
    page.search.choose("hub")
    qtbot.keyClicks(page.search.field, "maker/some-1b")
    qtbot.keyClick(page.search.field, Qt.Key.Key_Return)
    page.choose(GEMMA)
    assert "while offline" in note(page)
    assert "download" not in keys(page)
    assert not page.primary().enabled
    page.choose(LLAMA)
    assert page.primary() == page.primary().__class__("Continue", True)
    page.view.online.click()
    assert page.view.offline.isHidden()
    assert offline_reason(page.desk.runs.root) == ""


def test_offline_by_the_environment_cannot_be_switched_here(
    application: Application, page: ModelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page.entered()
    assert not page.view.offline.isHidden()
    assert page.view.online.isHidden()
    assert "HF_HUB_OFFLINE" in page.view.offline.text.text()
    application.window.go("settings")
    settings: Any = application.window.page
    assert (settings.offline.isChecked(), settings.offline.isEnabled()) == (True, False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    settings.entered()
    settings.offline.click()
    assert offline_reason(page.desk.runs.root) == "Understudy is switched offline"
    switch_offline(page.desk.runs.root, on=False)


def test_what_makes_it_fit_is_one_press(
    application: Application, page: ModelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 600_000_000  # less than its weights alone
    monkeypatch.setattr(type(application.desk), "memory_limit", property(lambda _: limit))
    page.models.judge()
    page.choose(LLAMA)
    before = dict(application.project.value.settings)
    offered = keys(page)
    assert "fix:0" in offered
    assert page.rail.facts is not None
    press(page, "fix:0")
    assert application.project.value.settings != before
    if "smaller" in offered:
        press(page, "smaller")
        assert page.looked != LLAMA


def test_a_machine_mlx_does_not_run_on_is_told_at_once(application: Application) -> None:
    assert application.window.notice.isHidden()
    application._check(System("darwin", "x86_64", "13.6"))
    assert not application.window.notice.isHidden()
    assert application.window.notice.title.text() == "MLX does not run on this Mac"
    assert "Intel processor" in application.window.notice.text.text()
    assert application.window.notice.close_button.isHidden()


def test_what_only_a_terminal_can_do_is_not_said_in_the_window() -> None:
    error = UserError(
        "no_access", "a/b", "it is closed", "open its page; give one with: understudy models token"
    )
    assert problem_of(without_commands(error)).text == "It is closed. Open its page."


def test_a_model_of_the_hub_as_an_offer() -> None:
    known = HubModel(repository="mlx-community/gemma-3-1b-it-bf16", downloads=1_200_000, mlx=True)
    offer = known.offer()
    assert offer.line == "mlx-community · 1 B · 16-bit"
    assert offer.base is not None
    assert offer.use == "Downloaded 1.20 M times, in MLX’s own form."
    assert HubModel(repository="a/b").offer().base is None
