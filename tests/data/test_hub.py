"""Datasets of the hub, against a server on this machine that speaks its API."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import Hub, Repository, environment, point_at, serve

from mlx_lora.config import DataConfig
from mlx_lora.data.examples import load_examples
from mlx_lora.data.hub import fetch_dataset, is_hub_id, needs_fetch
from mlx_lora.data.hub_files import choose_files, converted_layout, layout_of
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


def lines(count: int, name: str = "row") -> bytes:
    rows = [{"prompt": f"{name} {n}?", "completion": f"{name} {n}."} for n in range(count)]
    return "\n".join(map(json.dumps, rows)).encode()


def parquet(folder: Path, count: int, name: str) -> bytes:
    import pyarrow
    import pyarrow.parquet

    rows = [{"prompt": f"{name} {n}?", "completion": f"{name} {n}." * 9} for n in range(count)]
    path = folder / "made.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hub]]:
    """Starts the server with repositories; the library in this process asks only it."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**repositories: Repository) -> Hub:
            named = {f"anna/{name}": made for name, made in repositories.items()}
            server = stack.enter_context(serve(named))
            point_at(server, tmp_path / "cache", monkeypatch)
            return server

        yield start


def fetch(root: Path, source: str, **settings: Any) -> list[tuple[int, int]]:
    data = DataConfig(source=source, **settings)
    return [(phase.done, phase.total) for phase in fetch_dataset(data, root)]


def rows(root: Path, source: str, **settings: Any) -> dict[str, list[str]]:
    found, _ = load_examples(find_source(DataConfig(source=source, **settings), root))
    return {split: [one.prompt for one in examples] for split, examples in found.items()}  # type: ignore[union-attr]


def test_json_lines_with_a_validation_file(hub: Callable[..., Hub], tmp_path: Path) -> None:
    files = {"train.jsonl": lines(300), "validation.jsonl": lines(4, "held"), "test.jsonl": b"x"}
    server = hub(chats=Repository(files))
    data = DataConfig(source="anna/chats")
    assert needs_fetch(data, tmp_path)
    progress = fetch(tmp_path, "anna/chats")
    total = len(files["train.jsonl"]) + len(files["validation.jsonl"])
    assert progress[-1] == (total, total)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert not needs_fetch(data, tmp_path)
    found = rows(tmp_path, "anna/chats")
    assert (len(found["train"]), found["valid"][0]) == (300, "held 0?")
    # what is not learnt from is not brought, and nothing is asked again
    assert not any("test.jsonl" in path for _, path, _ in server.asked)
    asked = len(server.asked)
    rows(tmp_path, "anna/chats")
    assert len(server.asked) == asked


def test_parquet_in_shards_by_the_card(hub: Callable[..., Hub], tmp_path: Path) -> None:
    names, splits = ("main", "socratic"), ("train", "test")
    parts = [(name, split, n) for name in names for split in splits for n in (0, 1)]
    files = {
        f"{name}/{split}-0000{n}-of-00002.parquet": parquet(tmp_path, 900, f"{name} {split} {n}")
        for name, split, n in parts
    }
    paths = {name: [{"split": s, "path": f"{name}/{s}-*"} for s in splits] for name in names}
    configs = [{"config_name": name, "data_files": files} for name, files in paths.items()]
    hub(gsm=Repository(files, {"configs": configs}))
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/gsm")
    assert caught.value.code == "no_such_data"
    assert "main, socratic" in caught.value.why
    assert "--subset main" in caught.value.fix
    fetch(tmp_path, "anna/gsm", subset="socratic")
    found = rows(tmp_path, "anna/gsm", subset="socratic")
    assert len(found["train"]) == 1800
    assert found["train"][0] == "socratic train 0 0?"
    assert found["train"][900] == "socratic train 1 0?"
    # the two shards' rows are numbered on
    source = find_source(DataConfig(source="anna/gsm", subset="socratic"), tmp_path)
    examples, _ = load_examples(source)
    assert [one.row for one in examples["train"]] == list(range(1, 1801))
    fetch(tmp_path, "anna/gsm", subset="main", split="test")
    assert rows(tmp_path, "anna/gsm", subset="main", split="test")["train"][0] == "main test 0 0?"


