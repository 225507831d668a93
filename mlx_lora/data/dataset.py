"""DATA to the rows a run trains on, those it is measured on, and what to know of them."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.examples import load_examples
from mlx_lora.data.formats import Completion, Conversation, Document
from mlx_lora.data.render import PromptStyle, Rendered, Renderer, make_renderer
from mlx_lora.data.split import Groups
from mlx_lora.data.templates import deciding_example
from mlx_lora.errors import UserError
from mlx_lora.events import Notice, Phase, Pulse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from mlx_lora.config import DataConfig
    from mlx_lora.data.formats import Example
    from mlx_lora.data.source import Source
    from mlx_lora.models.tokenizer import Tokenizer

_NAMED, _WORDS = 5, 8


class Dataset(msgspec.Struct, frozen=True):
    """Rendered rows, split, and how prompts must be put.

    Attributes:
        renderer: what made the rows; prompts go through it too.
        beginnings: the first words of a few held-out rows, to sample from when no prompt is given.
        notices: what a person should know before it starts.
    """

    training: list[Rendered]
    validation: list[Rendered]
    renderer: Renderer
    prompt_style: PromptStyle
    beginnings: list[str]
    notices: list[Notice]
    facts: dict[str, Any]


def build_dataset(
    source: Source,
    tokenizer: Tokenizer,
    data: DataConfig,
    *,
    context: int | None,
    seed: int,
    today: str,
) -> Generator[Phase, None, Dataset]:
    """Read, render and split, with a sign of life; returns the dataset.

    Rows with nothing left to learn are named in a notice and left out. `context` is how many
    positions the model has, `today` (YYYY-MM-DD) the day a chat template may write.

    Raises:
        UserError: `bad_data`, `bad_template`, `no_template`.
    """
    examples, empty = load_examples(source)
    first = deciding_example(itertools.chain(*examples.values())) or examples["train"][0]
    renderer = make_renderer(tokenizer, data, context, today, first)
    groups, rows, notices = Groups(), dict[str, list[Rendered]](), list[Notice]()
    notices += [left_out(n, "empty", "they hold no text or no answer") for n in empty.values()]
    for split, found in examples.items():
        rendered = yield from _render(found, renderer, groups if split == "train" else Groups())
        notices += _notices(split, rendered, renderer.max_length)
        rows[split] = [row for row in rendered if row.targets]
    if not rows["train"]:
        fix = "raise --max-length, or check the answers"
        raise UserError("bad_data", source.name, "no row has anything to learn in it", fix)
    training, validation = rows["train"], rows.get("valid", [])
    if "valid" not in source.files:
        held = groups.held(data.val_fraction, seed)
        validation = [row for row, out in zip(training, held, strict=True) if out]
        training = [row for row, out in zip(training, held, strict=True) if not out]
    if not validation:
        text = "No row is held out, so nothing can measure what is learnt or pick the best step."
        notices.append(Notice(level="warning", code="no_validation", text=text))
    return Dataset(
        training=training,
        validation=validation,
        renderer=renderer,
        prompt_style=renderer.style(examples["train"][0]),
        beginnings=_beginnings(examples, validation or training, renderer),
        notices=notices,
        facts=_facts(source, examples, training, validation, rows),
    )


def number_blocks(example: Example, rows: list[Rendered], before: int) -> list[Rendered]:
    """The blocks of a document, numbered on from those of the documents before it."""
    if before == 0 or not isinstance(example, Document):
        return rows
    return [msgspec.structs.replace(row, row=before + row.row) for row in rows]


def left_out(numbers: list[int], code: str, reason: str) -> Notice:
    """Rows that are not learnt, and why."""
    text = f"{len(numbers)} rows are left out, because {reason}: {_list(numbers)}."
    return Notice(level="warning", code=code, text=text)


def _render(
    examples: list[Example], renderer: Renderer, groups: Groups
) -> Generator[Phase, None, list[Rendered]]:
    pulse, rows = Pulse(), list[Rendered]()
    for done, (example, made) in enumerate(renderer.render_each(examples)):
        if pulse.due():
            yield Phase("rendering", done, len(examples))
        numbered = number_blocks(example, made, rows[-1].row if rows else 0)
        groups.add(example, sum(1 for row in numbered if row.targets))
        rows += numbered
    return rows


def _notices(split: str, rendered: list[Rendered], limit: int) -> list[Notice]:
    found = []
    dropped = [row.row for row in rendered if row.dropped]
    if dropped:
        found.append(left_out(dropped, "dropped", f"they are longer than {limit} tokens ({split})"))
    hollow = [row.row for row in rendered if not row.targets and not row.dropped]
    if hollow:
        reason = f"nothing to learn is left within the length limit ({split})"
        found.append(left_out(hollow, "no_target", reason))
    cut = [row.row for row in rendered if row.cut and row.targets]
    if cut:
        text = f"{len(cut)} rows are longer than {limit} tokens and are cut there: {_list(cut)}."
        found.append(Notice(level="warning", code="cut", text=text))
    return found


def _beginnings(
    examples: dict[str, list[Example]], held: list[Rendered], renderer: Renderer
) -> list[str]:
    """Three prompts of the data's own kind."""
    first = examples["train"][0]
    if isinstance(first, Document):
        texts = [renderer.tokenizer.decode(row.tokens) for row in held]
        return [_first_line(text) for text in texts if text.strip()][:3]
    held_rows = {row.row for row in held}
    pool = (
        examples.get("valid")
        or [e for e in examples["train"] if e.row in held_rows]
        or examples["train"]
    )
    return [_question(example) for example in pool[:3]]


def _question(example: Example) -> str:
    if isinstance(example, Completion):
        return example.prompt
    if isinstance(example, Conversation):
        return next((m.content for m in example.messages if m.role == "user"), "")
    return " ".join(example.text.split()[:_WORDS])


def _first_line(text: str) -> str:
    """The first line with its line end: a speaker's name stays a speaker's name."""
    line, end, _ = text.strip().partition("\n")
    words = line.split(" ")
    return line + end if len(words) <= _WORDS else " ".join(words[:_WORDS])


def _facts(
    source: Source,
    examples: dict[str, list[Example]],
    training: list[Rendered],
    validation: list[Rendered],
    rows: dict[str, list[Rendered]],
) -> dict[str, Any]:
    kinds = Counter(type(one).__name__.lower() for items in examples.values() for one in items)
    lengths = sorted(len(row.tokens) for row in (*training, *validation))
    return {
        "name": source.name,
        "formats": dict(sorted(kinds.items())),
        "training_rows": len(training),
        "validation_rows": len(validation),
        "training_targets": sum(row.targets for row in training),
        "median_tokens": statistics.median(lengths),
        "longest_tokens": lengths[-1],
        "cut_rows": sum(1 for items in rows.values() for row in items if row.cut),
    }


def _list(numbers: Iterable[int]) -> str:
    found = list(numbers)
    shown = ", ".join(map(str, found[:_NAMED]))
    if len(found) == 1:
        return f"row {shown}"
    return f"rows {shown}{', ...' if len(found) > _NAMED else ''}"
