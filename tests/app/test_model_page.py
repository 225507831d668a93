"""The Model page at its seams: what a press does to the project, every state, the keyboard."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog
from scenes.model import put_cached, put_model

from app.models.offers import Offer, fitted, judge, make_offers, select
from app.pages.model import ModelPage
from app.widgets.pill import Pill
from mlx_lora.errors import UserError
from mlx_lora.machine import Machine
from mlx_lora.models.catalog import catalog, find_entry
from mlx_lora.models.shelf import Found

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from app.application import Application

LLAMA, GEMMA = (
    "mlx-community/Llama-3.2-1B-Instruct-4bit",
    "mlx-community/gemma-3-1b-it-4bit",
)
GB = 10**9


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with one model of the catalogue."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    entry = find_entry(LLAMA)
    assert entry is not None
    put_cached(folder, entry)
    return folder


@pytest.fixture
def page(application: Application, hub: Path, qtbot: QtBot) -> ModelPage:  # noqa: ARG001
    """The page, shown, its scan done."""
    application.start()
    found = application.window.page
    assert isinstance(found, ModelPage)
    qtbot.waitUntil(lambda: here(found, LLAMA))
    return found


def here(page: ModelPage, source: str) -> bool:
    offer = page.models.offer(source)
    return offer is not None and offer.here


def press(qtbot: QtBot, page: ModelPage, source: str) -> None:
    qtbot.mouseClick(page.grid.cards[source], Qt.MouseButton.LeftButton)


def offer_of(source: str, **changes: Any) -> Offer:
    found = next(one for one in make_offers([]) if one.source == source)
    return msgspec.structs.replace(found, **changes)


def test_a_press_chooses_and_continue_leads_on(
    application: Application, page: ModelPage, qtbot: QtBot
) -> None:
    assert not application.window.primary.isEnabled()
    assert application.window.hint.text() == "Choose a model to go on"
    press(qtbot, page, LLAMA)
    model = application.project.value.model
    assert model is not None
    assert (model.source, model.title, model.note) == (LLAMA, "Llama 3.2 1B", "4-bit")
    assert page.grid.cards[LLAMA].isChecked()
    assert not page.grid.cards["demo"].isChecked()
    press(qtbot, page, "demo")
    assert page.grid.cards["demo"].isChecked()
    assert not page.grid.cards[LLAMA].isChecked()
    with qtbot.waitSignal(page.leave) as left:
        qtbot.mouseClick(application.window.primary, Qt.MouseButton.LeftButton)
    assert left.args == ["dataset"]


def test_a_second_press_and_return_go_on(page: ModelPage, qtbot: QtBot) -> None:
    card = page.grid.cards[LLAMA]
    with qtbot.waitSignal(page.leave):
        qtbot.mouseClick(card, Qt.MouseButton.LeftButton)
        qtbot.mouseDClick(card, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(page.leave):
        qtbot.keyClick(page.grid.cards["demo"], Qt.Key.Key_Return)
    assert page.desk.chosen.model is not None
    assert page.desk.chosen.model.source == "demo"


def test_arrows_go_from_card_to_card_without_choosing(
    application: Application, page: ModelPage, qtbot: QtBot
) -> None:
    page.search.choose("all")
    cards = list(page.grid.cards.values())
    cards[0].setFocus()
    qtbot.keyClick(cards[0], Qt.Key.Key_Right)
    assert cards[1].hasFocus()
    qtbot.keyClick(cards[1], Qt.Key.Key_Down)
    assert cards[3].hasFocus()
    qtbot.keyClick(cards[3], Qt.Key.Key_Up)
    qtbot.keyClick(cards[1], Qt.Key.Key_Left)
    assert cards[0].hasFocus()
    assert application.project.value.model is None
    qtbot.keyClick(cards[0], Qt.Key.Key_Space)
    assert application.project.value.model is not None


def test_one_that_is_not_here_is_told_of_and_not_chosen(
    application: Application, page: ModelPage, qtbot: QtBot
) -> None:
    press(qtbot, page, GEMMA)
    assert application.project.value.model is None
    facts = page.rail.facts
    assert facts is not None
    assert facts.title == "Gemma 3 1B"
    assert dict(facts.facts)["Licence"] == "Gemma Terms of Use, to be accepted"
    assert dict(facts.facts)["To download"] == "About 563 MB"
    assert [act.key for act in facts.acts] == ["download"]
    assert application.window.primary.text() == "Download"
    assert "not on this" in application.window.hint.text()
    press(qtbot, page, LLAMA)
    assert application.window.primary.text() == "Continue"


def test_filters_and_search(page: ModelPage, qtbot: QtBot) -> None:
    def shown() -> set[str]:
        return {card.text() for card in page.grid.cards.values()}

    assert {"Storybook", "Llama 3.2 1B"} < shown()
    assert "SmolLM2 135M" not in shown()
    page.search.choose("here")
    assert shown() == {"Storybook", "Llama 3.2 1B"}
    page.search.choose("all")
    assert len(shown()) == len(catalog())
    qtbot.keyClicks(page.search.field, "smol 135")
    assert shown() == {"SmolLM2 135M"}
    assert page.view.strip.isHidden()
    page.search.field.setText("nobody")
    assert shown() == set()
    assert not page.view.nothing.isHidden()


def test_return_in_the_search_takes_an_id_that_is_here(
    application: Application, page: ModelPage, qtbot: QtBot
) -> None:
    qtbot.keyClicks(page.search.field, LLAMA)
    qtbot.keyClick(page.search.field, Qt.Key.Key_Return)
    model = application.project.value.model
    assert model is not None
    assert model.source == LLAMA


def test_a_folder_is_opened_chosen_and_remembered(  # noqa: PLR0917
    application: Application, page: ModelPage, qtbot: QtBot, stories: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = shutil.copytree(stories, tmp_path / "shelf" / "tales")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    with qtbot.waitSignal(application.project.changed):
        qtbot.mouseClick(page.folder_button, Qt.MouseButton.LeftButton)
    model = application.project.value.model
    assert model is not None
    assert (model.source, model.title) == (str(folder), "tales")
    assert application.settings.value.models_folder == str(folder.parent)
    assert page.grid.cards[str(folder)].isChecked()


def test_a_folder_of_models_shows_them(
    application: Application, page: ModelPage, qtbot: QtBot, stories: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        shutil.copytree(stories, tmp_path / "shelf" / name)
    page.take(str(tmp_path / "shelf"))
    assert page.state == "loading"
    assert not page.primary().enabled
    qtbot.waitUntil(lambda: page.state == "ready")
    assert page.search.filter == "here"
    titles = {card.text() for card in page.grid.cards.values()}
    assert titles == {"Storybook", "Llama 3.2 1B", "one", "two"}
    assert application.project.value.model is None
    assert application.settings.value.models_folder == str(tmp_path / "shelf")


def test_a_damaged_folder_is_explained(page: ModelPage, qtbot: QtBot, stories: Path) -> None:
    folder = shutil.copytree(stories, page.desk.runs.root / "broken")
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-100])
    page.take(str(folder))
    qtbot.waitUntil(lambda: page.state == "error")
    assert page.banner.title.text() == "The model's files are damaged"
    assert "cut short" in page.banner.text.text()
    assert not page.banner.more.isHidden()
    page.take(str(page.desk.runs.root / "empty"))
    qtbot.waitUntil(lambda: "no such folder" in page.banner.text.text())


def test_a_damaged_model_of_the_shelf_stays_with_its_reason(
    application: Application, page: ModelPage, qtbot: QtBot, stories: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stories, tmp_path / "shelf" / "broken")
    (folder / "tokenizer.json").unlink()
    application.settings.update(models_folder=str(tmp_path / "shelf"))
    page.models.rescan()
    page.search.choose("here")
    qtbot.waitUntil(lambda: str(folder) in page.grid.cards)
    card = page.grid.cards[str(folder)]
    assert "tokenizer.json" in card.accessibleDescription()
    qtbot.mouseClick(card, Qt.MouseButton.LeftButton)
    assert page.state == "error"
    assert application.project.value.model is None


def test_a_chosen_model_that_is_gone_is_said(
    application: Application, page: ModelPage, qtbot: QtBot, stories: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stories, tmp_path / "tales")
    page.take(str(folder))
    qtbot.waitUntil(lambda: application.project.value.model is not None)
    assert page.primary().enabled
    shutil.rmtree(folder)
    page.entered()
    qtbot.waitUntil(lambda: page.state == "error")
    assert not page.primary().enabled
    assert "not on this" in page.hint()
    press(qtbot, page, "demo")
    assert page.primary().enabled


def test_try_with_sample_is_there_until_there_is_a_run(
    application: Application, page: ModelPage, qtbot: QtBot
) -> None:
    with qtbot.waitSignal(page.sample):
        qtbot.mouseClick(page.view.sample_button, Qt.MouseButton.LeftButton)
    application.project.update(run="one")
    assert page.view.strip.isHidden()


def test_badges_say_what_they_mean(page: ModelPage) -> None:
    said = page.grid.cards[LLAMA].accessibleDescription()
    for words in (
        "Fits:",
        "Training needs about",
        "27 GB",
        "Llama 3.2 Community License",
        "On this",
    ):
        assert words in said
    assert page.grid.cards[LLAMA].toolTip().startswith("Fits:")


def test_another_model_ends_the_sample_preset(application: Application, page: ModelPage) -> None:
    application.settings.update(preset="quick")
    application.project.update(preset="demo", settings={"training": {"steps": 20}})
    page.choose(LLAMA)
    assert (application.project.value.preset, application.project.value.settings) == ("quick", {})


def test_a_float_base_that_only_fits_packed_is_used_packed(
    application: Application, page: ModelPage, qtbot: QtBot, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    entry = find_entry("mlx-community/SmolLM2-360M-Instruct")
    assert entry is not None
    folder = put_model(tmp_path / "shelf" / "full", entry.shape, 16)
    limit = round(4.8 * GB)
    monkeypatch.setattr(type(application.desk), "memory_limit", property(lambda _: limit))
    page.take(str(folder))
    qtbot.waitUntil(lambda: application.project.value.model is not None)
    assert application.project.value.settings == {"model": {"bits": "4"}}
    model = application.project.value.model
    assert model is not None
    assert model.note == "4-bit"
    assert "4 bits a weight" in page.banner.title.text()
    page.choose("demo")
    assert application.project.value.settings == {}


def test_what_makes_a_model_fit_is_tried_from_little_to_much() -> None:
    llama = offer_of(LLAMA)

    def fit(gigabytes: float, offer: Offer = llama, *, metal: bool = True) -> Any:
        found = judge(offer, "balanced", metal=metal, limit=round(gigabytes * GB))
        assert found is not None
        return found

    assert fit(27).settings == {}
    assert fit(5).settings == {"training": {"grad_checkpoint": True}}
    assert fit(2).settings["training"]["batch_size"] == 1
    assert (fit(1).verdict, fit(1).settings) == ("large", {})
    full = offer_of("mlx-community/SmolLM2-360M-Instruct")
    assert fit(4.8, full).settings == {"model": {"bits": "4"}}
    assert fit(8.9, full, metal=False).settings == {"training": {"grad_checkpoint": True}}


def test_four_bits_help_the_cpu_where_floats_leave_too_little() -> None:
    full = offer_of("mlx-community/SmolLM2-360M-Instruct")
    assert full.base is not None
    plain = 4 * full.base.parameters
    for memory, packed in ((2 * plain, False), (2 * plain - 1, True)):
        fit = judge(full, "balanced", metal=False, limit=round(2.5 * GB), memory=memory)
        assert fit is not None
        assert fit.packed is packed


def test_settings_of_another_model_are_taken_back() -> None:
    llama = offer_of(LLAMA)
    small = judge(llama, "balanced", metal=True, limit=2 * GB)
    mine = {"training": {"epochs": 2.0}}
    first = fitted(mine, small)
    assert first["training"]["batch_size"] == 1
    assert fitted(first, judge(llama, "balanced", metal=True, limit=30 * GB)) == mine


def test_offers_know_what_is_here_and_recommend_nothing_broken() -> None:
    broken = Found(source=LLAMA, title="x", problem=UserError("damaged_model", "x", "cut", "y"))
    offers = make_offers([broken])
    assert offers[-1].source == LLAMA
    assert LLAMA not in {o.source for o in select(offers, "recommended", "")}
    assert LLAMA in {o.source for o in select(offers, "here", "")}
    assert judge(offers[-1], "balanced", metal=True, limit=GB) is None


def test_the_machine_is_told(application: Application, page: ModelPage, qtbot: QtBot) -> None:
    assert page.rail.machine.title.text() == "Apple M3 Pro · 36 GB"
    assert "27 GB" in page.rail.machine.text.text()
    application.settings.update(memory_share=0.5)
    assert "14 GB" in page.rail.machine.text.text()
    slow = Machine("x86", GB, GB, False)
    other = ModelPage(msgspec.structs.replace(application.desk, machine=slow))
    qtbot.addWidget(other)
    pills = [pill.text() for pill in other.rail.machine.findChildren(Pill)]
    assert pills == ["No Metal: training is slow"]
