"""What MODEL may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlx_lora.errors import UserError
from mlx_lora.models.library import assets, find_model, hub_cache, model_name

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bundled_model() -> None:
    assert find_model("demo") == assets() / "demo" / "model"
    assert model_name("demo") == "demo"


def test_a_folder_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert find_model(str(folder)) == folder
    assert model_name(str(folder)) == "my-model"
    monkeypatch.chdir(folder)
    assert model_name(".") == "my-model"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("~/my-model") == folder


def cached(hub: Path, name: str, *, config: bool = True) -> Path:
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd\n")
    if config:
        (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_hub_name_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = cached(tmp_path, "org/some.Model-1")
    assert find_model("org/some.Model-1") == snapshot
    assert model_name("org/some.Model-1") == "org/some.Model-1"
    cached(tmp_path, "org/half", config=False)
    for name in ("org/other", "org/half"):
        with pytest.raises(UserError) as caught:
            find_model(name)
        assert "not on this machine" in caught.value.why


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub_cache() == tmp_path / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert hub_cache() == tmp_path / "x" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "y"))
    assert hub_cache() == tmp_path / "y" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "z"))
    assert hub_cache() == tmp_path / "z"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("../..x/y", "no such folder"),
        ("org/../../x", "no such folder"),
        ("~nobody-of-this-name/x", "no such folder"),
        ("x" * 5000, "no such folder"),
        ("a\x00b", "no such folder"),
        ("file", "this is a file"),
        ("org/model", "not on this machine"),
    ],
)
def test_what_is_no_model(
    tmp_path: Path, source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError) as caught:
        find_model(source)
    assert caught.value.code == "no_such_model"
    assert words in caught.value.why
