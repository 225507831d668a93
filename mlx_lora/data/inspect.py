"""What a dataset is to a model, told without the engine: no weight is read, no mlx loaded.

A job's events: notices, one `inspect` report with every figure, then `preview` reports (rows as the
person wrote them) and `pieces` reports (rows as the model sees them), each a line of about 32 kB.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.dataset import make_dataset, render_examples
from mlx_lora.data.examples import Found, load_examples, read_examples
from mlx_lora.data.figures import measure, whole_length
from mlx_lora.data.formats import Conversation
from mlx_lora.data.reading import Source, find_source
from mlx_lora.data.render import Rendered, Renderer
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Pulse, Report
from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model
from mlx_lora.models.tokenizer import TextStream, Tokenizer, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.control import Control
    from mlx_lora.jobs import InspectJob

_ROWS, _SHOWN, _TOKENS = 200, 50, 12_000
# a longer row is shown up to here: a person reads no more of it, and a window shows no more
LONGEST_VIEW = 8_000
_SHORT, _LINE = 160, 32_000
_FIELDS = ("text", "prompt", "completion", "instruction", "input", "output")
Piece = tuple[str, str]


def inspect(job: InspectJob, control: Control) -> Iterator[Event]:
    """Say what a dataset is to a model, or show one row where `job.row` names it.

    Raises:
        UserError: anything wrong with model or data; `bad_option` for a row that is not there.
    """
    for event in _inspect(job):
        if control.stopping:
            yield Finished(reason="stopped")
            return
        yield event
    yield Finished(reason="done")


def row_pieces(tokenizer: Tokenizer, row: Rendered) -> list[Piece]:
    """A row as text in pieces, each `trained`, `masked` or `cut`; joined, they are its decoding.

    A piece is a token, or a few where only together they make a character.
    """
    ids = [*row.tokens, *row.rest]
    states = [*("trained" if learnt else "masked" for learnt in row.mask), *["cut"] * len(row.rest)]
    texts = tokenizer.decode_each(ids)
    if "".join(texts) == tokenizer.decode(ids, keep_special=True):
        return list(zip(texts, states, strict=True))
    stream, pieces = TextStream(tokenizer, [], keep_special=True), list[Piece]()
    for token, state in zip(ids, states, strict=True):
        if text := stream.add(token):
            pieces.append((text, state))
    rest = stream.finish()
    return [*pieces, (rest, states[-1])] if rest else pieces


def _inspect(job: InspectJob) -> Iterator[Event]:
    yield Phase("loading_model")
    renderer = _make_renderer(job)
    source = find_source(job.data.source, Path(job.root))
    stamp = source.stamp()
    if job.row is not None:
        yield from _show_row(source, renderer, job.row)
        return
    found = yield from _read(source)
    examples, empty = load_examples(source, found)
    read = (examples, empty, (yield from render_examples(examples, renderer)))
    data = job.data
    dataset = make_dataset(source, renderer, read, val_fraction=data.val_fraction, seed=job.seed)
    yield from dataset.notices
    figures = measure(source, read, dataset, renderer.max_length)
    shown = _written(found, read[2]["train"], renderer)
    columns = list(dict.fromkeys(name for row in shown for name in row["values"]))
    last = max(read[2]["train"][-1].row, *(one.row.number for one in found if one.split == "train"))
    facts = {**dataset.facts, **figures, "prompt_style": dataset.prompt_style, "last_row": last}
    yield Report(kind="inspect", data={**facts, "columns": columns, "stamp": stamp})
    yield from _in_lines("preview", {}, "rows", shown)
    budget = _TOKENS
    for row in read[2]["train"][:_SHOWN]:
        budget -= whole_length(row)
        if budget >= 0:
            yield from _say_pieces(renderer.tokenizer, row)


def _make_renderer(job: InspectJob) -> Renderer:
    """The render path of the job's model, made from its small files."""
    folder, description, _ = check_model(job.model.source)
    core = core_description(description)
    tokenizer = read_tokenizer(folder, description["stop_token_ids"], core["vocab_size"])
    context = core.get("max_position_embeddings") or job.data.max_length
    limit = min(job.data.max_length, context)
    renderer = Renderer(tokenizer, limit, job.data.train_on, job.today)
    renderer.keeps_rest = True
    return renderer


