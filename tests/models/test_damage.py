"""Damaged files are found, named, and brought again one by one from a hub on this machine."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cache_made import files_of, into_shards, put_in_cache
from hub_server import Hub, Repository, point_at, serve

from mlx_lora import jobs
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.events import Finished, Phase, Report
from mlx_lora.models.damage import find_damage, repair_plan
from mlx_lora.models.library import check_model
from mlx_lora.models.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "maker/tiny"
SHARD = "model-00002-of-00003.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(scope="module")
def files(stories: Path) -> dict[str, bytes]:
    return into_shards(files_of(stories))


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve({NAME: Repository(dict(files))}, "models") as server:
        point_at(server, tmp_path / "hub", monkeypatch)
        yield server


@pytest.fixture
def snapshot(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> Path:
    commit = hub.repositories[NAME].commit("main")
    return put_in_cache(tmp_path / "hub", NAME, files, commit)


def run(root: Path, **changes: Any) -> tuple[list[Any], UserError | None]:
    """(events, how it failed) of a check."""
    told: list[Any] = []
    try:
        told.extend(verify(jobs.VerifyJob(model=NAME, root=str(root), **changes), Control()))
    except UserError as error:
        return told, error
    return told, None


def put(path: Path, content: bytes) -> None:
    """Change what is behind a link, the link and its name staying."""
    path.resolve().write_bytes(content)


def cut(path: Path) -> None:
    put(path, path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    put(path, bytes(content))


def rename(path: Path) -> None:
    """Another tokenizer, and whole JSON."""
    put(path, path.read_bytes().replace(b"<unk>", b"<unj>"))


WAYS: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "pointer": (SHARD, lambda p: put(p, POINTER), "pointer", "Git LFS pointer"),
    "page": (SHARD, lambda p: put(p, b"<!DOCTYPE html><html>no</html>"), "web_page", "web page"),
    "cut": (SHARD, cut, "cut_short", "cut short"),
    "empty": (SHARD, lambda p: put(p, b""), "cut_short", "cut short"),
    "blob gone": (SHARD, lambda p: p.resolve().unlink(), "missing", "a part of the model"),
    "link gone": (SHARD, lambda p: p.unlink(), "missing", "a part of the model is missing"),
    "flipped": (SHARD, flip, "wrong_hash", "checksum"),
    "other file": (
        SHARD,
        lambda p: put(p, p.with_name("model-00001-of-00003.safetensors").read_bytes()),
        "wrong_hash", "checksum",
    ),
    "tokenizer page": ("tokenizer.json", lambda p: put(p, b"<html>"), "web_page", "web page"),
    "tokenizer cut": ("tokenizer.json", cut, "cut_short", "JSON"),
    "tokenizer flipped": ("tokenizer.json", rename, "wrong_hash", "checksum"),
    "config gone": ("config.json", lambda p: p.unlink(), "missing", "not there"),
    "config cut": ("config.json", cut, "cut_short", "JSON"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_damage_is_named_and_mended_by_one_file(
    way: str, snapshot: Path, hub: Hub, files: dict[str, bytes], root: Path
) -> None:
    name, harm, kind, words = WAYS[way]
    harm(snapshot / name)
    told, error = run(root)
    assert error is not None
    assert error.code == ("missing_shard" if kind == "missing" else "damaged_model")
    assert words in error.why
    assert error.where.endswith(name)
    assert error.fix == f"bring it again with: understudy models verify {NAME} --repair"
    report = next(e for e in told if isinstance(e, Report)).data
    assert [(one["name"], one["kind"]) for one in report["damage"]] == [(name, kind)]
    hub.asked.clear()
    told, error = run(root, repair=True)
    assert error is None
    assert told[-1] == Finished(reason="done", result={"model": NAME, "repaired": [name]})
    brought = {p.rpartition("/")[2] for _, p, _ in hub.asked if "/resolve/" in p}
    assert brought == {name}, "no other file was asked for"
    assert {n: (snapshot / n).read_bytes() for n in files} == files
    assert run(root)[0][-1].reason == "done"
    check_model(NAME)


def test_two_damaged_files_are_both_mended(
    snapshot: Path, files: dict[str, bytes], root: Path
) -> None:
    cut(snapshot / SHARD)
    (snapshot / "config.json").unlink()
    _, error = run(root)
    assert error is not None
    assert "(and 1 more)" in error.why
    assert run(root, repair=True)[1] is None
    assert {n: (snapshot / n).read_bytes() for n in files} == files


def test_an_index_that_is_damaged_is_not_believed(
    snapshot: Path, files: dict[str, bytes], root: Path
) -> None:
    """It names a file there never was; and behind it a shard is really gone."""
    index = snapshot / "model.safetensors.index.json"
    put(index, index.read_bytes().replace(b"model-00001-of", b"model-00009-of"))
    (snapshot / SHARD).unlink()
    told, error = run(root, repair=True)
    assert error is None
    assert told[-1].result["repaired"] == [index.name, SHARD]
    assert {n: (snapshot / n).read_bytes() for n in files} == files


def test_what_was_read_is_not_read_again_and_can_be(snapshot: Path, root: Path) -> None:
    import os

    def checked(**changes: Any) -> tuple[bool, UserError | None]:
        told, error = run(root, **changes)
        return any(isinstance(e, Phase) and e.done < e.total for e in told), error

    assert run(root)[1] is None
    weights = (snapshot / SHARD).resolve()
    stat = weights.stat()
    flip(snapshot / SHARD)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert checked()[1] is None, "same size, time and inode: taken for the file that was read"
    error = checked(again=True)[1]
    assert error is not None
    assert "checksum" in error.why


def test_every_flip_and_every_cut_is_caught(snapshot: Path, root: Path) -> None:
    draw = random.Random(0)
    names = [path.name for path in sorted(snapshot.iterdir())]
    for number in range(200):
        path = snapshot / draw.choice(names)
        whole = path.read_bytes()
        if number % 2:
            put(path, whole[: draw.randrange(len(whole))])
        else:
            content = bytearray(whole)
            content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            put(path, bytes(content))
        told, error = run(root)
        assert error is not None, path.name
        damage = next(e for e in told if isinstance(e, Report)).data["damage"]
        assert [one["name"] for one in damage] == [path.name]
        put(path, whole)


def test_offline_nothing_is_asked(
    snapshot: Path, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(snapshot / SHARD)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, error = run(root, repair=True)
    assert error is not None
    assert error.code == "network"
    assert hub.asked == []
    assert run(root)[1] is not None, "looking needs no connection"


@pytest.mark.parametrize(
    ("harm", "fix"),
    [(lambda p: p.write_bytes(POINTER), "git lfs pull"), (cut, "from where the model came from")],
)
def test_a_folder_of_one_s_own_is_told_what_to_do(
    tmp_path: Path, stories: Path, harm: Callable[[Path], None], fix: str, root: Path
) -> None:
    folder = Path(shutil.copytree(stories, tmp_path / "m"))
    harm(folder / "model.safetensors")
    plan = repair_plan(str(folder))
    assert (plan.repository, plan.possible) == ("", False)
    assert [one.name for one in plan.damage] == ["model.safetensors"]
    job = jobs.VerifyJob(model=str(folder), root=str(root), repair=True)
    with pytest.raises(UserError) as raised:
        list(verify(job, Control()))
    assert fix in raised.value.fix


def test_a_whole_model_has_no_damage(stories: Path, demo_model: Path) -> None:
    assert find_damage(stories) == find_damage(demo_model) == []


def test_a_shard_of_another_place_is_seen_without_a_hash(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert find_damage(tmp_path) == []
    shutil.copyfile(tmp_path / "model-00001-of-00003.safetensors", tmp_path / SHARD)
    (one,) = find_damage(tmp_path)
    assert (one.name, one.kind) == (SHARD, "broken")
    assert "it lacks" in one.why


@pytest.mark.parametrize("name", ["../evil.safetensors", "a/b.safetensors", "..", "", 7])
def test_an_index_leads_nowhere_else(tmp_path: Path, stories: Path, name: Any) -> None:
    folder = Path(shutil.copytree(stories, tmp_path / "m"))
    index = {"weight_map": {"a": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert all("evil" not in one.name for one in find_damage(folder))


def test_an_index_that_is_no_text_is_refused_in_words(tmp_path: Path, stories: Path) -> None:
    folder = Path(shutil.copytree(stories, tmp_path / "m"))
    (folder / "model.safetensors.index.json").write_bytes(b'{"weight_map": {"\xee": "a"}}')
    with pytest.raises(UserError, match="no index of safetensors") as raised:
        check_model(str(folder))
    assert raised.value.code == "damaged_model"
    assert [one.name for one in find_damage(folder)] == ["model.safetensors.index.json"]
