"""Options come from the configuration's own rules, and reach the run as they were typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora.cli.options import gather, number_or_all, option, read_file, sampling
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_BASE: dict[str, dict[str, Any]] = {"model": {"source": "demo"}, "data": {"source": "demo"}}


def test_help_is_the_rules_help() -> None:
    assert option("adapter.rank", "--rank").help == "how much the adapter can hold [8]"
    assert option("model.source", "--model").help.endswith("or demo")
    assert option("training.steps", "--steps", default="all").help.endswith("[all]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(None, None), ("4", 4), ("-5", -5), (" 7 ", 7), ("all", "all"), ("²", "²")],
        *[("", ""), ("--5", "--5"), ("1.5", "1.5")],
    ],
)
def test_number_or_all(text: str | None, value: object) -> None:
    assert number_or_all(text) == value


def test_typed_over_file_over_preset() -> None:
    file = {**_BASE, "adapter": {"rank": 5}, "training": {"epochs": 2.0, "patience": 9}}
    given = {"adapter": {"rank": 3, "alpha": None}, "training": {"epochs": None}}
    config = gather("thorough", file, given)
    assert (config.adapter.rank, config.training.epochs, config.training.patience) == (3, 2.0, 9)
    assert gather("thorough", _BASE, {}).adapter.rank == 16
    assert gather("quick", _BASE, {}).training.epochs == 1.0


def test_false_and_zero_are_typed_too() -> None:
    file = {**_BASE, "training": {"grad_checkpoint": True, "seed": 5}}
    config = gather("balanced", file, {"training": {"grad_checkpoint": False, "seed": 0}})
    assert (config.training.grad_checkpoint, config.training.seed) == (False, 0)


def test_what_the_file_says_wrong_is_not_hidden_by_what_is_typed() -> None:
    with pytest.raises(UserError, match="group of settings"):
        gather("balanced", {"model": 3, "data": {"source": "demo"}}, {"model": {"source": "demo"}})


def test_read_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    assert read_file(None) == {}
    path.write_text("[training]\nsteps = 4\n")
    assert read_file(path) == {"training": {"steps": 4}}
    path.write_text('data_sha256 = "x"\n[config.training]\nsteps = 4\n')
    assert read_file(path) == {"training": {"steps": 4}}


def test_sampling_takes_what_is_given() -> None:
    assert sampling(seed=None, top_p=0.5, max_tokens=None) == {"top_p": 0.5}
    with pytest.raises(UserError, match="--top-p"):
        sampling(top_p=0.0)
