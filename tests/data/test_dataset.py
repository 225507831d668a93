"""DATA to the rows of a run, and what a person is told about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from models_made import make_tokenizer

from mlx_lora.config import DataConfig
from mlx_lora.data.dataset import Dataset, build_dataset
from mlx_lora.data.source import Source, find_source
from mlx_lora.errors import UserError
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    make_tokenizer(folder)
    return read_tokenizer(folder, [], 272)


@pytest.fixture
def chat(tokenizer: Tokenizer) -> Tokenizer:
    names = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    return Tokenizer(tokenizer._inner, names, [])


def build(
    source: Source, tokenizer: Tokenizer, limit: int = 64, fraction: float = 0.1, seed: int = 0
) -> Dataset:
    data = DataConfig(source="", max_length=limit, val_fraction=fraction)
    steps = build_dataset(source, tokenizer, data, context=None, seed=seed, today="")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def notices(dataset: Dataset) -> dict[str, str]:
    return {notice.code: notice.text for notice in dataset.notices}


def test_rows_of_all_kinds_are_rendered_and_split(
    chat: Tokenizer, write_rows: Callable[..., Path]
) -> None:
    kinds: list[dict[str, Any]] = [
        {"text": "a text"},
        {"prompt": "a question", "completion": "an answer"},
        {"instruction": "do", "input": "this", "output": "done"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    ]
    rows = [{**row, "n": n} for n in range(10) for row in kinds]
    rows = [
        {key: f"{v} {r['n']}" if isinstance(v, str) else v for key, v in r.items()} for r in rows
    ]
    data = build(Source("mixed", {"train": (write_rows(rows),)}), chat)
    numbers = [row.row for row in (*data.training, *data.validation)]
    assert sorted(numbers) == list(range(1, 41))
    # the ten equal conversations stay on one side
    assert len(data.validation) in {4, 10}
    assert data.facts["formats"] == {"completion": 20, "conversation": 10, "text": 10}
    assert data.facts["training_rows"] == len(data.training)
    assert data.facts["training_targets"] == sum(row.targets for row in data.training)
    assert data.facts["longest_tokens"] == max(len(row.tokens) for row in data.training)
    assert notices(data) == {}
    again = build(Source("mixed", {"train": (write_rows(rows),)}), chat)
    assert (again.training, again.validation) == (data.training, data.validation)


def test_rows_left_out_are_named(chat: Tokenizer, write_rows: Callable[..., Path]) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(20)]
    rows[4]["completion"] = ""
    rows[6]["prompt"] = "long " * 40
    rows[11]["completion"] = "long " * 40
    data = build(Source("rows", {"train": (write_rows(rows),)}), chat)
    said = notices(data)
    assert set(said) == {"empty", "no_target", "cut"}
    assert "row 5." in said["empty"]
    assert "row 7." in said["no_target"]
    assert "row 12." in said["cut"]
    numbers = {row.row for row in (*data.training, *data.validation)}
    assert numbers == set(range(1, 21)) - {5, 7}
    assert all(row.targets for row in (*data.training, *data.validation))
    assert data.facts["cut_rows"] == 1


def test_many_rows_left_out_are_counted(chat: Tokenizer, write_rows: Callable[..., Path]) -> None:
    rows = [{"text": "" if n % 2 else f"row {n}"} for n in range(40)]
    said = notices(build(Source("rows", {"train": (write_rows(rows),)}), chat))
    assert "20 rows are left out" in said["empty"]
    assert "rows 2, 4, 6, 8, 10, ..." in said["empty"]


def test_nothing_left_to_learn_is_refused(chat: Tokenizer, write_rows: Callable[..., Path]) -> None:
    rows = [{"prompt": "long " * 40, "completion": "a"}] * 3
    with pytest.raises(UserError) as caught:
        build(Source("rows", {"train": (write_rows(rows),)}), chat)
    assert caught.value.code == "bad_data"
    assert "--max-length" in caught.value.fix


def test_a_folder_keeps_its_own_held_out_rows(
    chat: Tokenizer, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, count in (("train", 9), ("valid", 3), ("test", 2)):
        rows = [{"text": f"{split} {n}"} for n in range(count)]
        write_rows(rows, f"set/{split}.jsonl")
    source = find_source(DataConfig(source=str(folder)), tmp_path)
    data = build(source, chat)
    assert (len(data.training), len(data.validation)) == (9, 3)


@pytest.mark.parametrize("content", ["", "\n \n", '{"text": ""}\n'])
def test_an_empty_held_out_file_is_a_warning(
    chat: Tokenizer, tmp_path: Path, write_rows: Callable[..., Path], content: str
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_rows([{"text": f"row {n}"} for n in range(9)], "set/train.jsonl")
    (folder / "valid.jsonl").write_text(content)
    data = build(find_source(DataConfig(source=str(folder)), tmp_path), chat)
    assert (len(data.training), data.validation) == (9, [])
    assert "no_validation" in notices(data)


def test_one_row_has_nothing_held_out(chat: Tokenizer, write_rows: Callable[..., Path]) -> None:
    data = build(Source("one", {"train": (write_rows([{"text": "alone"}]),)}), chat)
    assert (len(data.training), len(data.validation)) == (1, 0)
    assert "no_validation" in notices(data)


def test_a_play_begins_with_its_speakers(tokenizer: Tokenizer, tiny_text: Path) -> None:
    data = build(Source("play", {"train": (tiny_text,)}), tokenizer)
    assert data.prompt_style == "raw"
    assert data.facts["formats"] == {"document": 1}
    assert len(data.beginnings) == 3
    assert all(line in {"FIRST:\n", "SECOND:\n"} for line in data.beginnings)


def test_questions_begin_samples_of_answers(
    chat: Tokenizer, write_rows: Callable[..., Path]
) -> None:
    rows = [{"prompt": f"question {n}?", "completion": f"answer {n}"} for n in range(30)]
    data = build(Source("rows", {"train": (write_rows(rows),)}), chat)
    assert data.prompt_style == "chat"
    held = {f"question {row.row - 1}?" for row in data.validation}
    assert set(data.beginnings) <= held


def test_one_giant_row(tokenizer: Tokenizer, write_rows: Callable[..., Path]) -> None:
    path = write_rows([{"text": "word " * 60_000}, {"text": "short"}])
    data = build(Source("rows", {"train": (path,)}), tokenizer)
    assert "row 1." in notices(data)["cut"]


def test_the_source_is_not_altered(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("\ufeff" + json.dumps([{"text": f"row {n}"} for n in range(9)]))
    before = path.read_bytes(), path.stat().st_mtime_ns
    build(Source("rows", {"train": (path,)}), tokenizer)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.json", "tokenizer"]


def test_a_conversation_among_other_rows_gives_all_their_template(
    tokenizer: Tokenizer, write_rows: Callable[..., Path]
) -> None:
    """A base model: what is measured or asked later with the stored template is what was learnt."""
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    rows = [{"text": f"Day {n}."} for n in range(5)]
    rows += [{"prompt": "Who?", "completion": "Me."}, {"messages": turns}]
    source = Source("rows", {"train": (write_rows(rows),)})
    made = build(source, tokenizer, fraction=0.0)
    used = made.renderer.tokenizer
    assert used.template_name == "plain"
    by_row = {row.row: row for row in made.training}
    assert by_row[6].tokens == by_row[7].tokens
    again = build(source, used, fraction=0.0)
    assert again.training == made.training
    pairs = build(Source("pairs", {"train": (write_rows(rows[:6]),)}), tokenizer, fraction=0.0)
    assert pairs.renderer.tokenizer.template_name == "none"
