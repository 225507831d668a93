"""`train --suit`: what it changes is said, what a person named stays, else all is as ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from models_made import make_model

from mlx_lora.cli.options import gather
from mlx_lora.cli.suiting import measure_rows, suited

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlx_lora.config import RunConfig


@pytest.fixture
def tree(tmp_path: Path, write_rows: Callable[..., Path]) -> dict[str, Any]:
    rows = [{"prompt": f"Who is {n}?", "completion": "A friend."} for n in range(20)]
    model = make_model(tmp_path / "m", "llama")
    return {"model": {"source": str(model)}, "data": {"source": str(write_rows(rows))}}


def suit(
    tree: dict[str, Any], root: Path, given: dict[str, Any] | None = None, *, as_json: bool = False
) -> RunConfig:
    plain = gather("balanced", tree, given or {})
    return suited(plain, "balanced", tree, given or {}, root, as_json=as_json)


def test_a_small_model_and_few_rows(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = suit(tree, tmp_path)
    assert (config.training.epochs, config.training.learning_rate) == (5.0, 2e-4)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert any(line.startswith("note: --epochs 5: Below 50 rows") for line in said)
    assert any("--learning-rate 0.0002" in line and "https://" in line for line in said)


def test_what_was_typed_or_is_in_the_file_stays(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = {**tree, "training": {"epochs": 1.0}}
    config = suit(file, tmp_path, {"training": {"learning_rate": 1e-3, "clip": None}})
    assert (config.training.epochs, config.training.learning_rate) == (1.0, 1e-3)
    assert "suits this model and data as it is" in capsys.readouterr().err
    config = suit(tree, tmp_path, {"training": {"steps": 7}})
    assert (config.training.steps, config.training.epochs) == (7, 3.0)


def test_in_json_the_reasons_are_events(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suit(tree, tmp_path, as_json=True)
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert {line["code"] for line in lines} == {"suited"}
    assert not captured.err


def test_rows_are_counted_and_running_text_has_none(
    tree: dict[str, Any], tmp_path: Path, tiny_text: Path
) -> None:
    rows, tokens = measure_rows(gather("balanced", tree, {}).data, tmp_path)
    assert rows == 20
    assert 100 < tokens < 1000
    text = {**tree, "data": {"source": str(tiny_text)}}
    rows, tokens = measure_rows(gather("balanced", text, {}).data, tmp_path)
    assert (rows, tokens > 10) == (0, True)


@pytest.mark.slow
def test_the_command_trains_with_what_suits(
    understudy: Callable[..., Any], tree: dict[str, Any], tmp_path: Path
) -> None:
    given = ("--model", tree["model"]["source"], "--data", tree["data"]["source"], "--rank", "2")
    for name, options, epochs in (("plain", (), 3.0), ("suited", ("--suit",), 5.0)):
        out = tmp_path / name
        done = understudy("train", *given, "--out", str(out), *options)
        assert done.returncode == 0, done.stderr
        assert f"epochs = {epochs}" in (out / "config.toml").read_text()
        assert ("--epochs 5" in done.stderr) == bool(options)
