"""Which rows are measured: those of the data, or running text cut to lengths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from models_made import make_model

from mlx_lora.bench.lengths import alpaca_lengths
from mlx_lora.bench.ours import Ours, as_mlx_lm_has_it
from mlx_lora.bench.results import Prepared, Work
from mlx_lora.bench.sample_rows import sample_rows
from mlx_lora.data.rendered import Rendered
from mlx_lora.errors import UserError
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlx_lora.models.tokenizer import Tokenizer

    Write = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return load_model(str(model)).tokenizer


def _work(model: Path, **changes: Any) -> Work:
    return Work(model=str(model), name="small", **changes)


def _prepared(work: Work, folder: Path) -> Prepared:
    given = msgspec.to_builtins(msgspec.structs.replace(work, scratch=str(folder)))
    return msgspec.convert(Ours().act("prepare", {"work": given}), Prepared)


def test_running_text_is_cut_to_lengths(
    model: Path, tokenizer: Tokenizer, tiny_text: Path, tmp_path: Path
) -> None:
    rows, cut = sample_rows(_work(model, data=str(tiny_text)), tokenizer, 128, 20)
    assert cut
    lengths = alpaca_lengths(20, 128)
    assert [len(tokenizer.encode(row["text"])) + 2 for row in rows] == lengths
    assert "".join(row["text"] for row in rows) == tiny_text.read_text()[: sum(lengths) - 40]
    found = _prepared(_work(model, data=str(tiny_text), rows=20, max_length=128), tmp_path)
    assert (found.rows, found.longest, found.cut) == (20, 128, True)
    assert found.targets == pytest.approx(sum(lengths), abs=40)


def test_blocks_are_full(model: Path, tiny_text: Path, tmp_path: Path) -> None:
    work = _work(model, data=str(tiny_text), shape="blocks", rows=9, max_length=64)
    found = _prepared(work, tmp_path)
    tokens = json.loads((tmp_path / "tokens.json").read_text())
    assert (found.rows, found.mean, found.longest) == (8, 64, 64)
    assert [(len(ids), first) for ids, first in tokens] == [(64, 1)] * 8
    assert found.targets == 8 * 63


def test_rows_stay_rows_spread_over_the_file(
    model: Path, tokenizer: Tokenizer, write_rows: Write, tmp_path: Path
) -> None:
    rows = [{"prompt": f"What is {n}?", "completion": f"A number, {n}."} for n in range(40)]
    work = _work(model, data=str(write_rows(rows)), rows=10, train_on="completions")
    assert sample_rows(work, tokenizer, 128, 10) == (rows[::4], False)
    assert sample_rows(work, tokenizer, 128, 99) == (rows, False)
    found = _prepared(work, tmp_path)
    assert found.rows == 8  # two whole batches of four
    for ids, first in json.loads((tmp_path / "tokens.json").read_text()):
        assert tokenizer.decode(ids[:first]).rstrip().endswith("?")
        assert tokenizer.decode(ids[first:]).strip().startswith("A number")
    assert found.targets == sum(
        len(ids) - first for ids, first in json.loads((tmp_path / "tokens.json").read_text())
    )


def test_too_few_rows(model: Path, write_rows: Write, tmp_path: Path) -> None:
    work = _work(model, data=str(write_rows([{"text": "one"}, {"text": "two"}])))
    with pytest.raises(UserError, match="2 rows make no batch of 4"):
        _prepared(work, tmp_path)


def test_text_too_short(model: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello")
    with pytest.raises(UserError, match="too short to measure"):
        sample_rows(_work(model, data=str(tmp_path / "a.txt")), tokenizer, 128, 4)


def test_a_fault_in_the_rows_is_said(model: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n{"text": \n')
    with pytest.raises(UserError, match=r"a\.jsonl:2"):
        sample_rows(_work(model, data=str(tmp_path / "a.jsonl")), tokenizer, 128, 4)


def test_what_mlx_lm_can_be_told() -> None:
    assert as_mlx_lm_has_it(Rendered(1, [5, 6, 7, 8], [0, 1, 1, 1])) == ([5, 6, 7, 8], 1)
    assert as_mlx_lm_has_it(Rendered(1, [5, 6, 7, 8], [0, 0, 1, 0])) == ([5, 6, 7], 2)
    with pytest.raises(UserError, match="several stretches"):
        as_mlx_lm_has_it(Rendered(3, [5, 6, 7, 8], [0, 1, 0, 1]))
