"""`understudy bench`: what it refuses, what it prints, what it writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import cli
from mlx_lora.bench.results import KINDS, OURS, SHIPPED, Comparison, Prepared, Side, Work
from mlx_lora.cli import benching
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Ask = Callable[..., tuple[int, str, str]]

_PREPARED = Prepared(
    tokens_file="", rows=8, targets=500, mean=63.5, longest=99, cut=True, prompt=[1],
    parameters=3_000_000,
    trainable=1000, keys=["q"], adapted_layers=2, scale=2.0, form="float32", context=512,
    metal=False, environment={"blas": "OpenBLAS", "blas_threads": "2"},
)  # fmt: skip
_FACTS = {"peak": 30_000_000, "active": 10_000_000, "padding": 0.512, "steps": 12}


class _Bench:
    """Both sides without any process; fails where it is told to."""

    fails: str = ""
    works: list[Work] = []  # noqa: RUF012

    def __init__(self, work: Work, *, against: bool, rounds: int) -> None:
        self.work, self._against, self._rounds = work, against, rounds
        self.prepared: Prepared | None = None
        self.works.append(work)

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(self, kind: str) -> Iterator[Comparison]:
        if kind == self.fails:
            raise UserError("engine", "bench", "it broke", "try again")
        self.prepared = _PREPARED
        sides = [Side(name=OURS, values=[2000.0, 3000.0][: self._rounds], facts=_FACTS)]
        if self._against:
            sides.append(Side(name=SHIPPED, values=[1000.0, 1000.0][: self._rounds], facts=_FACTS))
        yield Comparison(kind=kind, what=f"what {kind} was of", unit="tokens/s", sides=sides)


@pytest.fixture
def ask(root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The command on sides that take no time: (code, stdout, stderr)."""
    monkeypatch.setattr(benching, "Bench", _Bench)
    monkeypatch.setattr(_Bench, "fails", "")
    monkeypatch.setattr(_Bench, "works", [])

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["--data-dir", str(root), "bench", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["speed"], ["bad_option", "speed", "train, generate, load, export"]),
        (["train", "Train"], ["bad_option", "Train"]),
        (["--against", "torch"], ["bad_option", "--against torch", "choose mlx-lm"]),
        (["--pairs", "0"], ["bad_option", "--pairs 0", "at least 1"]),
        (["--pairs", "1001"], ["bad_option", "--pairs 1001", "at most 1,000"]),
        (["--pairs", "many"], ["bad_option", "--pairs"]),
        (["--batch-size", "0"], ["bad_option", "--batch-size", "at least 1"]),
        (["--model", "none/here"], ["no_such_model", "none/here"]),
        (["--data", "none.jsonl"], ["no_such_data", "none.jsonl"]),
        (["--out", "."], ["bad_option", "--out .", "name a file"]),
        (["--out", "none/figures.json"], ["storage", "none/figures.json", "No such file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refused_at_once(
    arguments: list[str], words: list[str], ask: Ask, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert _Bench.works == []


def test_without_mlx_lm(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching.importlib.util, "find_spec", lambda _: None)
    code, _, err = ask("--against", "mlx-lm")
    assert code == 2
    assert "mlx-lm is not installed here" in err
    assert "pip install mlx-lm" in err


def test_the_table(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching.console, "_width", 80, raising=False)
    code, out, err = ask("train", "--against", "mlx-lm", "--pairs", 2)
    assert (code, err) == (0, "")
    for words in (
        "2,500", "[2,000, 3,000]", "2.50 x", "[2.00, 3.00]", "mlx-lm as shipped", "20 MB", "51.2%",
        "what train was of", "CPU, OpenBLAS (2 threads)", "demo, 3,000,000 parameters (float32)",
        "cores", "mlx-lm 0.", "python 3",
    ):  # fmt: skip
        assert words in out
    assert "generate" not in out


def test_alone_there_is_nothing_to_be_faster_than(ask: Ask) -> None:
    code, out, _ = ask("--pairs", 1)
    assert code == 0
    assert "faster" not in out
    assert all(f"what {kind} was of" in out for kind in KINDS)


def test_json_and_file(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("older")
    rest = ("--json", "--out", path, "--batch-size", 16)
    code, out, _ = ask("train", "load", "--against", "mlx-lm", *rest)
    figures: dict[str, Any] = json.loads(out)
    assert code == 0
    assert json.loads(path.read_text()) == figures
    assert [one["kind"] for one in figures["kinds"]] == ["train", "load"]
    assert figures["kinds"][0]["sides"][1]["ratio"]["median"] == 2.5
    assert figures["model"] == {
        "name": "demo", "form": "float32", "parameters": 3_000_000, "trainable": 1000,
        "adapted_layers": 2,
    }  # fmt: skip
    assert {"chip", "memory", "cores", "system", "backend", "blas"} <= figures["machine"].keys()
    assert {"mlx", "mlx-lm", "understudy", "python"} <= figures["versions"].keys()
    assert str(tmp_path) not in out
    assert (_Bench.works[0].batch_size, _Bench.works[0].rows % 16) == (16, 0)


def test_what_was_measured_before_a_failure_is_kept(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Bench, "fails", "load")
    path = tmp_path / "figures.json"
    code, out, err = ask("--out", path)
    assert code == 2
    assert "it broke" in err
    assert "what generate was of" in out
    assert [one["kind"] for one in json.loads(path.read_text())["kinds"]] == ["train", "generate"]
    path.unlink()
    monkeypatch.setattr(_Bench, "fails", "train")
    assert ask("--out", path)[:2] == (2, "")
    assert not path.exists()


def test_a_real_one(
    root: Path, demo_model: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "figures.json"
    arguments = ["bench", "load", "--model", demo_model, "--pairs", "1", "--out", path]
    assert cli.main(["--data-dir", str(root), *map(str, arguments)]) == 0
    out = capfd.readouterr().out
    assert "from the start of a process" in out
    kinds = json.loads(path.read_text())["kinds"]
    assert kinds[0]["sides"][0]["values"][0] > 0
    assert list(root.glob("runs/*")) == []
