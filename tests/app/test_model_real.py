"""The Model page and a hub that answers: in this process where one is enough, in workers once."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import Hub, Repository, point_at, serve
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QMessageBox

from app.jobs import Job
from app.models.downloads import Downloads
from app.pages.model import ModelPage
from mlx_lora import worker
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.events import Failed, Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

    from app.application import Application

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
TINY, ROOT = "anna/tiny", Path(__file__).parents[2]


class Here(Job):
    """A job that does its work in this process, when the window has time."""

    def start(self) -> None:
        self.state = "running"
        QTimer.singleShot(0, self._work)

    def _work(self) -> None:
        last: Any = Finished(reason="done")
        try:
            for event in worker._work(self.what, Control()):
                self.said.emit(event)
                last = event
        except UserError as error:
            last = Failed(code=error.code, where=error.where, why=error.why, fix=error.fix)
        self.state = "ended"
        self.ended.emit(last)


def whole(folder: Path) -> Repository:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    card = {"license": "apache-2.0"}
    return Repository(files, card, config=LLAMA, tags=["safetensors"], downloads=12)


@pytest.fixture
def tiny(demo_model: Path) -> Repository:
    """A small model as a repository of the hub."""
    return whole(demo_model)


@pytest.fixture
def hub(tiny: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, and nothing in the cache."""
    with ExitStack() as stack:
        server = stack.enter_context(serve({TINY: tiny}, "models"))
        point_at(server, tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def page(application: Application, hub: Hub) -> ModelPage:  # noqa: ARG001
    """The page, whose workers are this process."""
    application.start()
    found = application.window.page
    assert isinstance(found, ModelPage)
    for errand in (found.hub.searching, found.hub.glance, found.care.errand, found.care.keys):
        errand.worker = Here
    application.downloads.worker = application.downloads.erasing.worker = Here
    return found


def ask(page: ModelPage, qtbot: QtBot, text: str) -> None:
    """Type it and press Return."""
    page.search.choose("hub")
    page.search.field.setText(text)
    qtbot.keyClick(page.search.field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.state != "loading" and not page.hub.looking)


def rail(page: ModelPage) -> tuple[str, list[str]]:
    """(what the rail notes, what it offers)."""
    facts = page.rail.facts
    assert facts is not None
    return (facts.note[1] if facts.note else ""), [act.key for act in facts.acts]


def chosen(page: ModelPage) -> str:
    model = page.desk.chosen.model
    return model.source if model else ""


def fetch(page: ModelPage, qtbot: QtBot) -> None:
    """Bring the model to its end, whichever."""
    page.rail.acts.buttons["download"].click()
    qtbot.waitUntil(lambda: page.desk.downloads.running is None)


def test_found_looked_at_brought_chosen_and_deleted(
    page: ModelPage, qtbot: QtBot, tmp_path: Path
) -> None:
    ask(page, qtbot, "tiny")
    assert list(page.grid.cards) == [TINY]
    page.choose(TINY)
    qtbot.waitUntil(lambda: not page.hub.looking)
    facts = page.rail.facts
    assert facts is not None
    assert dict(facts.facts)["Licence"] == "Apache-2.0"
    assert dict(facts.facts)["To download"] == "7.1 MB"
    assert facts.line == "anna · 3.41 M · 16-bit"
    assert facts.pill is not None
    fetch(page, qtbot)
    qtbot.waitUntil(lambda: chosen(page) == TINY)
    qtbot.waitUntil(lambda: TINY in page.care.holdings)
    page.rail.more.buttons["delete"].click()
    sheet = page.care.sheet
    assert isinstance(sheet, QMessageBox)
    next(b for b in sheet.buttons() if b.text() == "Delete Model").click()
    qtbot.waitUntil(lambda: page.banner.title.text() == "The model is deleted")
    assert chosen(page) == ""
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("status", "said"), [(429, "asks to wait"), (500, "error (500)"), (503, "busy")]
)
def test_a_hub_that_refuses(
    page: ModelPage, qtbot: QtBot, tiny: Repository, status: int, said: str
) -> None:
    tiny.status = status
    for text in ("tiny", TINY):
        ask(page, qtbot, text)
        assert page.state == "error"
        assert said in page.banner.text.text()
        assert page.banner.fix.text() == "Try Again"


def test_names_nobody_has(page: ModelPage, qtbot: QtBot) -> None:
    ask(page, qtbot, "anna/tiny2")
    assert "Did you mean anna/tiny?" in page.banner.text.text()
    ask(page, qtbot, "zz/private-or-not-there")
    assert rail(page)[1] == ["look", "token"]
    assert "understudy" not in rail(page)[0]


