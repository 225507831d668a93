"""Rows to examples: each row is what it is itself, and a bad one is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora.data.examples import load_examples
from mlx_lora.data.formats import (
    Completion,
    Conversation,
    Document,
    Example,
    Message,
    Text,
    read_example,
)
from mlx_lora.data.reading import Row, Source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def example(value: Any) -> Example | None:
    return read_example(Row(3, value), "rows.jsonl")


def test_every_row_is_read_by_its_own_fields(write_rows: Callable[..., Path]) -> None:
    path = write_rows(
        [
            {"text": "t"},
            {"prompt": "p", "completion": "c"},
            {"instruction": "i", "input": "", "output": "o"},
            CHAT,
            {"text": "t2", "source": "book"},
        ]
    )
    examples, empty = load_examples(Source("rows", {"train": path}))
    assert examples["train"] == [
        Text(1, "t"),
        Completion(2, "p", "c"),
        Completion(3, "i", "o", instruction=True),
        Conversation(4, (Message("user", "q"), Message("assistant", "a"))),
        Text(5, "t2"),
    ]
    assert empty == {}


def test_a_text_file_is_a_document() -> None:
    row = Row(1, "words", document=True)
    assert read_example(row, "play.txt") == Document(1, "words")


@pytest.mark.parametrize(
    ("more", "prompt"),
    [
        ({}, "i"),
        ({"input": None}, "i"),
        ({"input": ""}, "i"),
        ({"input": " \n"}, "i"),
        ({"input": "x"}, "i\n\nx"),
    ],
)
def test_alpaca_with_and_without_input(more: dict[str, Any], prompt: str) -> None:
    found = example({"instruction": "i", "output": "o", **more})
    assert found == Completion(3, prompt, "o", instruction=True)


@pytest.mark.parametrize(
    "row",
    [
        {"text": ""},
        {"text": " \n"},
        {"prompt": "p", "completion": ""},
        {"instruction": "i", "output": " "},
        {"messages": [{"role": "user", "content": "q"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "  "}]},
    ],
)
def test_empty_rows_are_counted_by_number_and_left_out(
    row: dict[str, Any], write_rows: Callable[..., Path]
) -> None:
    path = write_rows([{"text": "a"}, row, {"text": "b"}, row])
    examples, empty = load_examples(Source("rows", {"train": path}))
    assert [e.row for e in examples["train"]] == [1, 3]
    assert empty == {"rows.jsonl": [2, 4]}


def test_only_empty_rows_are_refused(write_rows: Callable[..., Path]) -> None:
    with pytest.raises(UserError) as caught:
        load_examples(Source("rows", {"train": write_rows([{"text": ""}] * 3)}))
    assert "every row is empty" in caught.value.why


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": None}, "text is empty (null)"),
        ({"text": 5}, "text is a number"),
        ({"text": True}, "text is true or false"),
        ({"text": ["a"]}, "text is a list"),
        ({"text": {"a": 1}}, "text is an object"),
        ({"prompt": "p", "completion": None}, "completion is empty (null)"),
        ({"prompt": 1.5, "completion": "c"}, "prompt is a number"),
        ({"instruction": "i", "output": ["o"]}, "output is a list"),
        ({"instruction": "i", "input": 7, "output": "o"}, "input is a number"),
        ({"prompt": "p"}, "it has prompt; it needs"),
        ({"instruction": "i"}, "it has instruction; it needs"),
        ({}, "it has nothing; it needs"),
        ({"Text": "a"}, "it has Text; it needs"),
        (["a"], "it is a list"),
        ("words", "it is text"),
        (5, "it is a number"),
        (None, "it is empty (null)"),
        ({"messages": []}, "no list of turns"),
        ({"messages": "hi"}, "no list of turns"),
        ({"messages": None}, "no list of turns"),
        ({"messages": ["hi"]}, "role and a content"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "bot"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": None}]}, "null"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content"),
    ],
)
def test_a_bad_row_is_named_with_what_is_wrong(row: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        example(row)
    assert caught.value.code == "bad_data"
    assert caught.value.where == "rows.jsonl row 3"
    assert words in caught.value.why


def test_a_fault_far_behind_the_first_row_is_found(write_rows: Callable[..., Path]) -> None:
    path = write_rows([{"text": "a"}] * 400 + [{"txt": "a"}] + [{"text": "a"}] * 5)
    with pytest.raises(UserError) as caught:
        load_examples(Source("rows", {"train": path}))
    assert caught.value.where == "rows.jsonl row 401"
