"""Conversations, tools and tool calls against transformers' apply_chat_template: texts and ids."""

from __future__ import annotations

import copy
import functools
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from mlx_lora.data.render import Renderer
from mlx_lora.data.template import ChatTemplate
from mlx_lora.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import conversations as here

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not here.SHARED.is_dir(), reason="../shared is not here"),
    pytest.mark.filterwarnings("ignore"),
]
CONVERSATIONS = [
    *((turns, None) for turns in here.PLAIN.values()),
    *((turns, [here.SEARCH]) for turns in (*here.PLAIN.values(), *here.RICH.values())),
    *((turns, None) for turns in here.RICH.values()),
]


@functools.cache
def theirs(family: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(here.SHARED / "tokenizers" / family))


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", [*here.FAMILIES, *here.TEMPLATES])
def test_texts_are_those_of_transformers(name: str, opened: bool) -> None:
    tokenizer = theirs(here.TOKENIZERS.get(name, name if name in here.FAMILIES else "llama3"))
    names = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    mine, equal = ChatTemplate(here.source_of(name), names), 0
    for turns, tools in CONVERSATIONS:
        one = here.conversation(turns, tools)
        try:
            wanted = tokenizer.apply_chat_template(
                copy.deepcopy(turns), tools=tools, chat_template=here.source_of(name),
                tokenize=False, add_generation_prompt=opened,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001
            with pytest.raises(UserError, match=re.escape(str(error))):
                mine.render(one.messages, add_generation_prompt=opened, tools=one.tools)
            continue
        text = mine.render(one.messages, add_generation_prompt=opened, tools=one.tools)
        assert text == wanted
        equal += 1
    assert equal >= 16


@pytest.mark.parametrize("name", [*here.FAMILIES, *here.TOKENIZERS])
def test_ids_are_those_of_transformers(name: str) -> None:
    family = here.TOKENIZERS.get(name, name)
    ours = here.tokenizer(family).with_template("model", here.source_of(name))
    renderer, equal = Renderer(ours, 8192, "all"), 0
    for turns, tools in CONVERSATIONS:
        try:
            wanted = theirs(family).apply_chat_template(
                copy.deepcopy(turns), tools=tools, chat_template=here.source_of(name),
                tokenize=True, return_dict=False,
            )  # fmt: skip
        except Exception:  # noqa: BLE001
            continue
        (row,) = renderer.render(here.conversation(turns, tools))
        assert row.tokens == wanted
        assert not row.control
        equal += 1
    assert equal >= 16


def test_arguments_written_as_json_are_objects_to_a_template() -> None:
    turns = here.RICH["a call and its end"]
    written = copy.deepcopy(turns)
    function = written[1]["tool_calls"][0]["function"]
    function["arguments"] = json.dumps(function["arguments"])
    for name in ("qwen3", "mistralai-Mistral-Nemo-Instruct-2407", "google-gemma-4-31B-it"):
        mine = ChatTemplate(here.source_of(name), here.names_of(name))
        texts = {
            mine.render(
                here.conversation(some).messages, add_generation_prompt=False, tools=[here.SEARCH]
            )
            for some in (turns, written)
        }
        assert len(texts) == 1
    refusing = (
        "{% for m in messages %}{% if m.tool_calls %}"
        "{{ m.tool_calls[0].function.arguments + '' }}{% endif %}{% endfor %}"
    )
    mine = ChatTemplate(refusing, {})
    text = mine.render(here.conversation(turns).messages, add_generation_prompt=False)
    assert json.loads(text) == turns[1]["tool_calls"][0]["function"]["arguments"]
