"""Loss on the assistant's turns alone, each with its end: against a reference written apart."""

from __future__ import annotations

import functools
from typing import Any

import conversations as here
import jinja2
import pytest
from mask_reference import Reference

from mlx_lora.data.render import Renderer
from mlx_lora.data.spans import Answers
from mlx_lora.data.template import ChatTemplate
from mlx_lora.errors import UserError

pytestmark = pytest.mark.skipif(not here.SHARED.is_dir(), reason="../shared is not here")
DAY = "2026-01-01"
ALL = [*here.FAMILIES, *here.TEMPLATES]
CONVERSATIONS = [
    *((name, turns, None) for name, turns in here.PLAIN.items()),
    *((name, turns, [here.SEARCH]) for name, turns in here.RICH.items()),
    *((f"{name}, no tools told", turns, None) for name, turns in here.RICH.items()),
]


@functools.cache
def reference(name: str) -> Reference:
    return Reference(here.source_of(name), here.names_of(name), here.special_of(name))


@functools.cache
def answers(name: str) -> Answers:
    made = Answers(template(name), here.special_of(name))
    ends = {*made.turn_ends, here.names_of(name).get("eos_token")}
    made.close_with({end for end in ends if end})
    return made


@functools.cache
def template(name: str) -> ChatTemplate:
    return ChatTemplate(here.source_of(name), here.names_of(name), DAY)


def wanted(
    name: str, turns: list[dict[str, Any]], tools: list[Any] | None
) -> tuple[str, list[tuple[int, int]]] | None:
    """Text and spans, or None where the template refuses the conversation."""
    try:
        return reference(name).text(turns, tools), reference(name).spans(turns, tools)
    except (jinja2.TemplateError, TypeError):
        return None


@pytest.mark.parametrize("name", ALL)
def test_answers_are_where_the_reference_has_them(name: str) -> None:
    seen = 0
    for title, turns, tools in CONVERSATIONS:
        one, known = here.conversation(turns, tools), wanted(name, turns, tools)
        if known is None:
            with pytest.raises(UserError, match="it refuses"):
                template(name).render(one.messages, add_generation_prompt=False, tools=one.tools)
            continue
        text, spans = known
        assert (
            template(name).render(one.messages, add_generation_prompt=False, tools=one.tools)
            == text
        )
        said = [t for t in turns if t["role"] == "assistant" and (t["content"] or len(t) > 2)]
        if len(spans) < len(said):
            with pytest.raises(UserError, match="leaves an answer out"):
                answers(name).find(one.messages, one.tools, text)
            continue
        found = answers(name).find(one.messages, one.tools, text)
        shown = [text[a:b] for a, b in found], [text[a:b] for a, b in spans]
        assert found == spans, f"{title}: {shown}"
        seen += 1
    assert seen >= 12


@pytest.mark.parametrize("family", here.FAMILIES)
def test_masks_are_those_of_the_reference(family: str) -> None:
    renderer = Renderer(here.tokenizer(family), 4096, today=DAY)
    last = Renderer(here.tokenizer(family), 4096, "last", DAY)
    for title, turns, tools in CONVERSATIONS:
        one, known = here.conversation(turns, tools), wanted(family, turns, tools)
        said = [t for t in turns if t["role"] == "assistant" and (t["content"] or len(t) > 2)]
        if known is None or len(known[1]) < len(said):
            with pytest.raises(UserError):
                renderer.render(one)
            continue
        text, spans = known
        ids, offsets = here.tokenizer(family).encode_offsets(text)
        for made, parts in ((renderer, spans), (last, spans[-1:])):
            (row,) = made.render(one)
            assert row.tokens == ids, title
            assert row.mask == [int(any(a <= at < b for a, b in parts)) for at, _ in offsets], title
