"""DATA to the rows a run trains on, those it is measured on, and what to know of them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.examples import load_examples
from mlx_lora.data.formats import Completion, Conversation, Document
from mlx_lora.data.render import PromptStyle, Rendered, Renderer
from mlx_lora.data.split import split_rows
from mlx_lora.errors import UserError
from mlx_lora.events import Notice, Phase, Pulse

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.data.formats import Example
    from mlx_lora.data.reading import Source

    # examples by split, numbers of empty rows by file, rendered rows by split
    Read = tuple[dict[str, list[Example]], dict[str, list[int]], dict[str, list[Rendered]]]


_NAMED = 5


class Dataset(msgspec.Struct, frozen=True):
    """Rendered rows, split, and how prompts must be put.

    Attributes:
        beginnings: the first words of a few held-out rows, to sample from when no prompt is given.
        notices: what a person should know before it starts.
    """

    training: list[Rendered]
    validation: list[Rendered]
    prompt_style: PromptStyle
    beginnings: list[str]
    notices: list[Notice]
    facts: dict[str, Any]


def build_dataset(
    source: Source,
    renderer: Renderer,
    *,
    val_fraction: float,
    seed: int,
) -> Generator[Phase, None, Dataset]:
    """Read, render and split, with a sign of life; returns the dataset.

    Rows with nothing left to learn are named in a notice and left out.

    Raises:
        UserError: `bad_data`, `bad_template`, `no_template`.
    """
    examples, empty = load_examples(source)
    rendered = yield from render_examples(examples, renderer)
    return make_dataset(
        source, renderer, (examples, empty, rendered), val_fraction=val_fraction, seed=seed
    )


def render_examples(
    examples: dict[str, list[Example]], renderer: Renderer
) -> Generator[Phase, None, dict[str, list[Rendered]]]:
    """The rows of every split, with a sign of life.

    Raises:
        UserError: `bad_template`, `no_template` or `bad_data`, naming the row.
    """
    rendered: dict[str, list[Rendered]] = {}
    for split, found in examples.items():
        rendered[split] = yield from _render(found, renderer)
    return rendered


def make_dataset(
    source: Source, renderer: Renderer, read: Read, *, val_fraction: float, seed: int
) -> Dataset:
    """What was read and rendered, split into rows to learn and rows to measure with.

    Raises:
        UserError: `bad_data` where nothing is left to learn.
    """
    examples, empty, rendered = read
    notices = [
        _left_out(numbers, "empty", "they hold no text or no answer") for numbers in empty.values()
    ]
    rows = {split: [row for row in items if row.targets] for split, items in rendered.items()}
    for split, items in rendered.items():
        hollow = [row.row for row in items if not row.targets]
        if hollow:
            notices.append(
                _left_out(
                    hollow,
                    "no_target",
                    f"nothing to learn is left within the length limit ({split})",
                )
            )
    cut = [row.row for items in rows.values() for row in items if row.cut]
    if cut:
        notices.append(_cut(cut, renderer.max_length))
    if not rows.get("train"):
        raise UserError(
            "bad_data",
            source.name,
            "no row has anything to learn in it",
            "raise --max-length, or check the answers",
        )
    training, validation = rows["train"], rows.get("valid", [])
    if "valid" not in source.files:
        training, validation = split_rows(
            training, val_fraction, seed, lambda row: repr(row.tokens).encode()
        )
    if not validation:
        text = "No row is held out, so nothing can measure what is learnt or pick the best step."
        notices.append(Notice(level="warning", code="no_validation", text=text))
    style = renderer.style(examples["train"][0])
    return Dataset(
        training=training,
        validation=validation,
        prompt_style=style,
        beginnings=_beginnings(examples, validation or training, renderer),
        notices=notices,
        facts=_facts(source, examples, training, validation, len(cut)),
    )


def render_split(source: Source, split: str, renderer: Renderer) -> list[Rendered]:
    """All rows of one split of a source that have something to learn in them."""
    examples, _ = load_examples(source)
    chosen = examples.get(split) or examples["train"]
    return [row for example in chosen for row in renderer.render(example) if row.targets]


def _render(examples: list[Example], renderer: Renderer) -> Generator[Phase, None, list[Rendered]]:
    pulse, rows = Pulse(), []
    for number, example in enumerate(examples):
        if pulse.due():
            yield Phase("rendering", number, len(examples))
        rows += renderer.render(example)
    return rows


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
    return " ".join(example.text.split()[:8])


def _first_line(text: str) -> str:
    """The first line with its line end: a speaker's name stays a speaker's name."""
    line, end, _ = text.strip().partition("\n")
    words = line.split(" ")
    return line + end if len(words) <= 8 else " ".join(words[:8])  # noqa: PLR2004


def _facts(
    source: Source,
    examples: dict[str, list[Example]],
    training: list[Rendered],
    validation: list[Rendered],
    cut: int,
) -> dict[str, Any]:
    kinds = [type(example).__name__.lower() for items in examples.values() for example in items]
    lengths = sorted(len(row.tokens) for row in (*training, *validation))
    return {
        "name": source.name,
        "formats": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "training_rows": len(training),
        "validation_rows": len(validation),
        "training_targets": sum(row.targets for row in training),
        "median_tokens": statistics.median(lengths),
        "longest_tokens": lengths[-1],
        "cut_rows": cut,
    }


def _left_out(numbers: list[int], code: str, reason: str) -> Notice:
    text = f"{len(numbers)} rows are left out, because {reason}: {_list(numbers)}."
    return Notice(level="warning", code=code, text=text)


def _cut(numbers: list[int], limit: int) -> Notice:
    text = (
        f"{len(numbers)} rows are longer than {limit} tokens and are cut there: {_list(numbers)}."
    )
    return Notice(level="warning", code="cut", text=text)


def _list(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_NAMED]))
    return (
        f"row {shown}"
        if len(numbers) == 1
        else f"rows {shown}{', ...' if len(numbers) > _NAMED else ''}"
    )
