"""Built-in chat templates: chosen by model and rows, one start token, answers that end."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from mlx_lora.config import DataConfig
from mlx_lora.data.formats import Completion, Conversation, Document, Example, Message, Text
from mlx_lora.data.render import Renderer, make_renderer
from mlx_lora.data.template import ChatTemplate
from mlx_lora.data.templates import BUILT_IN, built_in, choose_template, deciding_example
from mlx_lora.errors import UserError
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

SHARED = (Path(__file__).parents[3] / "shared" / "data").resolve()
FAMILIES = ("llama2", "llama3", "gemma3", "phi3", "qwen3")
# what Llama 3 and Gemma are called by where they were not yet taught to chat
ENDS = {"llama3": "<|end_of_text|>", "qwen3": "<|endoftext|>"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
TURNS = (
    Message("system", "Be brief."),
    Message("user", "Where is the cat?\nSay it."),
    Message("assistant", " On the mat. \n"),
    Message("user", "Why?"),
    Message("assistant", "It is warm."),
)
EXPECTED = {
    "alpaca": (
        "Be brief.\n\n### Instruction:\nWhere is the cat?\nSay it.\n\n### Response:\n"
        "On the mat.$E\n\n### Instruction:\nWhy?\n\n### Response:\nIt is warm.$E"
    ),
    "plain": (
        "System: Be brief.\nUser: Where is the cat?\nSay it.\nAssistant: On the mat.$E\n"
        "User: Why?\nAssistant: It is warm.$E"
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.$E\n<|im_start|>user\nWhere is the cat?\nSay it.$E\n"
        "<|im_start|>assistant\nOn the mat.$E\n<|im_start|>user\nWhy?$E\n"
        "<|im_start|>assistant\nIt is warm.$E"
    ),
}
OPENED = {
    "alpaca": "### Instruction:\nHi\n\n### Response:\n",
    "plain": "User: Hi\nAssistant:",
    "chatml": "<|im_start|>user\nHi$E\n<|im_start|>assistant\n",
}


@functools.cache
def tokenizer(family: str) -> Tokenizer:
    """A real one as its base model has it: no chat template, the end of texts for an end."""
    folder = SHARED / "tokenizers" / family
    if not folder.is_dir():
        pytest.skip("../shared is not here")
    read = read_tokenizer(folder, [], 1 << 20)
    end = ENDS.get(family, read.eos)
    names = {**read.special_tokens, "eos_token": end}
    return Tokenizer(read._inner, names, [])


def put(family: str, name: str) -> Tokenizer:
    base = tokenizer(family)
    return base.with_template(name, built_in(base, name).source)


def end_of(family: str, name: str) -> str:
    own_end = name == "chatml" and family == "qwen3"
    return "<|im_end|>" if own_end else str(tokenizer(family).eos)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_text_of_a_conversation(name: str, family: str) -> None:
    made, base = put(family, name), tokenizer(family)
    template = ChatTemplate(made.chat_template or "", made.special_tokens)
    start, end = base.bos if base.adds_bos else "", end_of(family, name)
    text = template.render(TURNS, add_generation_prompt=False)
    assert text == start + EXPECTED[name].replace("$E", end)
    asked = template.render([Message("user", "Hi")], add_generation_prompt=True)
    assert asked == start + OPENED[name].replace("$E", end)
    more = template.render(TURNS[:2], add_generation_prompt=True)
    assert text.startswith(more)
    tool = template.render([*TURNS, Message("tool", "42")], add_generation_prompt=True)
    assert tool.removeprefix(text).startswith(("\n\n### Tool:\n42", "\nTool: 42", "\n<|im_start|>"))
    assert "42" in tool


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_one_start_token_and_every_answer_ends_trained(name: str, family: str) -> None:
    made = put(family, name)
    (row,) = Renderer(made, 4096).render(Conversation(1, TURNS))
    assert row.tokens.count(made.bos_id) == (1 if made.adds_bos else 0)
    assert row.tokens[:2] != [made.bos_id, made.bos_id]
    (end,) = made.encode(end_of(family, name))
    trained = [token for token, learnt in zip(row.tokens, row.mask, strict=True) if learnt]
    assert trained.count(end) == 2
    assert row.tokens[-1] == trained[-1] == end
    answers = made.decode(trained, keep_special=True).split(end_of(family, name))
    assert [answer.strip() for answer in answers] == ["On the mat.", "It is warm.", ""]
    assert Renderer(made, 99).stop_ids == tokenizer(family).stop_ids | {end}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_asked_is_how_the_trained_row_begins(name: str, family: str) -> None:
    made = put(family, name)
    renderer = Renderer(made, 4096)
    turns = (Message("user", "Hi there"), Message("assistant", "Ho"))
    (row,) = renderer.render(Conversation(1, turns))
    asked = renderer.prompt("Hi there", "chat")
    assert row.tokens[: len(asked)] == asked
    assert row.mask[: len(asked)] == [0] * len(asked)
    assert all(row.mask[len(asked) :])


def test_tools_and_calls_are_written(stories: Path) -> None:
    base = read_tokenizer(stories, [], 1 << 20)
    import jinja2

    for name in BUILT_IN:
        source = jinja2.Environment(trim_blocks=True).from_string(built_in(base, name).source)
        turns = [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "3"},
        ]
        text = source.render(messages=turns, tools=[CALL], bos_token="<s>", eos_token="</s>")
        assert text.count('"add"') == 2 or text.count("&#34;add&#34;") == 2
        assert "None" not in text
        assert text.startswith("<s>")


ALPACA = Completion(1, "Say yes", "yes", instruction=True)
PAIR = Completion(1, "a?", "b")
TALK = Conversation(1, TURNS)
TEXTS = (Text(1, "a text"), Document(1, "a text"))


@pytest.mark.parametrize(
    ("first", "choice", "for_base", "for_chat"),
    [
        (ALPACA, "auto", "alpaca", "model"),
        (TALK, "auto", "plain", "model"),
        (PAIR, "auto", None, "model"),
        *((one, "auto", None, "model") for one in TEXTS),
        *((one, "none", None, None) for one in (ALPACA, TALK, PAIR, *TEXTS)),
        *((one, name, name, name) for one in (ALPACA, TALK, PAIR) for name in BUILT_IN),
    ],
)
def test_the_choice(
    first: Example, choice: Any, for_base: str | None, for_chat: str | None, stories: Path
) -> None:
    base = read_tokenizer(stories, [], 1 << 20)
    chat = base.with_template("model", "{{ messages[0].content }}")
    for one, expected in ((base, for_base), (chat, for_chat)):
        chosen = choose_template(one, choice, first)
        assert (chosen.name if chosen else None) == expected
        data = DataConfig(source="x", template=choice)
        renderer = make_renderer(one, data, None, "2026-01-01", first)
        assert renderer.tokenizer.template_name == (expected or "none")
        assert (renderer.template is None) == (expected is None)
    kept = base.with_template("plain", "as it was when it was trained")
    if choice in ("auto", "plain"):
        chosen = choose_template(kept, choice, first)
        assert chosen is not None
        assert chosen.source == "as it was when it was trained"


def test_a_conversation_without_a_template_is_refused_with_a_way_out(stories: Path) -> None:
    base = read_tokenizer(stories, [], 1 << 20)
    for first in (TALK, PAIR, *TEXTS):
        data = DataConfig(source="x", template="none")
        renderer = make_renderer(base, data, None, "2026-01-01", first)
        with pytest.raises(UserError) as caught:
            renderer.render(TALK)
        assert caught.value.code == "no_template"
        assert "row 1" in caught.value.where
        assert "--template plain" in caught.value.fix


@pytest.mark.parametrize(
    ("examples", "decides"),
    [
        ([TEXTS[0], PAIR, ALPACA, TALK], TALK),
        ([TEXTS[0], PAIR, ALPACA], ALPACA),
        ([ALPACA, TALK], TALK),
        ([*TEXTS, PAIR], TEXTS[0]),
        ([], None),
    ],
)
def test_the_rows_that_need_a_template_decide_on_it(
    examples: list[Example], decides: Example | None
) -> None:
    assert deciding_example(examples) == decides


@pytest.mark.parametrize("first", TEXTS)
def test_a_conversation_behind_texts_finds_a_template(first: Example, stories: Path) -> None:
    base = read_tokenizer(stories, [], 1 << 20)
    data = DataConfig(source="x")
    renderer = make_renderer(base, data, None, "2026-01-01", first)
    wanted = make_renderer(base, data, None, "2026-01-01", TALK)
    before = renderer.render(first)
    assert renderer.tokenizer.template_name == "none"
    assert renderer.render(TALK) == wanted.render(TALK)
    assert renderer.tokenizer.template_name == "plain"
    assert renderer.tokenizer.chat_template == wanted.tokenizer.chat_template
    assert renderer.stop_ids == wanted.stop_ids
    assert renderer.render(first) == before == wanted.render(first)
    mixed = [first] * 300 + [TALK, first]
    again = make_renderer(base, data, None, "2026-01-01", first)
    assert [rows for _, rows in again.render_each(mixed)] == [wanted.render(one) for one in mixed]


def test_an_end_that_has_no_name(stories: Path) -> None:
    """config.json says which id ends a text, the tokenizer's own files do not."""
    read = read_tokenizer(stories, [], 1 << 20)
    nameless = Tokenizer(read._inner, {"bos_token": "<s>"}, [2])
    for name in BUILT_IN:
        made = nameless.with_template(name, built_in(nameless, name).source)
        (row,) = Renderer(made, 999).render(TALK)
        assert row.tokens.count(2) >= 2
        assert (row.tokens[-1], row.mask[-1]) == (2, 1)
        assert 2 in Renderer(made, 999).stop_ids