@pytest.mark.parametrize("token", ["", "hf_of_somebody"])
def test_a_gated_one_opens_the_sheet_and_goes_on_with_the_right_token(
    page: ModelPage, qtbot: QtBot, tiny: Repository, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.gated = True
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    ask(page, qtbot, TINY)
    fetch(page, qtbot)
    gate = page.care.gate
    assert gate is not None
    qtbot.waitUntil(lambda: page.care.keys.job is None)
    assert ("HF_TOKEN in the environment" in gate.state.text()) == bool(token)
    assert token == "" or token not in gate.state.text()
    monkeypatch.setenv("HF_TOKEN", tiny.token)
    gate.go.click()
    qtbot.waitUntil(lambda: chosen(page) == TINY)


def test_a_line_that_breaks_off(page: ModelPage, qtbot: QtBot, tiny: Repository, hub: Hub) -> None:
    tiny.cut = [100_000]
    ask(page, qtbot, TINY)
    fetch(page, qtbot)
    while TINY in page.desk.downloads.all:  # what the library itself does not bear is tried again
        assert rail(page)[1] == ["download", "cancel"]
        fetch(page, qtbot)
    qtbot.waitUntil(lambda: chosen(page) == TINY)
    assert 100_000 in hub.ranges  # it went on where it broke off


def test_damaged_on_the_disk_and_mended(
    page: ModelPage, qtbot: QtBot, hub: Hub, tmp_path: Path
) -> None:
    ask(page, qtbot, TINY)
    fetch(page, qtbot)
    qtbot.waitUntil(lambda: chosen(page) == TINY)
    weights = next((tmp_path / "cache").rglob("model.safetensors")).resolve()
    whole_size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(1_000_000)
    page.search.choose("here")
    page.entered()
    qtbot.waitUntil(lambda: page.grid.cards[TINY].facts.place[0] == "Damaged")
    asked = len(hub.ranges)
    page.choose(TINY)
    assert rail(page)[1] == ["repair"]
    page.rail.acts.buttons["repair"].click()
    qtbot.waitUntil(lambda: page.grid.cards[TINY].facts.place[0].startswith("On this"))
    assert len(hub.ranges) == asked + 1  # that file, and nothing else
    assert next((tmp_path / "cache").rglob("model.safetensors")).stat().st_size == whole_size


def test_offline_nothing_is_asked(page: ModelPage, qtbot: QtBot, hub: Hub) -> None:
    page.hub.switch(offline=True)
    ask(page, qtbot, TINY)
    assert hub.asked == []
    page.hub.switch(offline=False)
    ask(page, qtbot, TINY)
    assert hub.asked


def test_the_window_never_loads_the_hubs_library() -> None:
    code = (
        "import sys, app.application, app.pages.model, app.pages.settings, app.pages.configure; "
        "print(*sorted({'huggingface_hub', 'keyring', 'numpy', 'mlx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_in_workers_paused_gone_on_with_after_a_restart(
    application: Application, hub: Hub, tiny: Repository, qtbot: QtBot, tmp_path: Path
) -> None:
    tiny.rate = 2_000_000

    def until(true: Callable[[], bool]) -> None:
        qtbot.waitUntil(true, timeout=60_000)

    application.start()
    page = application.window.page
    assert isinstance(page, ModelPage)
    page.search.field.setText("tiny")
    page.search_hub()
    until(lambda: page.state != "loading")
    page.choose(TINY)
    until(lambda: not page.hub.looking)
    downloads = page.desk.downloads
    page.act()
    until(lambda: downloads.all[TINY].done > 500_000)
    page.rail.acts.buttons["pause"].click()
    until(lambda: downloads.running is None)
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.incomplete"))
    assert kept > 400_000
    after = Downloads(application.runs.root, application.tasks, application.queue.awake)
    after.restore()
    until(lambda: TINY in after.all)
    assert (after.all[TINY].doing, after.all[TINY].done >= kept) == ("paused", True)
    tiny.rate = 0
    page.rail.acts.buttons["download"].click()
    until(lambda: chosen(page) == TINY)
    assert max(hub.ranges) >= 400_000
    until(lambda: TINY in page.care.holdings)
    page.rail.more.buttons["delete"].click()
    sheet = page.care.sheet
    assert isinstance(sheet, QMessageBox)
    next(b for b in sheet.buttons() if b.text() == "Delete Model").click()
    until(lambda: page.banner.title.text() == "The model is deleted")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
