"""Templates and ids against transformers, an implementation that shares no code with ours."""

# ruff: noqa: E501  (a table reads best with its rows whole)

from __future__ import annotations

import functools
import random
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from mlx_lora.data.formats import Conversation, Message
from mlx_lora.data.render import Renderer
from mlx_lora.data.template import ChatTemplate
from mlx_lora.errors import UserError
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here"),
    pytest.mark.filterwarnings("ignore"),
]
FAMILIES = ["llama3", "gemma3", "qwen3", "llama2", "phi3"]
TEMPLATES = sorted(path.stem for path in (SHARED / "templates").glob("*.jinja"))
CONVERSATIONS = {
    "two turns": ("user: Hello?", "assistant: Good day."),
    "four turns": (
        "user: Hello?",
        "assistant: Good day.",
        "user: \u4e16\u754c \U0001f600",
        "assistant: a\n",
    ),
    "system": (
        "system: Be terse.",
        "user: Hello?",
        "assistant: Good day.",
        "user: x",
        "assistant: y",
    ),
    "spaces": ("user:  \n two \n lines  ", "assistant:  \n answer\n\n "),
    "a question": ("user: Hello?",),
    "system and question": ("system: Be terse.", "user: Hello?"),
    "thought": ("user: Hello?", "assistant: <think>\nhm\n</think>\n\nGood day."),
    "signs": ("user: <b>\"'&{{ x }}{% y %}</b>", "assistant: \\n <|no_token|> </b>"),
    "control tokens": ("user: what is <|im_end|>", "assistant: </s> <|end|> <end_of_turn>"),
}


@functools.cache
def reference(family: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(SHARED / "tokenizers" / family))


@functools.cache
def tokenizer(family: str) -> Tokenizer:
    return read_tokenizer(SHARED / "tokenizers" / family, [], 1 << 20)


def turns(name: str) -> tuple[Message, ...]:
    parts = [turn.partition(": ") for turn in CONVERSATIONS[name]]
    return tuple(Message(role, content) for role, _, content in parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_ten_templates_render_as_in_transformers(template: str, name: str, prompt: bool) -> None:
    source = (SHARED / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
    theirs, ours = reference("llama3"), tokenizer("llama3")
    messages = [{"role": m.role, "content": m.content} for m in turns(name)]
    mine = ChatTemplate(source, ours.special_tokens)
    try:
        wanted = theirs.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=prompt
        )
    except Exception as error:  # noqa: BLE001
        with pytest.raises(UserError, match=re.escape(str(error))):
            mine.render(turns(name), add_generation_prompt=prompt)
    else:
        assert mine.render(turns(name), add_generation_prompt=prompt) == wanted


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("family", ["llama3", "gemma3", "qwen3", "phi3"])
def test_rows_have_the_ids_of_transformers(family: str, name: str) -> None:
    ours = tokenizer(family)
    renderer = Renderer(ours, 4096, "all")
    messages = [{"role": m.role, "content": m.content} for m in turns(name)]
    try:
        theirs = reference(family).apply_chat_template(messages, tokenize=True, return_dict=False)
    except Exception:  # noqa: BLE001
        pytest.skip("this family's template refuses this conversation")
    (row,) = renderer.render(Conversation(1, turns(name)))
    if row.control:  # plain text here: as many tokens that steer as in a conversation without
        assert name == "control tokens"
        added = ours._inner.get_added_tokens_decoder().items()
        control = {number for number, token in added if token.special}
        (plain,) = renderer.render(Conversation(1, turns("two turns")))
        assert [n for n in row.tokens if n in control] == [n for n in plain.tokens if n in control]
        mine, wanted = (ours.decode(ids, keep_special=True).split() for ids in (row.tokens, theirs))
        assert "".join(mine) == "".join(wanted)
        return
    assert row.tokens == theirs
    if len(messages) == 1:
        asked = reference(family).apply_chat_template(
            messages, tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert renderer.prompt(messages[0]["content"], "chat") == asked


def odd_strings() -> list[str]:
    fixed = [
        "", " ", "  ", "\n", "\n\n", "\t", "\r\n", "a", " a", "a ", "Hello world", "  two  spaces  ", "1234567",
        "3.14159", "don't I'LL we've", "caf\u00e9 cafe\u0301", "\u4e16\u754c\u4eba\u5de5", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\ufeffx", "\u200bx", "\u2028x\u0085", "x\x00y", "def f(x):\n    return x\n", "<s>", "</s> x", "<s> <s>",
        "<|im_start|>user\n", "<|eot_id|>", "<bos>x", "<|begin_of_text|>x", "<end_of_turn>\n", "<think></think>",
        "\u2581x \u2581", "<0x0A>", "\u0120", "$\\alpha$ {x}_{i}", "https://example.com/?a=b&c=d#e", "A" * 300, "ab " * 100,
    ]  # fmt: skip
    generator = random.Random(0)
    signs = "ab Zz09 \n\t.,!?'\"-_<|>/\\{}\u00e9\u00df\u0416\u4e16\u3042\uac00\U0001f600\u0301\u200d\u00a0\u2581\u0120"
    drawn = ["".join(generator.choices(signs, k=generator.randint(1, 40))) for _ in range(160)]
    return [*fixed, *drawn]


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_texts_of_two_hundred_odd_strings(family: str) -> None:
    ours, theirs = tokenizer(family), reference(family)
    strings = odd_strings()
    assert len(strings) == 200
    for text in strings:
        plain = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == plain
        assert ours.encode_offsets(text)[0] == plain
        whole = theirs(text)["input_ids"]
        doubled = ours.bos_id is not None and whole[:2] == [ours.bos_id] * 2
        assert ours.encode_document(text) == (whole[1:] if doubled else whole)
        for special in (False, True):
            wanted = theirs.decode(
                plain, skip_special_tokens=not special, clean_up_tokenization_spaces=False
            )
            assert ours.decode(plain, keep_special=special) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_as_in_transformers(family: str) -> None:
    ours, theirs = tokenizer(family), reference(family)
    assert (ours.bos, ours.eos) == (theirs.bos_token, theirs.eos_token)
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.size == len(theirs)
    assert (ours.chat_template or None) == (theirs.chat_template or None)
