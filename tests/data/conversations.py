"""Conversations as people have them and as they break masks, and what the templates here need."""

# ruff: noqa: E501  (a table reads best with its rows whole)

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from mlx_lora.data.formats import Conversation, Message
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

SHARED = (Path(__file__).parents[3] / "shared" / "data").resolve()
FAMILIES = ("llama3", "gemma3", "qwen3", "phi3")
TEMPLATES = sorted(path.stem for path in (SHARED / "templates").glob("*.jinja"))
# templates whose model's tokenizer is here
TOKENIZERS = {
    "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "google-gemma-2-2b-it": "gemma3",
    "Qwen-Qwen3-0.6B": "qwen3",
    "microsoft-Phi-3.5-mini-instruct": "phi3",
}
_SPECIAL = re.compile(r'<\|[\w"]+\|?>|<\w+\|>|<(?:start|end)_of_turn>|\[/?[A-Z_]{4,}\]')

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Looks something up.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "what to look for"}},
            "required": ["query"],
        },
    },
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str, **extra: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **extra}


def call(name: str, arguments: dict[str, Any], text: str = "", **extra: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    calls = [{"id": "abcdefgh1", "type": "function", "function": function}]
    return answer(text, tool_calls=calls, **extra)


def told(text: str) -> dict[str, Any]:
    return {"role": "tool", "name": "search", "tool_call_id": "abcdefgh1", "content": text}


SYSTEM = {"role": "system", "content": "Be terse.\nUse no lists."}
PLAIN: dict[str, list[dict[str, Any]]] = {
    "two turns": [user("Where is it?"), answer("In Paris.")],
    "six turns": [
        user("Where?"), answer("In Paris."), user("And Ben?"), answer("In London."),
        user("Sure?"), answer("Yes, quite."),
    ],
    "system": [SYSTEM, user("Where?"), answer("In Paris.")],
    "system, four turns": [SYSTEM, user("a"), answer("b"), user("c"), answer("d")],
    "the same answer thrice": [
        user("One?"), answer("Yes."), user("Two?"), answer("Yes."), user("Three?"), answer("Yes."),
    ],
    "an answer that is the question": [user("Paris"), answer("Paris"), user("Yes"), answer("Yes")],
    "words of the headers": [
        user("assistant"), answer("user"), user("model\n"), answer("assistant"),
        user("system"), answer("INST"),
    ],
    "an answer within the question": [user("Is it a or b, a or b?"), answer("a"), user("b"), answer("or")],
    "spaces at the edges": [user("  \n two \n lines  "), answer(" \n an answer\n\n"), user("x "), answer("\ty")],
    "spaces before the last": [user("q"), answer("\n\nanswer")],
    "signs of all kinds": [
        user("\u4e16\u754c \U0001f600 e\u0301"), answer("\U0001f468\u200d\U0001f469\u200d\U0001f467 \u0627\u0644 \ufeff x"),
        user("<b>&amp; {{ x }}{% y %} \\n</b>"), answer("<div>\"'`$\\alpha$</div>"),
    ],
    "nothing asked": [user(""), answer("Hello, what is it?")],
    "a question last": [user("a"), answer("b"), user("c")],
    "a thought written out": [user("q"), answer("<think>\nhm\n</think>\n\nYes."), user("r"), answer("No.")],
    "a thought in the last": [user("q"), answer("No."), user("r"), answer("<think>\nhm\n</think>\n\nYes.")],
    "signs like openings": [user("q"), answer("<|"), user("<"), answer("<"), user("["), answer("[/")],
    "thinking switched off": [{"role": "system", "content": "/no_think Be brief."}, user("q"), answer("Yes.")],
    "answers in a row": [user("q"), answer("First."), answer("Second."), user("r"), answer("Third.")],
    "an answer first": [answer("Hello!"), user("q"), answer("Yes.")],
    "an empty answer between": [user("q"), answer(""), user("r"), answer("Yes.")],
}  # fmt: skip
RICH: dict[str, list[dict[str, Any]]] = {
    "a call": [user("Find cats."), call("search", {"query": "cats"})],
    "a call and its end": [
        user("Find cats."), call("search", {"query": "cats\nand \"dogs\""}), told('{"n": 3}'),
        answer("Three cats."),
    ],
    "a call without words": [
        user("Find."), call("search", {"limit": 3, "deep": True}), told("none"), answer("None."),
    ],
    "two calls after another": [
        SYSTEM, user("Find."), call("search", {"query": "a"}), told("a"),
        call("search", {"query": "b"}), told("b"), answer("Found."), user("Thanks."), answer("Yes."),
    ],
    "a call with words": [user("Find."), call("search", {"query": "a"}, "I look."), told("a"), answer("a")],
    "a thought beside": [
        user("q"), answer("No.", reasoning_content="Let me see."), user("r"),
        answer("Yes.", reasoning_content="Let me see\nagain."),
    ],
    "a thought as gpt-oss has it": [
        user("q"), answer("No.", thinking="Let me see."), user("r"), answer("Yes.", thinking="Again."),
    ],
    "a thought before a call": [
        user("q"), call("search", {"query": "x"}, thinking="I look."), told("x"), answer("Yes."),
    ],
}  # fmt: skip


def conversation(turns: list[dict[str, Any]], tools: list[Any] | None = None) -> Conversation:
    """As the data step has it."""
    messages = tuple(
        Message(t["role"], t["content"], {k: v for k, v in t.items() if k not in ("role", "content")})
        for t in turns
    )  # fmt: skip
    return Conversation(1, messages, tuple(tools or ()))


@functools.cache
def tokenizer(family: str) -> Tokenizer:
    return read_tokenizer(SHARED / "tokenizers" / family, [], 1 << 20)


@functools.cache
def source_of(name: str) -> str:
    """A template by its file, or a family's own."""
    if name in FAMILIES:
        return tokenizer(name).chat_template or ""
    return (SHARED / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def names_of(name: str) -> dict[str, str]:
    """The special tokens a template is given by name."""
    family = TOKENIZERS.get(name, name)
    if family in FAMILIES:
        return tokenizer(family).special_tokens
    return {"bos_token": "<s>", "eos_token": "</s>"}


def special_of(name: str) -> list[str]:
    """The special tokens of a template's model: its tokenizer's, else those its source writes."""
    family = TOKENIZERS.get(name, name)
    if family in FAMILIES:
        return tokenizer(family).special_texts
    return sorted({*_SPECIAL.findall(source_of(name)), "<s>", "</s>"}, key=len, reverse=True)
