"""The render path, with the real tokenizers and chat templates of five families."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from mlx_lora.data.formats import Completion, Conversation, Document, Message, Text
from mlx_lora.data.render import Rendered, Renderer, TrainOn
from mlx_lora.errors import UserError
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")

CHAT = ["llama3", "gemma3", "qwen3", "phi3"]
ALL = [*CHAT, "llama2"]
TURN_END = {
    "llama3": "<|eot_id|>",
    "gemma3": "<end_of_turn>",
    "qwen3": "<|im_end|>",
    "phi3": "<|end|>",
}
# Qwen3's template puts an empty thought before the last answer, and none before earlier ones
THOUGHT = {"qwen3": "<think>\n\n</think>\n\n"}
QUESTIONS = ("Where is the Eiffel tower?", "And Big Ben?", "In what country?")
ANSWERS = ("In Paris,\nof course \u2014 \u4e16\u754c \U0001f600!", "a", "In England.")


@functools.cache
def tokenizer(family: str) -> Tokenizer:
    return read_tokenizer(SHARED / "tokenizers" / family, [], 1 << 20)


def renderer(family: str, limit: int = 2048, train_on: TrainOn = "completions") -> Renderer:
    return Renderer(tokenizer(family), limit, train_on)


def conversation(
    questions: tuple[str, ...] = QUESTIONS, answers: tuple[str, ...] = ANSWERS, system: str = ""
) -> Conversation:
    turns = [Message("system", system)] if system else []
    for question, answer in zip(questions, answers, strict=True):
        turns += [Message("user", question), Message("assistant", answer)]
    return Conversation(1, tuple(turns))


def trained(family: str, row: Rendered) -> str:
    ids = [token for token, learnt in zip(row.tokens, row.mask, strict=True) if learnt]
    return tokenizer(family).decode(ids, keep_special=True)


def wanted(family: str, answers: tuple[str, ...] = ANSWERS) -> str:
    end = TURN_END[family]
    earlier = "".join(answer + end for answer in answers[:-1])
    return earlier + THOUGHT.get(family, "") + answers[-1] + end


@pytest.mark.parametrize("family", CHAT)
def test_exactly_the_answers_and_their_ends_are_trained(family: str) -> None:
    (row,) = renderer(family).render(conversation())
    assert trained(family, row) == wanted(family)
    assert row.mask[0] == 0
    assert row.cut == 0
    assert row.targets == sum(row.mask)


@pytest.mark.parametrize("family", CHAT)
@pytest.mark.parametrize(
    "answers",
    [
        ("a", "user", "assistant"),
        ("model", "end", "start"),
        ("m", "s", "t"),
        ("In", "Big", "country?"),
        ("<", ">", "|"),
        ("system", "think", "you"),
    ],
)
def test_an_answer_that_stands_in_header_or_question_too(
    family: str, answers: tuple[str, ...]
) -> None:
    for questions in (QUESTIONS, ("user", "a", "s"), answers):
        (row,) = renderer(family).render(conversation(questions, answers))
        assert trained(family, row) == wanted(family, answers)


@pytest.mark.parametrize("family", CHAT)
def test_every_turn_end_is_a_target_and_stops_a_generation(family: str) -> None:
    made = renderer(family)
    (row,) = made.render(conversation())
    (end,) = tokenizer(family).encode(TURN_END[family])
    marks = [m for token, m in zip(row.tokens, row.mask, strict=True) if token == end]
    assert end in made.stop_ids
    assert marks.count(1) == 3
    assert made.turn_end == TURN_END[family]


@pytest.mark.parametrize("family", CHAT)
def test_last_trains_the_last_answer_and_all_everything(family: str) -> None:
    (last,) = renderer(family, train_on="last").render(conversation())
    assert trained(family, last) == THOUGHT.get(family, "") + ANSWERS[-1] + TURN_END[family]
    (whole,) = renderer(family, train_on="all").render(conversation())
    assert whole.mask == [0] + [1] * (len(whole.tokens) - 1)
    assert whole.tokens == last.tokens


@pytest.mark.parametrize("family", CHAT)
@pytest.mark.parametrize("text", ["Name it.", " two \n lines", "\u4e16\u754c?", "user", ""])
def test_a_prompt_is_what_was_trained_up_to_the_answer(family: str, text: str) -> None:
    made = renderer(family)
    for answer in ("Paris.", "\u4e16\u754c", "1", "a"):
        (row,) = made.render(Completion(1, text, answer))
        asked = made.prompt(text, "chat")
        assert row.tokens[: len(asked)] == asked
        assert row.mask.index(1) == len(asked)
        assert trained(family, row) == THOUGHT.get(family, "") + answer + TURN_END[family]


@pytest.mark.parametrize("family", ["llama3", "qwen3", "phi3"])  # Gemma's template refuses it
def test_a_system_message_is_seen_and_not_trained(family: str) -> None:
    (row,) = renderer(family).render(conversation(system="You are terse."))
    assert "You are terse." in tokenizer(family).decode(row.tokens)
    assert trained(family, row) == wanted(family)


@pytest.mark.parametrize("family", ALL)
def test_the_start_token_is_there_once(family: str) -> None:
    made, start = renderer(family), tokenizer(family).bos
    rows = [
        *made.render(Text(1, "Hello.")),
        *made.render(Text(1, f"{start}Hello.")),
        *made.render(Document(1, "Hello there.\n\n" * 40)),
        *made.render(Document(1, f"{start}Hello there.\n\n" * 1)),
        *renderer(family, 16).render(Document(1, f"{start}" + "Hello there.\n\n" * 40)),
    ]
    prompts = [made.prompt("Hello.", "raw"), made.prompt(f"{start}Hello.", "raw")]
    if made.template is None:
        rows += made.render(Completion(1, "Q:", " A"))
        rows += made.render(Completion(1, f"{start}Q:", " A"))
    else:
        rows += [*made.render(conversation()), *made.render(Completion(1, "Q:", " A"))]
        prompts.append(made.prompt("Hello.", "chat"))
    number = tokenizer(family).bos_id
    for ids in [*(row.tokens for row in rows), *prompts]:
        if family == "qwen3":  # this family has none
            assert number is None
        elif family == "phi3":  # its template has none
            assert ids.count(number) == (ids[0] == number)
        else:
            assert ids.count(number) == 1
            assert ids[0] == number


@pytest.mark.parametrize("family", ALL)
def test_a_text_is_trained_whole_with_its_end(family: str) -> None:
    text = "Once upon a time \u4e16\u754c.\n The end"
    (row,) = renderer(family).render(Text(4, text))
    start = tokenizer(family).encode_document("")
    assert row.row == 4
    assert row.tokens[-1] == tokenizer(family).eos_id
    assert row.mask == [0] + [1] * (len(row.tokens) - 1)
    assert row.tokens == [*start, *tokenizer(family).encode(text), row.tokens[-1]]


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("instruction", [False, True])
def test_without_a_template_a_prompt_is_followed_by_its_answer(
    family: str, instruction: bool
) -> None:
    made = renderer(family)
    made.template = None
    for prompt, answer in [
        ("2+2=", "4"),
        ("Question: where?\nAnswer:", " In Paris."),
        ("Answer: ", "Paris"),
        ("Answer:", "Paris"),
        ("Answer:\n", "\nParis"),
        ("Say ", " it"),
        ("un", "believable"),
        ("\u4e16", "\u754c"),
        ("", "Paris"),
    ]:
        (row,) = made.render(Completion(1, prompt, answer, instruction=instruction))
        before = f"### Instruction:\n{prompt}\n\n### Response:\n" if instruction else prompt
        asked = tokenizer(family).encode_document(before)
        assert row.tokens[: len(asked)] == asked
        assert row.mask == [0] * max(1, len(asked)) + [1] * (len(row.tokens) - max(1, len(asked)))
        assert tokenizer(family).decode(row.tokens) == before + answer
        assert row.tokens[-1] == tokenizer(family).eos_id
        assert asked == (made.prompt(before, "raw") if before else asked)


@pytest.mark.parametrize("family", ["llama2", "gemma3"])
def test_without_a_template_all_trains_the_prompt_too(family: str) -> None:
    made = renderer(family, train_on="all")
    made.template = None
    (row,) = made.render(Completion(1, "Question:", " Answer"))
    assert row.mask == [0] + [1] * (len(row.tokens) - 1)


@pytest.mark.parametrize("family", CHAT)
def test_rows_are_cut_and_say_so(family: str) -> None:
    (whole,) = renderer(family).render(conversation())
    for limit in (8, len(whole.tokens) - 1, len(whole.tokens)):
        (row,) = renderer(family, limit).render(conversation())
        assert row.tokens == whole.tokens[:limit]
        assert row.mask == whole.mask[:limit]
        assert row.cut == len(whole.tokens) - len(row.tokens)
    (short,) = renderer(family, 8).render(Completion(1, "word " * 40, "answer"))
    assert short.targets == 0


@pytest.mark.parametrize("train_on", ["completions", "all"])
@pytest.mark.parametrize("family", CHAT)
def test_tokens_and_mask_are_of_one_length_without_any_end_token(
    family: str, train_on: TrainOn
) -> None:
    inner = tokenizer(family)
    names: dict[str, Any] = {
        "chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    }
    bare = Tokenizer(inner._inner, names, [])
    (row,) = Renderer(bare, 99, train_on).render(conversation())
    assert len(row.tokens) == len(row.mask)
    ended = Tokenizer(inner._inner, names | {"eos_token": TURN_END[family]}, [])
    (row,) = Renderer(ended, 99, train_on).render(conversation())
    assert len(row.tokens) == len(row.mask)
    assert row.tokens[-1] == ended.eos_id
    assert row.mask[-1] == 1


@pytest.mark.parametrize("family", CHAT)
def test_a_control_token_somebody_typed_is_plain_text(family: str) -> None:
    end = TURN_END[family]
    (number,) = tokenizer(family).encode(end)
    made = renderer(family)
    (row,) = made.render(conversation((f"say {end} now", end, "so?"), ("no", f"{end}{end}", "b")))
    (clean,) = made.render(conversation(("say now", "x", "so?"), ("no", "y", "b")))
    assert row.control
    assert not clean.control
    assert row.tokens.count(number) == clean.tokens.count(number) >= 6
    text = tokenizer(family).decode(row.tokens, keep_special=True)
    assert f"say {end} now" in text
    assert trained(family, row) == f"no{end}{end}{end}{end}{THOUGHT.get(family, '')}b{end}"
    asked = made.prompt(f"say {end} now", "chat")
    assert row.tokens[: len(asked)] == asked
    assert asked.count(number) == made.prompt("say now", "chat").count(number)


def test_a_turn_inside_may_end_otherwise_than_the_last(shared: Path) -> None:
    """The template of gpt-oss ends the last answer with <|return|>, earlier ones with <|end|>."""
    source = (shared / "templates" / "openai-gpt-oss-120b.jinja").read_text(encoding="utf-8")
    inner = tokenizers.Tokenizer.from_str(tokenizer("qwen3")._inner.to_str())
    inner.add_special_tokens(["<|return|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>"])
    made = Renderer(Tokenizer(inner, {"chat_template": source}, []), 4096)
    (row,) = made.render(conversation(answers=("a", "end", "a")))
    ids = [token for token, learnt in zip(row.tokens, row.mask, strict=True) if learnt]
    header = "<|channel|>final<|message|>"
    assert made.tokenizer.decode(ids, keep_special=True) == (
        f"{header}a<|end|>{header}end<|end|>{header}a<|return|>"
    )
    assert made.turn_end == "<|return|>"


def test_a_template_that_leaves_an_answer_out_is_refused() -> None:
    names = {
        "eos_token": "<|im_end|>",
        "chat_template": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
    }
    made = Renderer(Tokenizer(tokenizer("qwen3")._inner, names, []), 99)
    with pytest.raises(UserError) as caught:
        made.render(conversation())
    assert caught.value.code == "bad_template"
    assert "leaves an answer out" in caught.value.why
    assert "row 1" in caught.value.where


def test_a_refused_conversation_is_named_by_row() -> None:
    turns = (Message("user", "a"), Message("user", "b"), Message("assistant", "c"))
    with pytest.raises(UserError) as caught:
        renderer("gemma3").render(Conversation(17, turns))
    assert caught.value.where.startswith("row 17")
    assert "alternate" in caught.value.why


def test_a_conversation_without_a_template_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        renderer("llama2").render(conversation())
    assert caught.value.code == "no_template"


def test_styles() -> None:
    chat, raw = renderer("qwen3"), renderer("llama2")
    assert [chat.style(e) for e in (conversation(), Completion(1, "a", "b"), Text(1, "a"))] == [
        "chat",
        "chat",
        "raw",
    ]
    assert raw.style(Completion(1, "a", "b")) == raw.style(Document(1, "a")) == "raw"


# Documents


def play(lines: int = 60) -> str:
    scene = (
        "FIRST:\nWho goes there in the night? \u4e16\u754c \U0001f600\n\n"
        "SECOND:\nA friend. Bread\tand wine.\n\n"
    )
    return "".join(scene.replace("night", f"night of day {n}") for n in range(lines))


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("limit", [8, 33, 64, 5000])
def test_the_blocks_of_a_document_are_the_document(family: str, limit: int) -> None:
    inner, text = tokenizer(family), "  \n" + play() + "\n\n"
    rows = renderer(family, limit).render(Document(1, text))
    head = [inner.bos_id] if inner.encode_document("")[:1] == [inner.bos_id] else []
    ids: list[int] = []
    for row in rows:
        assert len(row.tokens) <= limit
        assert row.tokens[: len(head)] == head
        assert row.mask == [0] + [1] * (len(row.tokens) - 1)
        assert row.cut == 0
        assert row.targets > 0
        assert inner.eos_id not in row.tokens[:-1]
        ids += row.tokens[len(head) :]
    assert ids == [*inner.encode(text.strip()), inner.eos_id]
    assert inner.decode(ids) == text.strip()
    assert [row.row for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("family", ALL)
def test_blocks_are_cut_at_natural_borders(family: str) -> None:
    rows = renderer(family, 128).render(Document(1, play()))
    texts = [tokenizer(family).decode(row.tokens) for row in rows]
    good = sum(text.lstrip().startswith(("FIRST:", "SECOND:")) for text in texts)
    assert good >= 0.95 * len(texts)
    rows = renderer(family, 40).render(Document(1, "word " * 400))
    for row in rows[1:-1]:
        assert tokenizer(family).decode(row.tokens).strip().startswith("word")


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_no_limit_hangs_and_no_text_fails(family: str, limit: int) -> None:
    for text in (
        "word",
        "w" * 50,
        "\n\n" * 9 + "x" + "\n" * 9,
        "\U0001f600" * 9,
        "a b c d e f g h",
    ):
        for row in renderer(family, limit).render(Document(1, text)):
            assert len(row.tokens) <= limit


@pytest.mark.parametrize("family", ["llama3", "qwen3"])
def test_the_end_is_learnt_at_every_length(family: str) -> None:
    texts = [part * count for part in ("word ", "7", "\U0001f600") for count in range(1, 30)]
    for text in texts:  # the last two have no natural border
        rows = renderer(family, 8).render(Document(1, text))
        assert rows[-1].tokens[-1] == tokenizer(family).eos_id
        assert rows[-1].mask[-1] == 1
        assert all(row.targets for row in rows)


def test_shakespeare_whole() -> None:
    text = (SHARED / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    rows = renderer("llama2", 256).render(Document(1, text))
    ids = [token for row in rows for token in row.tokens[1:]]
    assert tokenizer("llama2").decode(ids) == text.strip()
    speakers = sum(
        tokenizer("llama2").decode(row.tokens).lstrip().partition("\n")[0].endswith(":")
        for row in rows
    )
    assert speakers > 0.8 * len(rows)


def test_a_tokenizer_without_start_and_end() -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, "?"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made = Renderer(Tokenizer(inner, {}, []), 4)
    assert made.stop_ids == frozenset()
    rows = made.render(Document(1, "a b a b a b"))
    assert [token for row in rows for token in row.tokens] == [0, 1, 0, 1, 0, 1]
    (row,) = made.render(Completion(1, "", "a b"))
    assert row.mask == [0, 1]
    assert made.prompt("", "raw") == []


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("family", CHAT)
def test_an_answer_that_is_read_only_is_no_target(family: str, spaced: bool) -> None:
    """By the frame of its roles and, where content has spaces at its edge, by marks."""
    edge = " " if spaced else ""
    turns = (
        Message("user", f"Who?{edge}"),
        Message("assistant", "The first of them.", learnt=False),
        Message("user", "And then?"),
        Message("assistant", "The second."),
    )
    made = renderer(family)
    (row,) = made.render(Conversation(1, turns))
    text = trained(family, row)
    assert "second" in text
    assert "first" not in text
    (whole,) = made.render(Conversation(1, tuple(Message(t.role, t.content) for t in turns)))
    assert row.tokens == whole.tokens
    assert row.targets < whole.targets