def _read(source: Source) -> Generator[Phase, None, list[Found]]:
    pulse, found = Pulse(), list[Found]()
    for one in read_examples(source):
        found.append(one)
        if pulse.due():
            yield Phase("reading_data", len(found))
    return found


def _show_row(source: Source, renderer: Renderer, number: int) -> Iterator[Event]:
    """One row of the training file, whole."""
    only = Source(source.name, {"train": source.files["train"]})
    found = yield from _read(only)
    documents = [one for one in found if one.row.document]
    wanted = documents or [one for one in found if one.row.number == number]
    rows = [row for one in wanted if one.example for row in renderer.render(one.example)]
    chosen = [row for row in rows if row.row == number]
    if not wanted or (documents and not chosen):
        last = rows[-1].row if documents else found[-1].row.number
        fix = f"choose a number from 1 to {last:,}"
        raise UserError("bad_option", f"row {number:,}", "there is no such row", fix)
    yield from _in_lines("preview", {}, "rows", _written(wanted, chosen, renderer))
    for row in chosen:
        yield from _say_pieces(renderer.tokenizer, row)


def _written(found: list[Found], rendered: list[Rendered], renderer: Renderer) -> list[Any]:
    """The first rows as the person wrote them, each with its tokens and why it is left out."""
    training = [one for one in found if one.split == "train"][:_ROWS]
    if any(one.row.document for one in training):
        decode = renderer.tokenizer.decode
        return [
            _line(row.row, {"text": _short(decode(row.tokens))}, row) for row in rendered[:_ROWS]
        ]
    by_number = {row.row: row for row in rendered}
    return [_line(one.row.number, _values(one), by_number.get(one.row.number)) for one in training]


def _line(number: int, values: dict[str, str], row: Rendered | None) -> dict[str, Any]:
    reason = "empty" if row is None else "" if row.targets else "no_target"
    tokens, cut = (0, 0) if row is None else (whole_length(row), row.cut)
    return {"row": number, "values": values, "tokens": tokens, "cut": cut, "left_out": reason}


def _values(one: Found) -> dict[str, str]:
    """Field to short text, as the row has them; of a conversation its first turns and the last."""
    if isinstance(one.example, Conversation):
        turns = one.example.messages
        first = {m.role: m.content for m in reversed(turns)}
        first["assistant"] = next(m.content for m in reversed(turns) if m.role == "assistant")
        shown = {role: first[role] for role in ("system", "user", "assistant") if role in first}
        return {**{role: _short(text) for role, text in shown.items()}, "turns": f"{len(turns)}"}
    value = one.row.value
    if "messages" in value:
        return {"assistant": ""}
    return {name: _short(value[name]) for name in _FIELDS if isinstance(value.get(name), str)}


def _say_pieces(tokenizer: Tokenizer, row: Rendered) -> Iterator[Event]:
    total, room = whole_length(row), LONGEST_VIEW
    kept = msgspec.structs.replace(
        row, tokens=row.tokens[:room], mask=row.mask[:room],
        rest=row.rest[: max(0, room - len(row.tokens))],
    )  # fmt: skip
    pieces = row_pieces(tokenizer, kept)
    yield from _in_lines("pieces", {"row": row.row, "tokens": total}, "pieces", pieces)


def _in_lines(kind: str, facts: dict[str, Any], name: str, items: list[Any]) -> Iterator[Report]:
    """A long list as several reports, each with `facts` and where its part starts."""
    part, size, start = list[Any](), 0, 0
    for at, item in enumerate(items):
        part.append(item)
        size += len(msgspec.json.encode(item)) + 1
        if size > _LINE or at + 1 == len(items):
            yield Report(kind=kind, data={**facts, "start": start, name: part})
            part, size, start = [], 0, at + 1


def _short(text: str) -> str:
    line = " \u21b5 ".join(part.strip() for part in text.strip().splitlines() if part.strip())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "\u2026"
