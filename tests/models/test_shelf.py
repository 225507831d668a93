"""What is on this machine: real models, damaged ones, and folders that are none."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from mlx_lora.errors import UserError
from mlx_lora.models.shelf import Found, look_up, scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of this test's own."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def shelf(tmp_path: Path, stories: Path) -> Path:
    """A folder with a real model to break copies of."""
    folder = tmp_path / "models"
    shutil.copytree(stories, folder / "good")
    return folder


def copy(shelf: Path, name: str) -> Path:
    return shutil.copytree(shelf / "good", shelf / name)


def only(found: list[Found], name: str) -> Found:
    return next(one for one in found if one.title == name)


def test_a_real_model_is_read(shelf: Path) -> None:
    found = look_up(str(shelf / "good"))
    assert (found.title, found.bits, found.parameters) == ("good", 32, 260_032)
    assert found.size == 260_032 * 4
    assert found.shape is not None
    assert (found.shape.layers, found.shape.hidden, found.shape.tied) == (5, 64, True)


def test_the_cache_gives_hub_ids(cache: Path, shelf: Path) -> None:
    snapshot = cache / "models--maker--stories" / "snapshots" / "abc"
    shutil.copytree(shelf / "good", snapshot)
    (cache / "models--maker--stories" / "refs").mkdir()
    (cache / "models--maker--stories" / "refs" / "main").write_text("abc")
    (cache / "models--maker--half" / "blobs").mkdir(parents=True)
    (cache / "datasets--maker--rows").mkdir()
    assert [(one.source, one.problem) for one in scan()] == [("maker/stories", None)]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("cut", "damaged_model", "cut short"),
        ("pointer", "damaged_model", "Git LFS pointer"),
        ("missing", "no_weights", "pickle"),
        ("broken", "bad_model", "no valid JSON"),
        ("untyped", "bad_model", "model_type is missing"),
        ("whisper", "unsupported_model", "whisper"),
        ("gptq", "bad_model", "another program"),
        ("mute", "bad_model", "tokenizer.json"),
        ("shard", "missing_shard", "a part of the model is missing"),
        ("sizes", "bad_model", "vocab_size"),
    ],
)
def test_a_damaged_model_is_named_with_the_reason(  # noqa: C901  (a case a way to break it)
    shelf: Path, name: str, code: str, words: str
) -> None:
    folder = copy(shelf, name)
    weights, config = folder / "model.safetensors", folder / "config.json"
    content = json.loads(config.read_text())
    match name:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-5000])
        case "pointer":
            weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        case "missing":
            weights.rename(folder / "pytorch_model.bin")
        case "broken":
            config.write_text('{"model_type": ')
        case "untyped":
            config.write_text(json.dumps({k: v for k, v in content.items() if k != "model_type"}))
        case "whisper":
            config.write_text(json.dumps(content | {"model_type": "whisper"}))
        case "gptq":
            config.write_text(json.dumps(content | {"quantization_config": {"bits": 4}}))
        case "mute":
            (folder / "tokenizer.json").unlink()
        case "shard":
            index = {"weight_map": {"a": "model-00002.safetensors"}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        case "sizes":
            config.write_text(json.dumps(content | {"vocab_size": 999}))
    with pytest.raises(UserError) as error:
        look_up(str(folder))
    assert error.value.code == code
    assert words in error.value.why
    found = scan(str(shelf))
    assert [one.problem is None for one in found] == [True, False]
    problem = only(found, name).problem
    assert problem is not None
    assert problem.code == code


def test_makers_folders_are_looked_into_and_others_passed_over(shelf: Path) -> None:
    shutil.copytree(shelf / "good", shelf / "maker" / "inner")
    (shelf / "notes").mkdir()
    (shelf / "notes" / "config.json").write_text("{}")
    (shelf / ".hidden").mkdir()
    assert [one.title for one in scan(str(shelf))] == ["good", "inner"]


@pytest.mark.parametrize("folder", ["", "/no/such/folder", "\0"])
def test_nothing_escapes(folder: str) -> None:
    assert scan(folder) == []


def test_fifty_models_take_no_time(shelf: Path) -> None:
    for number in range(49):
        copy(shelf, f"m{number}")
    began = time.process_time()
    assert len(scan(str(shelf))) == 50
    assert time.process_time() - began < 2.0