def test_a_packed_table(hub: Callable[..., Hub], tmp_path: Path) -> None:
    table = "prompt,completion\n" + "".join(f'"q, {n}",a{n}\n' for n in range(20))
    hub(table=Repository({"data.csv.gz": gzip.compress(table.encode())}))
    fetch(tmp_path, "anna/table")
    assert rows(tmp_path, "anna/table")["train"][3] == "q, 3"


def test_only_a_program_and_the_hubs_own_parquet(hub: Callable[..., Hub], tmp_path: Path) -> None:
    made = Repository({"old.py": b"raise SystemExit"})
    made.branches["refs/convert/parquet"] = {
        "default/train/0000.parquet": parquet(tmp_path, 60, "converted")
    }
    hub(old=made, bare=Repository({"old.py": b"raise SystemExit"}))
    fetch(tmp_path, "anna/old")
    assert rows(tmp_path, "anna/old")["train"][0] == "converted 0?"
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/bare")
    assert caught.value.code == "no_such_data"
    assert "never run" in caught.value.why


@pytest.mark.parametrize(("status", "words"), [(429, "wait"), (500, "500"), (503, "busy")])
def test_a_hub_that_refuses(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: Any, status: int, words: str
) -> None:
    import time

    monkeypatch.setattr(time, "sleep", lambda _: None)
    made = Repository({"train.jsonl": lines(3)})
    made.status = status
    hub(chats=made)
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chats")
    assert (caught.value.code, words in caught.value.why) == ("network", True), caught.value


