"""What holds for every row: any text, any turns, any limit."""

# ruff: noqa: E501  (a table reads best with its rows whole)

from __future__ import annotations

import unicodedata
from typing import Any

import conversations as here
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mlx_lora.data.formats import Completion, Conversation, Document, Example, Message, Text
from mlx_lora.data.render import Rendered, Renderer
from mlx_lora.data.templates import built_in
from mlx_lora.errors import UserError

pytestmark = pytest.mark.skipif(not here.SHARED.is_dir(), reason="../shared is not here")
DAY = "2026-01-01"
THOUGHT = {"qwen3": "<think></think>"}
FAMILIES = [*here.FAMILIES, "llama2"]
SOME = [
    "llama3",
    "phi3",
    *(pytest.param(f, marks=pytest.mark.slow) for f in ("gemma3", "qwen3", "llama2")),
]
RENDERERS: dict[tuple[Any, ...], Renderer] = {}
fast = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# what breaks masks: words of the headers, control tokens, thoughts, spaces, signs of many bytes
PIECES = [
    "assistant", "user\n", "model", "system", "<|im_end|>", "<|im_start|>assistant\n", "</s>", "<s>",
    "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<bos>", "<think>", "</think>", "\n\n",
    "[INST]", "\n", " ", "\t", "a", "Paris.", "\u4e16\u754c", "\U0001f600", "e\u0301", "\ufdd0", "{{ x }}", "<|", "|>",
    "### Response:\n", "User: ", "\u00a0", "\r\n",
]  # fmt: skip
texts = some.lists(some.sampled_from(PIECES) | some.text(max_size=6), max_size=7).map("".join)
said = texts.filter(lambda text: text.strip() != "" and "</think>" not in text)
pairs = some.lists(
    some.tuples(texts.filter(lambda t: t.strip() != ""), said), min_size=1, max_size=3
)


def renderer(family: str, limit: int = 1 << 16, **options: Any) -> Renderer:
    key = (family, limit, *sorted(options.items()))
    if key not in RENDERERS:
        tokenizer = here.tokenizer(family)
        if family == "llama2":
            tokenizer = tokenizer.with_template("plain", built_in(tokenizer, "plain").source)
        RENDERERS[key] = Renderer(tokenizer, limit, today=DAY, **options)
    return RENDERERS[key]


def talk(turns: list[tuple[str, str]]) -> Conversation:
    messages = [
        Message(role, text)
        for question, answer in turns
        for role, text in (("user", question), ("assistant", answer))
    ]
    return Conversation(1, tuple(messages))


def bare(text: str) -> str:
    """Without spaces, of which decoders add and drop some, and composed, as one tokenizer does."""
    return "".join(unicodedata.normalize("NFC", text).replace("\u2581", " ").split())


def learnt(family: str, row: Rendered) -> str:
    ids = [token for token, mark in zip(row.tokens, row.mask, strict=True) if mark]
    return here.tokenizer(family).decode(ids, keep_special=True)


@pytest.mark.parametrize("family", SOME)
@fast
@given(pairs)
def test_every_message_is_in_the_row_and_only_answers_are_learnt(
    family: str, turns: list[tuple[str, str]]
) -> None:
    tokenizer, made = here.tokenizer(family), renderer(family)
    (row,) = made.render(talk(turns))
    text, trained = bare(tokenizer.decode(row.tokens, keep_special=True)), bare(learnt(family, row))
    at = reached = 0
    for question, answer in turns:
        at = text.index(bare(question), at) + len(bare(question))
        at = text.index(bare(answer), at) + len(bare(answer))
        reached = trained.index(bare(answer), reached) + len(bare(answer))
    # besides answers: their ends, and the thought one template opens the last with
    besides = len(trained) - sum(len(bare(answer)) for _, answer in turns)
    assert besides == len(made.turn_end or "") * len(turns) + len(THOUGHT.get(family, ""))


@pytest.mark.parametrize("family", SOME)
@fast
@given(pairs)
def test_typed_control_tokens_are_never_control_tokens(
    family: str, turns: list[tuple[str, str]]
) -> None:
    tokenizer, made = here.tokenizer(family), renderer(family)
    (row,) = made.render(talk(turns))
    (plain,) = made.render(talk([("q", "a")] * len(turns)))
    added = tokenizer._inner.get_added_tokens_decoder().items()
    control = {number for number, token in added if token.special}
    assert [n for n in row.tokens if n in control] == [n for n in plain.tokens if n in control]
    typed = any(t in text for pair in turns for text in pair for t in tokenizer.control_texts)
    assert row.control == typed
    if tokenizer.adds_bos:
        assert row.tokens.count(tokenizer.bos_id) <= 1
    if not typed:
        text = made.template.render(talk(turns).messages, add_generation_prompt=False)  # type: ignore[union-attr]
        assert row.tokens == tokenizer.encode(text)


