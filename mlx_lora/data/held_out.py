"""Prompts of the rows a run held out, each with its true answer, to ask and to compare with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.examples import load_examples
from mlx_lora.data.formats import Completion, Conversation, Document
from mlx_lora.data.render import raw_prompt

if TYPE_CHECKING:
    from mlx_lora.data.dataset import Dataset
    from mlx_lora.data.formats import Example
    from mlx_lora.data.render import Rendered, Renderer
    from mlx_lora.data.source import Source

_WORDS = 8


class HeldOutPrompt(msgspec.Struct, frozen=True):
    """A prompt, and how the row goes on from there."""

    prompt: str
    answer: str


def held_out_prompts(source: Source, dataset: Dataset, count: int) -> list[HeldOutPrompt]:
    """At most `count` of the held-out rows of a dataset, spread evenly over all of them.

    Raises:
        UserError: `bad_data`.
    """
    examples, _ = load_examples(source)
    rows, renderer = _spread(dataset.validation, count), dataset.renderer
    if isinstance(examples["train"][0], Document):
        texts = [renderer.tokenizer.decode(row.tokens).strip() for row in rows]
        found = [_of_text(text) for text in texts]
    else:
        pool = examples["valid"] if "valid" in source.files else examples["train"]
        by_row = {example.row: example for example in pool}
        found = [_of_example(by_row[row.row], renderer) for row in rows if row.row in by_row]
    return [item for item in found if item.prompt.strip()]


def _of_example(example: Example, renderer: Renderer) -> HeldOutPrompt:
    if isinstance(example, Completion):
        asked = raw_prompt(example) if renderer.template is None else example.prompt
        return HeldOutPrompt(asked, example.completion)
    if isinstance(example, Conversation):
        return _of_conversation(example)
    return _of_text(example.text)


def _of_conversation(example: Conversation) -> HeldOutPrompt:
    """The first thing that is asked, and the answer to it."""
    turns = list(example.messages)
    asked = next((at for at, turn in enumerate(turns) if turn.role == "user"), None)
    if asked is None:
        return HeldOutPrompt("", "")
    answer = next((turn.content for turn in turns[asked:] if turn.role == "assistant"), "")
    return HeldOutPrompt(turns[asked].content, answer)


def _of_text(text: str) -> HeldOutPrompt:
    """The first words, or the first line with its end where that is shorter, and the rest.

    The space between belongs to what follows, as it does to tokenizers.
    """
    words = list(re.finditer(r"\S+", text))
    if not words:
        return HeldOutPrompt("", "")
    end = words[max(1, min(_WORDS, len(words) // 2)) - 1].end()
    line = text.find("\n", words[0].start())
    if 0 <= line <= end:
        end = line + 1
    return HeldOutPrompt(text[:end], text[end:])


def _spread(items: list[Rendered], count: int) -> list[Rendered]:
    if len(items) <= count:
        return items
    return [items[at * len(items) // count] for at in range(count)]