def test_what_may_not_be_had_is_said_without_the_token(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Repository({"train.jsonl": lines(3)})
    made.gated = True
    server = hub(gated=made)
    monkeypatch.setenv("HF_TOKEN", "hf_canary_0123")
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/gated")
    assert caught.value.code == "no_access"
    assert "accept its terms" in caught.value.fix
    assert "/datasets/anna/gated" in caught.value.fix
    assert "canary" not in str(caught.value)
    assert any("canary" in token for _, _, token in server.asked)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    fetch(tmp_path, "anna/gated")
    for path in (tmp_path / "datasets").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"hf_right" not in content
        assert str(Path.home()).encode() not in content
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/nothing")
    assert "no such dataset, or it is private" in caught.value.why
    assert caught.value.code == "no_access"


def test_a_body_that_breaks_off_and_bytes_that_are_wrong(
    hub: Callable[..., Hub], tmp_path: Path
) -> None:
    made = Repository({"train.jsonl": lines(3000)})
    made.cut = [5000, 9000]
    hub(chats=made)
    fetch(tmp_path, "anna/chats")
    assert len(rows(tmp_path, "anna/chats")["train"]) == 3000
    wrong = Repository({"train.jsonl": lines(3000, "other")})
    wrong.wrong = 2
    hub(wrong=wrong)
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/wrong")
    assert "checksum" in caught.value.why
    assert needs_fetch(DataConfig(source="anna/wrong"), tmp_path)
    # wrong once: it is brought anew
    wrong.wrong = 1
    fetch(tmp_path, "anna/wrong")
    assert wrong.wrong == 0
    assert rows(tmp_path, "anna/wrong")["train"][0] == "other 0?"


def test_no_connection_and_no_such_split(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from huggingface_hub import constants

    hub(chats=Repository({"train.jsonl": lines(3), "extra_test.jsonl": lines(3)}))
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chats", split="tests")
    assert "--split test" in caught.value.fix
    # a port nobody listens on
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chats")
    assert caught.value.code == "network"
    assert "no connection" in caught.value.why


def test_nothing_is_drawn_and_the_token_stays_on_the_hub(
    hub: Callable[..., Hub], tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub(chats=Repository({"train.jsonl": lines(3000)}))
    monkeypatch.setenv("HF_TOKEN", "hf_canary_0123")
    fetch(tmp_path, "anna/chats")
    assert capfd.readouterr() == ("", "")
    tokens = {path.split("/")[1]: token for _, path, token in server.asked}
    assert tokens["lfs"] == ""
    assert tokens["api"] == "Bearer hf_canary_0123"
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"canary" in path.read_bytes()]


def test_a_token_that_is_not_accepted(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Repository({"train.jsonl": lines(3)})
    made.status = 401
    hub(chats=made)
    monkeypatch.setenv("HF_TOKEN", "hf_canary_0123")
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chats")
    assert caught.value.code == "no_access"
    assert "does not accept the token" in caught.value.why
    assert "HF_TOKEN" in caught.value.why
    assert "canary" not in str(caught.value)


def test_a_name_nearly_right(hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub(chats=Repository({"train.jsonl": lines(3)}))
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chatz")
    assert (caught.value.code, caught.value.fix) == ("no_such_data", "did you mean anna/chats?")


def test_told_to_stay_offline(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    server = hub(chats=Repository({"train.jsonl": lines(3)}))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chats")
    assert (caught.value.code, caught.value.why) == ("network", "HF_HUB_OFFLINE is set")
    assert server.asked == []


def test_a_full_disk_is_said_before_anything_is_brought(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    server = hub(chats=Repository({"train.jsonl": lines(3000)}))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=9))
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, "anna/chats")
    assert caught.value.code == "disk_full"
    assert not any("resolve" in path for _, path, _ in server.asked)


@pytest.mark.parametrize("count", [3, 3000])
def test_a_file_damaged_in_the_cache_is_brought_anew(
    hub: Callable[..., Hub], tmp_path: Path, count: int
) -> None:
    """A small file is known by its git hash, a large one by its SHA-256."""
    content = lines(count)
    hub(chats=Repository({"train.jsonl": content}))
    data = DataConfig(source="anna/chats")
    fetch(tmp_path, "anna/chats")
    path = find_source(data, tmp_path).files["train"][0].resolve()
    path.write_bytes(content[:-9])
    assert needs_fetch(data, tmp_path)
    fetch(tmp_path, "anna/chats")
    # of the same length, and noticed by whoever brings it again
    path = find_source(data, tmp_path).files["train"][0].resolve()
    path.write_bytes(b"?" + content[1:])
    fetch(tmp_path, "anna/chats")
    assert find_source(data, tmp_path).files["train"][0].read_bytes() == content


def test_a_stop_is_heeded_at_once(hub: Callable[..., Hub], tmp_path: Path) -> None:
    import time

    made = Repository({"train.jsonl": lines(3000)})
    made.halt = 5000
    hub(chats=made)
    fetching = fetch_dataset(DataConfig(source="anna/chats"), tmp_path)
    for phase in fetching:
        if phase.total:
            break
    start = time.monotonic()
    fetching.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 1
    assert needs_fetch(DataConfig(source="anna/chats"), tmp_path)


FETCH = """
from pathlib import Path
from mlx_lora.config import DataConfig
from mlx_lora.data.hub import fetch_dataset
for phase in fetch_dataset(DataConfig(source="anna/chats"), Path("root")):
    print(phase.done, flush=True)
"""


def test_killed_in_the_middle_and_tried_again(tmp_path: Path) -> None:
    content = lines(9000)
    made = Repository({"a.jsonl": lines(400, "first"), "train.jsonl": content})
    made.card = {"configs": [{"config_name": "x", "data_files": ["a.jsonl", "train.jsonl"]}]}
    blobs = tmp_path / "cache" / "datasets--anna--chats" / "blobs"
    with serve({"anna/chats": made}) as server:

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-c", FETCH], cwd=tmp_path, env=environment(server.url, tmp_path),
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip

        made.halt = 3000
        with start() as killed:
            assert killed.stdout
            while not list(blobs.glob("*.incomplete")):
                assert killed.stdout.readline()
            killed.kill()
        assert list(blobs.glob("*.incomplete"))
        assert not (tmp_path / "root").exists()
        made.halt = 0
        with start() as again:
            assert again.wait(30) == 0
    assert not list(blobs.glob("*.incomplete"))
    assert sorted(p.stat().st_size for p in blobs.iterdir()) == sorted(
        len(content) for content in (made.files["a.jsonl"], content)
    )


def test_what_another_process_is_bringing_is_left_alone(
    hub: Callable[..., Hub], tmp_path: Path
) -> None:
    from filelock import FileLock

    hub(chats=Repository({"train.jsonl": lines(3)}))
    blobs = tmp_path / "cache" / "datasets--anna--chats" / "blobs"
    locks = tmp_path / "cache" / ".locks" / "datasets--anna--chats"
    blobs.mkdir(parents=True)
    locks.mkdir(parents=True)
    for name in ("0123.aaaa.incomplete", "4567.bbbb.incomplete"):
        (blobs / name).write_bytes(b"half")
    with FileLock(locks / "0123.lock"):
        fetch(tmp_path, "anna/chats")
    assert [path.name for path in blobs.glob("*.incomplete")] == ["0123.aaaa.incomplete"]


def test_what_an_earlier_try_left_is_removed(hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub(chats=Repository({"train.jsonl": lines(3000)}))
    blobs = tmp_path / "cache" / "datasets--anna--chats" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "0123.incomplete").write_bytes(b"half")
    fetch(tmp_path, "anna/chats")
    assert not list(blobs.glob("*.incomplete"))


def test_from_the_command_line_and_then_without_a_connection(tmp_path: Path) -> None:
    made = Repository({"train.jsonl": lines(300)})

    def check(url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app", "data", "check", "anna/chats"],
            cwd=ROOT, env=environment(url, tmp_path), capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    with serve({"anna/chats": made}) as server:
        done = check(server.url)
        assert done.returncode == 0, done.stderr
        assert "270" in done.stdout
    again = check(server.url)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    "source",
    [
        "demo", "a/b/c", "../x", "a b/c", "/abs/x", "owner/", "-a/b",
        # files that are missing, which no hub is asked for
        "notes/train.jsonl", "data/rows.csv.gz", "data/x.TXT", "a/b.parquet",
    ],
)  # fmt: skip
def test_what_is_no_id(source: str) -> None:
    assert not is_hub_id(source)


def test_a_folder_that_exists_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anna" / "chats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("anna/chats")
    assert is_hub_id("anna/others")


ONE = {"default": {"train": ["train.jsonl"]}}


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["train.jsonl", "README.md", "dataset_infos.json"], ONE),
        (["a.csv"], {"default": {"train": ["a.csv"]}}),
        (["data/x_test_1.parquet"], {"default": {"test": ["data/x_test_1.parquet"]}}),
        # the same rows twice, and a star that ends at a slash
        (["train.csv", "train.parquet", "test.parquet"], {
            "default": {"train": ["train.parquet"], "test": ["test.parquet"]}
        }),
        (["train.csv", "test.jsonl"], {"default": {"train": ["train.csv"]}}),
        (["my_evaluation.csv", "trained.csv"], {
            "default": {"test": ["my_evaluation.csv"], "train": ["trained.csv"]}
        }),
        (["data/train_sft-00000-of-00001.parquet", "data/test_gen-00000-of-00001.parquet"], {
            "default": {
                "train_sft": ["data/train_sft-00000-of-00001.parquet"],
                "test_gen": ["data/test_gen-00000-of-00001.parquet"],
            }
        }),
        (["en/train/0.json", "fr/train/0.json"], {
            "en": {"train": ["en/train/0.json"]}, "fr": {"train": ["fr/train/0.json"]}
        }),
        ([".x/train.json", "run.py", "a.png"], {}),
    ],
)  # fmt: skip
def test_configurations_and_splits_by_name(names: list[str], layout: Any) -> None:
    assert layout_of(names, {}) == layout


