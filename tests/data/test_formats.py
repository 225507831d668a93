"""Rows to examples: each row is what it is itself, and a bad one is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora.data.columns import suggest_columns
from mlx_lora.data.examples import load_examples
from mlx_lora.data.formats import (
    Completion,
    Conversation,
    Document,
    Example,
    Message,
    Text,
    form_of,
    read_example,
)
from mlx_lora.data.rows import Row
from mlx_lora.data.source import Source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def example(value: Any, **columns: str) -> Example | None:
    row = Row(3, value, file="rows.jsonl")
    return read_example(row, form_of(value, columns), columns)


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
    examples, empty = load_examples(Source("rows", {"train": (path,)}))
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
    assert read_example(row, "document", {}) == Document(1, "words")


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
    examples, empty = load_examples(Source("rows", {"train": (path,)}))
    assert [e.row for e in examples["train"]] == [1, 3]
    assert empty == {"train": [2, 4]}


def test_only_empty_rows_are_refused(write_rows: Callable[..., Path]) -> None:
    with pytest.raises(UserError) as caught:
        load_examples(Source("rows", {"train": (write_rows([{"text": ""}] * 3),)}))
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
        ({"Title": "a"}, "it has Title; it needs"),
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
        load_examples(Source("rows", {"train": (path,)}))
    assert caught.value.where == "rows.jsonl row 401"


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


@pytest.mark.parametrize(
    ("value", "form", "wanted"),
    [
        ({"Text": "a"}, "text", Text(3, "a")),
        ({"content": "a", "id": 4}, "text", Text(3, "a")),
        ({"question": "q", "answer": "a"}, "completion", Completion(3, "q", "a")),
        ({"input": "q", "output": "a"}, "completion", Completion(3, "q", "a")),
        ({"Query": "q", "Response": "a", "n": 1}, "completion", Completion(3, "q", "a")),
        ({"user": "q", "assistant": "a"}, "completion", Completion(3, "q", "a")),
        ({"question": "q", "query": None, "answer": "a"}, "completion", Completion(3, "q", "a")),
        ({"question": "q", "context": " ", "answer": "a"}, "completion", Completion(3, "q", "a")),
        ({"prompt": "q", "input": "x", "completion": "a"}, "completion", Completion(3, "q", "a")),
        (
            {"prompt": "q", "completion": "a", "system": "s"}, "completion",
            Completion(3, "q", "a", system="s"),
        ),
        ({"prompt": "q", "completion": "a", "query": ""}, "completion", Completion(3, "q", "a")),
        ({"text": None, "prompt": "q", "completion": "a"}, "completion", Completion(3, "q", "a")),
        (
            {"instruction": "i", "input": "x", "output": "o", "system": "s"}, "alpaca",
            Completion(3, "i\n\nx", "o", instruction=True, system="s"),
        ),
        ({"instruction": "i", "reply": "o"}, "alpaca", Completion(3, "i", "o", instruction=True)),
    ],
)  # fmt: skip
def test_usual_names(value: Any, form: str, wanted: Example) -> None:
    assert form_of(value, {}) == form
    assert example(value) == wanted


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"question": "q", "query": "r", "answer": "a", "reply": "b"}, "more than one"),
        ({"title": "t", "body": "b"}, "it has title, body"),
        ({"instruction": "i", "answer": "a", "reply": "b"}, "more than one|it has instruction"),
        ({"text": "t", "answer": "a"}, "a text and an answer"),
        ({"question": "q", "context": "c", "answer": "a"}, "what to do with context"),
        ({"question": None, "query": None, "answer": "a"}, "more than one"),
    ],
)
def test_what_is_unclear_is_not_guessed(value: Any, words: str) -> None:
    assert form_of(value, {}) == ""
    with pytest.raises(UserError, match=words) as caught:
        example(value)
    assert "--map" in caught.value.fix


def turns(*pairs: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, text) for role, text in pairs)  # type: ignore[arg-type]


def test_sharegpt() -> None:
    value = {
        "system": "s",
        "conversations": [
            {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"},
            {"from": "user", "value": "r"}, {"from": "assistant", "value": "b"},
        ],
    }  # fmt: skip
    assert form_of(value, {}) == "sharegpt"
    said = turns(
        ("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")
    )
    assert example(value) == Conversation(3, said)


def test_sharegpt_with_tools() -> None:
    value = {
        "tools": json.dumps(TOOLS),
        "conversations": [
            {"from": "human", "value": "1+1?"},
            {"from": "function_call", "value": json.dumps({"name": "add", "arguments": {"a": 1}})},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "2."},
        ],
    }
    found = example(value)
    assert isinstance(found, Conversation)
    assert [m.role for m in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1] == Message("assistant", "", {"tool_calls": [CALL]})
    assert found.tools == tuple(TOOLS)


def test_roles_and_contents_of_other_programs() -> None:
    value = {
        "messages": [
            {"role": "developer", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}],
            },
            {"role": "model", "content": "a", "reasoning_content": "hm", "weight": 1, "name": None},
        ]
    }
    answer = Message("assistant", "a", {"reasoning_content": "hm"})
    assert example(value) == Conversation(3, (*turns(("system", "s"), ("user", "q!")), answer))


def test_calls_with_arguments_as_text_and_no_content() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    value = {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2", "tool_call_id": "c1"},
        ],
        "tools": TOOLS,
    }
    found = example(value)
    assert isinstance(found, Conversation)
    assert found.messages[1] == Message("assistant", "", {"tool_calls": [{"id": "c1", **CALL}]})
    assert found.messages[2].extra == {"tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"role": "user", "content": [{"type": "image_url"}]}, "image_url"),
        ({"role": "narrator", "content": "x"}, "narrator"),
        ({"role": "assistant", "tool_calls": "x"}, "tool_calls is text"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "names no function"),
        ({"from": "gpt", "value": 4}, "a number"),
    ],
)
def test_a_turn_that_cannot_be_learnt_is_named(turn: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        example({"messages": [{"role": "user", "content": "q"}, turn]})


_ASKED, _SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": [_ASKED], "completion": [_SAID]},
        {"prompt": [_ASKED], "completion": "a"},
        {"prompt": "q", "completion": [_SAID]},
        {"query": "x", "prompt": [_ASKED], "completion": [_SAID], "answer": "x"},
    ],
)
def test_prompt_and_completion_as_turns(value: Any) -> None:
    assert form_of(value, {}) == "messages"
    assert example(value) == Conversation(3, turns(("user", "q"), ("assistant", "a")))


@pytest.mark.parametrize(
    "tools", [TOOLS, json.dumps(TOOLS), [json.dumps(TOOLS[0])], [TOOLS[0]["function"]]]
)
@pytest.mark.parametrize("name", ["tools", "functions"])
def test_definitions_of_tools_are_functions_in_tools(name: str, tools: Any) -> None:
    found = example({**CHAT, name: tools})
    assert isinstance(found, Conversation)
    assert found.tools == tuple(TOOLS)


@pytest.mark.parametrize("tools", [5, ["x"], [5], {"name": "f"}])
def test_what_is_no_definition_of_a_tool_is_named(tools: Any) -> None:
    with pytest.raises(UserError, match=r"tools is no"):
        example({**CHAT, "tools": tools})


def test_a_call_as_it_was_before_tools() -> None:
    call = {"role": "assistant", "content": None, "function_call": CALL["function"]}
    found = example({"messages": [_ASKED, call]})
    assert isinstance(found, Conversation)
    assert found.messages[1] == Message("assistant", "", {"tool_calls": [CALL]})


def test_a_suggestion_by_names_and_by_length() -> None:
    suggest = suggest_columns
    assert suggest(["id", "user_question", "model_answer"], ["1", "Who?", "Me."]) == {
        "prompt": "user_question", "completion": "model_answer"
    }  # fmt: skip
    assert suggest(["id", "title", "body"], ["x7", "A day out", "We went to the sea."]) == {
        "prompt": "title", "completion": "body"
    }  # fmt: skip
    assert suggest(["id", "body"], [7, "We went to the sea."]) == {"text": "body"}
    assert suggest(["chat"], [CHAT["messages"]]) == {"messages": "chat"}
    assert suggest(["n"], [1]) == {}
    spoken = suggest(["q", "system_text", "reply_text"], ["a b", "c d", "e f"])
    assert spoken == {"prompt": "q", "completion": "reply_text", "system": "system_text"}


SQUAD = {
    "id": "5733", "title": "Notre_Dame", "context": "It was in 1858, at Lourdes in France.",
    "question": "When was it?", "answers": {"text": ["in 1858", "1858"], "answer_start": [7, 10]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "suggested"),
    [
        (SQUAD, {"prompt": "question", "completion": "answers", "input": "context"}),
        (
            {"passage_text": "c d", "q": "a b", "answer": "x"},
            {"prompt": "q", "completion": "answer", "input": "passage_text"},
        ),
        (
            {"question": "q", "context": "c", "answer": "a", "system": "s"},
            {"prompt": "question", "completion": "answer", "input": "context", "system": "system"},
        ),
        # with nothing else to ask, it is what is asked
        ({"article": "a b", "summary": "c d"}, {"prompt": "article", "completion": "summary"}),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_what_a_question_is_asked_about_is_suggested_as_its_input(
    value: dict[str, Any], suggested: dict[str, str], as_text: bool
) -> None:
    """`as_text`: the check knows the beginnings of values only."""
    values = [str(item)[:80] for item in value.values()] if as_text else list(value.values())
    assert suggest_columns(list(value), values) == suggested
    if as_text:
        return
    found = example(value, **suggested)
    assert isinstance(found, Completion)
    context = value.get("context", value.get("passage_text", ""))
    asked = str(value.get("question", value.get("q", value.get("article"))))
    assert found.prompt == (f"{asked}\n\n{context}" if context else asked)
    assert found.instruction is bool(context)
    assert found.system == value.get("system", "")


def test_a_conversation_is_suggested_by_the_beginning_of_its_text() -> None:
    for text in (str(CHAT["messages"])[:80], json.dumps(CHAT["messages"])[:80]):
        assert suggest_columns(["id", "chat"], ["1", text]) == {"messages": "chat"}


def test_the_input_a_person_names_is_read_with_the_question() -> None:
    value = {"q": "Who?", "a": "Me.", "about": "A door."}
    asked = Completion(3, "Who?\n\nA door.", "Me.", instruction=True)
    assert example(value, prompt="q", completion="a", input="about") == asked
    assert form_of(value, {"prompt": "q", "completion": "a", "input": "about"}) == "alpaca"
    assert example(value, input="q", output="a") == Completion(3, "Who?", "Me.")
    own = {"prompt": "Who?", "completion": "Me.", "about": "A door."}
    assert example(own, input="about") == asked
    assert example({**own, "about": " "}, input="about") == Completion(
        3, "Who?", "Me.", instruction=True
    )


def test_answers_as_squad_has_them() -> None:
    columns = {"prompt": "question", "completion": "answers", "input": "context"}
    assert example(SQUAD, **columns) == Completion(
        3, "When was it?\n\nIt was in 1858, at Lourdes in France.", "in 1858", instruction=True
    )
    none = {**SQUAD, "answers": {"text": [], "answer_start": []}}
    assert example(none, **columns) is None
    with pytest.raises(UserError, match="output is an object, not text"):
        example({**SQUAD, "answers": {"text": [5], "answer_start": [1]}}, **columns)
    with pytest.raises(
        UserError, match=r"--map prompt=question --map completion=answers"
    ) as caught:
        example(SQUAD)
    assert "--map input=context" in caught.value.fix


def test_columns_a_person_names() -> None:
    value = {"headline": "q", "body": "a", "text": "t"}
    assert example(value) == Text(3, "t")
    assert example(value, prompt="headline", completion="body") == Completion(3, "q", "a")
    assert example(value, text="body") == Text(3, "a")
    chosen = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert example(chosen, completion="chosen") == Completion(3, "q", "a")
    with pytest.raises(UserError, match=r"no column headlin.*did you mean headline"):
        example(value, prompt="headlin", completion="body")
    with pytest.raises(UserError, match="no such field"):
        example(value, promt="headline", completion="body")


def test_what_a_text_holds_may_not_be_nested_without_end() -> None:
    deep = "[" * 300 + "]" * 300
    call = {"function": {"name": "f", "arguments": f'{{"a": {deep}}}'}}
    for more in ({"tools": f'[{{"name": "f", "parameters": {deep}}}]'}, {"messages": deep}):
        with pytest.raises(UserError, match="nested too deeply"):
            example({**CHAT, **more})
    with pytest.raises(UserError, match="arguments is nested too deeply"):
        example({"messages": [_ASKED, {"role": "assistant", "tool_calls": [call]}]})
    called = {"from": "function_call", "value": f'{{"name": "f", "arguments": {deep}}}'}
    found = example({"conversations": [{"from": "human", "value": "q"}, called]})
    assert isinstance(found, Conversation)
    assert found.messages[1] == Message("assistant", called["value"])


def test_messages_in_a_table_are_json() -> None:
    value = {"messages": json.dumps(CHAT["messages"]), "id": "7"}
    assert example(value) == Conversation(3, turns(("user", "q"), ("assistant", "a")))
    with pytest.raises(UserError, match="no valid JSON"):
        example({"messages": "[{"})


def test_answers_that_are_read_only() -> None:
    value = {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "weight": 0},
            {"role": "user", "content": "r"},
            {"role": "assistant", "content": "b", "weight": 1},
        ]
    }
    found = example(value)
    assert isinstance(found, Conversation)
    assert [m.learnt for m in found.messages] == [True, False, True, True]
    value["messages"][-1]["weight"] = 0
    assert example(value) is None


def test_an_answer_inside_the_question_is_read_only() -> None:
    before = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
    ]
    found = example({"prompt": before, "completion": [{"role": "assistant", "content": "b"}]})
    assert isinstance(found, Conversation)
    assert [m.learnt for m in found.messages] == [True, False, True, True]
