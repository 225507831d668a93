"""What is on this machine, what it weighs, who needs it; and what deleting it frees."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cache_made import files_of, put_in_cache

from mlx_lora.errors import UserError
from mlx_lora.models.deletion import check_unused, delete_model
from mlx_lora.models.holdings import Holding, find_holding, holdings, library_folder
from mlx_lora.models.origin import Origin, write_origin
from mlx_lora.runs import Run, RunRecord, RunStore

NAME = "maker/tiny"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def store(root: Path) -> RunStore:
    return RunStore(root)


@pytest.fixture
def snapshot(cache: Path, stories: Path) -> Path:
    return put_in_cache(cache, NAME, files_of(stories))


def make_run(store: RunStore, model: str) -> Run:
    from mlx_lora.config import build_config

    config = build_config({"model": {"source": model}, "data": {"source": "demo"}})
    record = RunRecord(
        config=config, versions={}, data_sha256="", base_fingerprint="", model_name="m"
    )
    return store.create(record, "r")


def on_disk(folder: Path) -> int:
    """What `du` would say, files counted once."""
    stats = [p.stat() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return sum({(s.st_dev, s.st_ino): s.st_size for s in stats}.values())


def only(store: RunStore, *folders: str) -> Holding:
    (one,) = holdings(store, folders)
    return one


@pytest.mark.usefixtures("snapshot")
def test_a_cached_model_is_weighed_once_however_many_versions_share_it(
    cache: Path, stories: Path, store: RunStore
) -> None:
    files = files_of(stories)
    changed = {**files, "config.json": files["config.json"] + b"\n"}
    put_in_cache(cache, NAME, changed, "d" * 40)
    one = only(store)
    assert (one.source, one.kind, one.problem, one.bits) == (NAME, "hub", None, 32)
    assert one.versions == ("d" * 40, "c" * 40)
    weights = sum(map(len, files.values())) + len(changed["config.json"])
    assert one.size == on_disk(cache / "models--maker--tiny") == weights + 40
    assert one.origin == "Hugging Face, maker/tiny"


@pytest.mark.usefixtures("snapshot")
def test_it_is_told_when_it_came_and_when_a_run_last_used_it(cache: Path, store: RunStore) -> None:
    for path in (cache / "models--maker--tiny").rglob("*"):
        os.utime(path, (1_000_000, 900_000), follow_symlinks=False)
    for _ in range(2):
        one = only(store)
        assert (one.arrived, one.used) == (900_000, 0)
    run = make_run(store, NAME)
    (run.folder / "events.jsonl").write_text("")
    os.utime(run.folder / "events.jsonl", (2_000_000, 2_000_000))
    assert only(store).used == 2_000_000


@pytest.mark.usefixtures("cache")
def test_the_library_and_chosen_folders_are_there_too(
    tmp_path: Path, stories: Path, store: RunStore
) -> None:
    own = Path(shutil.copytree(stories, tmp_path / "mine" / "good"))
    made = Path(shutil.copytree(stories, library_folder(store.root) / "tiny-4bit"))
    write_origin(made, Origin(made_from="maker/tiny", bits=4, understudy="0"))
    found = {one.title: one for one in holdings(store, (str(own.parent), str(own)))}
    assert {title: one.kind for title, one in found.items()} == {
        "good": "folder", "tiny-4bit": "library"
    }  # fmt: skip
    assert found["tiny-4bit"].origin == "packed to 4 bit from maker/tiny"
    assert found["good"].size == on_disk(own)


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"tiny-Q4_K_M.gguf": b"GGUF"}, "unsupported_model", "GGUF"),
        ({"README.md": b"hello"}, "no_such_model", ""),
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "bad_model", ""),
    ],
)
def test_what_cannot_be_used_stays_in_the_list_with_its_reason(
    cache: Path, store: RunStore, files: dict[str, bytes], code: str, words: str
) -> None:
    put_in_cache(cache, NAME, files)
    one = only(store)
    assert one.problem is not None
    assert one.problem.code == code
    assert words in one.problem.why
    assert delete_model(one, store) > 0
    assert holdings(store) == []


def test_an_unfinished_download_is_said_and_can_be_deleted(cache: Path, store: RunStore) -> None:
    blobs = cache / "models--maker--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'a' * 64}.incomplete").write_bytes(b"x" * 1000)
    one = only(store)
    assert (one.size, one.unfinished) == (1000, 1000)
    assert one.problem is not None
    assert one.problem.fix == "go on with: understudy models download maker/tiny"
    assert delete_model(one, store) == 1000
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("named", ["id", "snapshot"])
def test_a_model_that_runs_need_is_kept_unless_it_is_meant(
    snapshot: Path, cache: Path, store: RunStore, named: str
) -> None:
    names = [make_run(store, NAME if named == "id" else str(snapshot)).name for _ in range(4)]
    one = only(store)
    assert sorted(one.runs) == sorted(names)
    with pytest.raises(UserError) as raised:
        delete_model(one, store)
    assert raised.value.code == "in_use"
    assert "4 runs need it" in raised.value.why
    assert "and 1 more" in raised.value.why
    assert all(name in raised.value.why for name in one.runs[:3])
    assert snapshot.is_dir()
    with Run(store.runs / names[0]).lock():
        for check in (
            lambda: delete_model(one, store, even_if_used=True),
            lambda: check_unused(one, store),
        ):
            with pytest.raises(UserError) as raised:
                check()
            assert raised.value.code == "busy"
    size = on_disk(cache)
    reference = len("c" * 40)
    assert delete_model(one, store, even_if_used=True) + reference == size
    assert on_disk(cache) == 0
    assert not (cache / "models--maker--tiny").exists()
    assert len(store.list()) == 4


@pytest.mark.usefixtures("snapshot")
def test_runs_of_other_models_need_nothing(store: RunStore) -> None:
    make_run(store, "demo")
    make_run(store, "maker/tiny-2")
    assert only(store).runs == ()


@pytest.mark.usefixtures("snapshot")
def test_deleting_frees_the_disk_and_leaves_the_neighbours(
    cache: Path, stories: Path, store: RunStore
) -> None:
    put_in_cache(cache, "maker/other", files_of(stories))
    one = find_holding(NAME, store)
    before = on_disk(cache)
    freed = delete_model(one, store)
    assert freed == before - on_disk(cache) - len("c" * 40)
    assert [o.source for o in holdings(store)] == ["maker/other"]


@pytest.mark.usefixtures("snapshot")
def test_one_version_goes_and_what_another_shares_stays(
    cache: Path, stories: Path, store: RunStore
) -> None:
    files = files_of(stories)
    kept = put_in_cache(
        cache, NAME, {**files, "config.json": files["config.json"] + b" "}, "d" * 40
    )
    one = only(store)
    assert delete_model(one, store, version="c" * 40) == len(files["config.json"])
    assert (kept / "model.safetensors").read_bytes() == files["model.safetensors"]
    left = only(store)
    assert (left.versions, left.problem) == (("d" * 40,), None)
    with pytest.raises(UserError, match="no such version"):
        delete_model(left, store, version="e" * 40)


def test_a_cache_the_hub_cannot_read_is_deleted_as_a_whole(
    snapshot: Path, cache: Path, store: RunStore
) -> None:
    (snapshot / "model.safetensors").resolve().unlink()
    one = only(store)
    with pytest.raises(UserError, match="leave --version out"):
        delete_model(one, store, version="c" * 40)
    delete_model(one, store)
    assert list(cache.glob("models--*")) == []


@pytest.mark.usefixtures("cache")
def test_a_folder_that_holds_more_than_a_model_is_not_deleted(
    tmp_path: Path, stories: Path, store: RunStore
) -> None:
    folder = Path(shutil.copytree(stories, tmp_path / "mine" / "good"))
    (folder / "thesis.docx").write_text("years of work")
    one = find_holding(str(folder), store)
    with pytest.raises(UserError, match=r"thesis\.docx"):
        delete_model(one, store)
    assert (folder / "thesis.docx").is_file()
    (folder / "thesis.docx").unlink()
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(UserError, match="link to a folder"):
        delete_model(find_holding(str(link), store), store)
    assert delete_model(one, store) == one.size
    assert not folder.exists()


@pytest.mark.usefixtures("snapshot")
def test_names_are_found_and_missed_with_words(cache: Path, stories: Path, store: RunStore) -> None:
    assert find_holding("Tiny", store).source == NAME
    put_in_cache(cache, "another/tiny", files_of(stories))
    for name, words in (("tiny", "several"), ("demo", "comes with"), ("none", "not on this")):
        with pytest.raises(UserError, match=words):
            find_holding(name, store)


def test_the_command_line(cache: Path, stories: Path, store: RunStore, understudy: Any) -> None:
    put_in_cache(cache, NAME, files_of(stories))
    run = make_run(store, NAME)
    listed = json.loads(understudy("models", "list", "--json").stdout)
    assert [(one["source"], one["runs"], one["problem"]) for one in listed] == [
        (NAME, [run.name], None)
    ]
    refused = understudy("models", "delete", NAME, "--yes")
    assert (refused.returncode, refused.stderr[:13]) == (2, "error[in_use]")
    assert run.name in refused.stderr
    done = understudy("models", "delete", NAME, "--even-if-used", "--yes")
    assert done.returncode == 0
    assert "are free again" in done.stdout
    assert "No models yet" in understudy("models", "list").stdout