def test_card_forms() -> None:
    names = ["a/1.jsonl", "b.jsonl", "deep/er/c.jsonl"]
    for files, wanted in (
        ("b.jsonl", ["b.jsonl"]),
        (["a/*.jsonl", "b.jsonl"], ["a/1.jsonl", "b.jsonl"]),
        ([{"split": "train", "path": ["deep/**/c.jsonl"]}], ["deep/er/c.jsonl"]),
        ([{"split": "train", "path": "**/*.jsonl"}], names),
    ):
        found = layout_of(names, {"configs": [{"config_name": "x", "data_files": files}]})
        assert found == {"x": {"train": sorted(wanted, key=names.index)}}
    broken = {"configs": [7, {"data_files": 3}, {"data_files": [{"split": "test"}]}]}
    assert layout_of(["train.jsonl"], broken) == {"default": {"train": ["train.jsonl"]}}
    by_split = {"config_name": "x", "data_files": {"train": "b.jsonl", "test": ["deep"]}}
    assert layout_of(names, {"configs": [by_split]}) == {
        "x": {"train": ["b.jsonl"], "test": ["deep/er/c.jsonl"]}
    }
    both = ["en/train.jsonl", "fr/train-1.jsonl", "fr/dev.jsonl"]
    folders = [{"config_name": name, "data_dir": f"./{name}/"} for name in ("en", "fr")]
    assert layout_of(both, {"configs": folders}) == {
        "en": {"train": both[:1]}, "fr": {"train": [both[1]], "validation": [both[2]]}
    }  # fmt: skip
    marked = {"configs": [
        {"config_name": "x", "data_files": "b.jsonl"},
        {"config_name": "y", "data_files": "a/*", "default": True},
    ]}  # fmt: skip
    assert choose_files("r", layout_of(names, marked), marked, "", "") == {"train": ["a/1.jsonl"]}


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.jsonl", "a.jsonl", True), ("*.jsonl", "deep/a.jsonl", False),
        ("data/train-*", "data/train-0.parquet", True), ("data/*", "data/x/y.csv", False),
        ("**/train.csv", "train.csv", True), ("**/train.csv", "a/b/train.csv", True),
        ("a/**", "a/b/c.csv", True), ("a", "a/b.csv", True), ("a", "ab/c.csv", False),
        ("train-[0-9]?.csv", "train-12.csv", True), ("train-[!0-9].csv", "train-1.csv", False),
        ("a+b (1).csv", "a+b (1).csv", True), ("x.csv", "xxcsv", False),
    ],
)  # fmt: skip
def test_patterns_of_a_card(pattern: str, path: str, matches: bool) -> None:
    names, configs = [path], [{"config_name": "said", "data_files": pattern}]
    found = layout_of([*names, "other.csv"], {"configs": configs})
    assert (found.get("said", {}).get("train") == names) == matches


def test_splits_are_not_guessed_over() -> None:
    splits = {name: [name] for name in ("train_sft", "train_gen", "validation_gen", "test_sft")}
    with pytest.raises(UserError) as caught:
        choose_files("r", {"default": splits}, {}, "", "")
    assert "train_sft, train_gen" in caught.value.why
    chosen = choose_files("r", {"default": splits}, {}, "", "train_gen")
    assert chosen == {"train": ["train_gen"], "valid": ["validation_gen"]}
    assert choose_files("r", {"default": splits}, {}, "", "test_sft") == {"train": ["test_sft"]}


def test_the_converted_branch() -> None:
    names = ["main/train/0001.parquet", "main/train/0000.parquet", "x/partial-test/0000.parquet"]
    assert converted_layout(names) == {
        "main": {"train": sorted(names[:2])}, "x": {"test": [names[2]]}
    }  # fmt: skip
