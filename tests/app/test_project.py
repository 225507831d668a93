"""The project: saved on each change, there again, whole after a kill; what decides a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from app.project import (
    DataChoice,
    ModelChoice,
    Project,
    ProjectStore,
    Vote,
    build_run_config,
    is_blank,
    recipe_of,
)
from app.settings import SettingsStore
from mlx_lora import storage
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.usefixtures("qapp")
MODEL, DATA = ModelChoice("demo", "Storybook"), DataChoice("demo", "Sample", {"training_rows": 9})
FULL = Project(
    name="Poems", model=MODEL, data=DATA, preset="quick", settings={"adapter": {"rank": 4}},
    run="r", recipe="x", checkpoint=20, prompt="Who", votes=(Vote("p", "base"),), step="train",
)  # fmt: skip


def test_a_change_is_saved_and_told_once(root: Path, qtbot: QtBot) -> None:
    store = ProjectStore(root)
    with qtbot.waitSignal(store.changed) as told:
        store.update(name="Poems", model=MODEL)
    assert told.args == [store.value]
    assert ProjectStore(root).value == store.value
    before = store.file.stat().st_mtime_ns
    with qtbot.assertNotEmitted(store.changed):
        store.update(name="Poems")
    assert store.file.stat().st_mtime_ns == before


def test_everything_of_it_is_there_again(root: Path) -> None:
    ProjectStore(root).update(**msgspec.structs.asdict(FULL))
    assert ProjectStore(root).value == FULL


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"name": 3}', b'{"preset": "wild"}', b'{"settings": [1]}'],
)
def test_a_damaged_file_is_left_and_another_begun(root: Path, content: bytes) -> None:
    store = ProjectStore(root)
    store.update(name="Poems")
    damaged = store.file
    damaged.write_bytes(content)
    again = ProjectStore(root)
    assert again.value == Project()
    again.update(name="New")
    assert damaged.read_bytes() == content
    assert [project.name for _, project in again.list()] == ["New"]


def test_fields_of_a_later_version_are_passed_over(root: Path) -> None:
    store = ProjectStore(root)
    store.update(name="Poems")
    store.file.write_bytes(b'{"name": "Poems", "mood": "gay"}')
    assert ProjectStore(root).value.name == "Poems"


def test_the_last_one_opened_is_restored(root: Path) -> None:
    store = ProjectStore(root)
    store.update(name="One", model=MODEL)
    first = store.file
    store.new("Two", model=MODEL)
    assert ProjectStore(root).value.name == "Two"
    os.utime(store.file, ns=(1, 1))  # clocks of file systems are coarse
    store.open(first)
    assert ProjectStore(root).value.name == "One"
    assert [project.name for _, project in store.list()] == ["One", "Two"]


def test_a_blank_project_is_not_kept(root: Path) -> None:
    store = ProjectStore(root)
    store.update(prompt="Who")
    assert is_blank(store.value)
    store.new("Other", data=DATA)
    assert [project.name for _, project in store.list()] == ["Other"]
    assert not is_blank(store.value)


def test_one_that_is_gone_is_not_opened(root: Path, qtbot: QtBot) -> None:
    store = ProjectStore(root)
    store.update(name="One")
    with qtbot.assertNotEmitted(store.changed):
        store.open(root / "projects" / "99.project.json")
    assert store.value.name == "One"


_KILLED = """
import os, sys
from pathlib import Path
from app.project import ProjectStore
from mlx_lora import storage
store = ProjectStore(Path(sys.argv[1]))
def die(path):
    os.kill(os.getpid(), 9)
storage.sync = die
store.update(name="Never")
"""


def test_a_kill_in_the_middle_of_a_save_leaves_the_old_one(root: Path) -> None:
    store = ProjectStore(root)
    store.update(name="Poems", model=MODEL)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(root)], cwd=Path(__file__).parents[2], timeout=60
    )
    assert done.returncode == -9
    leftovers = list((root / "projects").glob(f"{storage.TEMPORARY}*"))
    assert len(leftovers) == 1
    assert [project.name for _, project in store.list()] == ["Poems"]
    assert ProjectStore(root).value.name == "Poems"
    assert not leftovers[0].exists()


def test_a_full_disk_is_said_and_what_is_shown_is_one(
    root: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ProjectStore(root)
    store.update(name="Poems")
    full = UserError("disk_full", "disk", "the disk is full", "free some space")

    def refuse(*_: object) -> None:
        raise full

    monkeypatch.setattr("app.project.write_file", refuse)
    with qtbot.waitSignal(store.changed), pytest.raises(UserError, match="disk_full"):
        store.update(name="Verses")
    assert store.value.name == "Verses"
    monkeypatch.undo()
    assert ProjectStore(root).value.name == "Poems"


def test_settings_are_saved_in_one_go_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SettingsStore(root).update(preset="quick")

    def fail(_: Path) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(storage, "sync", fail)
    with pytest.raises(UserError, match="disk_full"):
        SettingsStore(root).update(preset="thorough")
    assert SettingsStore(root).value.preset == "quick"


# -- what decides a run


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelChoice("other", "Storybook")},
        {"model": None},
        {"data": DataChoice("other", "Sample")},
        {"preset": "thorough"},
        {"settings": {"adapter": {"rank": 5}}},
        {"settings": {}},
        {"settings": {"adapter": {"rank": 4}, "training": {"seed": 1}}},
        {"settings": {"adapter": {"rank": 0}}},
    ],
)
def test_another_recipe(changes: dict[str, Any]) -> None:
    assert recipe_of(msgspec.structs.replace(FULL, **changes)) != recipe_of(FULL)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Verses"}, {"run": None}, {"recipe": ""}, {"checkpoint": None}, {"prompt": ""},
        {"votes": ()}, {"step": "export"},
        {"model": ModelChoice("demo", "Another Name", "4-bit")},
        {"data": DataChoice("demo", "Another Name", {"training_rows": 12})},
        {"settings": {"adapter": {"rank": 4, "dropout": build_run_config(FULL).adapter.dropout}}},
        {"preset": "balanced",
         "settings": {"adapter": {"rank": 4}, "training": {"epochs": 1.0, "learning_rate": 2e-4}}},
    ],
)  # fmt: skip
def test_the_same_recipe(changes: dict[str, Any]) -> None:
    assert recipe_of(msgspec.structs.replace(FULL, **changes)) == recipe_of(FULL)


def test_every_field_is_judged_above() -> None:
    """A new field of the project decides a run, or it does not: both lists must know it."""
    known = {"model", "data", "preset", "settings"}
    known |= {"name", "run", "recipe", "checkpoint", "prompt", "votes", "step"}
    assert set(Project.__struct_fields__) == known


def test_values_that_do_not_hold_name_their_field() -> None:
    wrong = msgspec.structs.replace(FULL, settings={"adapter": {"rank": 0}})
    with pytest.raises(UserError, match="rank"):
        build_run_config(wrong)
    assert recipe_of(wrong)