@pytest.mark.parametrize("family", FAMILIES)
@fast
@given(texts, said)
def test_what_is_asked_is_what_was_trained(family: str, question: str, answer: str) -> None:
    made = renderer(family)
    (row,) = made.render(Completion(1, question, answer))
    asked = made.prompt(question, "chat")
    first = row.mask.index(1)
    if answer == answer.strip() and answer[:1].isalnum():
        assert row.tokens[: len(asked)] == asked
        assert first == len(asked)


def examples() -> some.SearchStrategy[Example]:
    return some.one_of(
        pairs.map(talk),
        some.tuples(texts, said).map(lambda pair: Completion(1, *pair)),
        some.tuples(texts, said).map(lambda pair: Completion(1, *pair, system="Be brief.")),
        said.map(lambda text: Text(1, text * 3)),
        said.map(lambda text: Document(1, text * 9)),
    )


@pytest.mark.parametrize("family", [*FAMILIES, "bare"])
@settings(max_examples=6, deadline=None)
@given(some.lists(examples(), max_size=9), some.sampled_from(["cut", "keep-end", "split", "drop"]))
def test_many_rows_are_those_of_one_at_a_time(
    family: str, found: list[Example], choice: str
) -> None:
    if family == "bare":
        made = Renderer(here.tokenizer("llama2"), 24, long_rows=choice, overlap=5)  # type: ignore[arg-type]
        found = [one for one in found if not isinstance(one, Conversation)]
    else:
        made = renderer(family, 24, long_rows=choice, overlap=5)
    if family == "gemma3":  # its template knows no system message
        found = [one for one in found if not (isinstance(one, Completion) and one.system)]
    alone = [made.render(one) for one in found]
    together = list(made.render_each(iter(found * 20)))
    assert [rows for _, rows in together] == alone * 20
    assert [one for one, _ in together] == found * 20


def test_rows_before_one_that_is_refused_come_first() -> None:
    made = renderer("gemma3")
    good, bad = talk([("a", "b")]), Conversation(7, (Message("system", "x"), Message("user", "y")))
    seen = []
    with pytest.raises(UserError, match="row 7"):
        seen.extend(rows for _, rows in made.render_each([good] * 300 + [bad, good]))
    # extend keeps nothing of what breaks off
    each = made.render_each([good] * 300 + [bad, good])
    assert [next(each)[1] for _ in range(300)] == [made.render(good)] * 300
    with pytest.raises(UserError, match="row 7"):
        next(each)


@pytest.mark.parametrize("family", FAMILIES)
@fast
@given(
    some.lists(
        some.sampled_from(["word ", "7", "\n\n", ". ", "\U0001f600", "a"]), min_size=1, max_size=120
    ),
    some.integers(4, 40),
    some.integers(0, 30),
)
def test_windows_hold_every_token_once_beside_what_they_repeat(
    family: str, parts: list[str], limit: int, overlap: int
) -> None:
    tokenizer, text = here.tokenizer(family), "x" + "".join(parts) + "x"
    made = renderer(family, limit, long_rows="split", overlap=overlap)
    (whole,) = renderer(family).render(Text(3, text))
    head = whole.tokens[:1] if whole.tokens[0] == tokenizer.bos_id else []
    room = limit - len(head)
    for example in (Text(3, text), Document(3, text)):
        rows, ids, repeated = made.render(example), list[int](), 0
        for at, row in enumerate(rows):
            assert len(row.tokens) <= limit
            assert row.tokens[: len(head)] == head
            first = row.mask.index(1)
            back = max(0, first - len(head)) if overlap and at else 0
            assert back <= min(overlap, room // 2)
            new = row.tokens[len(head) + back :]
            assert ids[len(ids) - back :] == row.tokens[len(head) : len(head) + back]
            ids += new
            repeated += back
            assert row.mask[max(1, first) :] == [1] * (len(row.mask) - max(1, first))
            assert row.stops
            assert (row.cut, row.dropped, row.end_cut) == (0, False, False)
        assert ids == whole.tokens[len(head) :]
        if len(rows) > 1 and overlap and room > 1:
            assert repeated > 0
            # nothing is learnt twice, and but for the first token of all, everything is
            assert sum(row.targets for row in rows) == len(ids) - (not head)
        numbers = {row.row for row in rows}
        assert numbers == ({3} if isinstance(example, Text) else set(range(1, len(rows) + 1)))
