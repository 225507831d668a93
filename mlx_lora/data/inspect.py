"""What a dataset is to a model, told without the engine: no weight is read, no mlx loaded.

A job's events: the first rows at once (`preview` reports, rows as the person wrote them, and
`pieces` reports, rows as the model sees them, each a line of about 32 kB), then how far the rest
is looked at, at last one `inspect` report with every figure. Where no row is understood, the first
rows and a `columns` report come before the refusal. A file of any size is read in bounded memory.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.dataset import number_blocks
from mlx_lora.data.examples import Found, no_rows, read_examples
from mlx_lora.data.findings import CODES, words
from mlx_lora.data.hub import fetch_dataset, needs_fetch
from mlx_lora.data.long_rows import LongRows
from mlx_lora.data.look import SHOWN, Look, mapping_of, note_columns
from mlx_lora.data.preview import say_pieces, say_rows
from mlx_lora.data.render import Rendered, Renderer, make_renderer
from mlx_lora.data.source import Source, find_source
from mlx_lora.data.templates import deciding_example
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Pulse, Report
from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model
from mlx_lora.models.shape import Shape, shape_of
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer
from mlx_lora.models.untrained import is_untrained

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.config import DataConfig
    from mlx_lora.control import Control
    from mlx_lora.jobs import InspectJob
    from mlx_lora.models.tensors import TensorInfo

_PIECES, _TOKENS = 50, 12_000
# rows looked at together: their texts are encoded on all cores
_TOGETHER = 256
# so many rows of which none is understood: the rest will not be either
_ENOUGH = 10_000
# no row is cut at it
_ENDLESS = 131_072


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


def open_model(
    job: InspectJob,
) -> tuple[Tokenizer, int | None, Shape, dict[str, TensorInfo]]:
    """(tokenizer, context in tokens, shape, tables of contents) of the job's model.

    Only its small files are read.

    Raises:
        UserError: anything wrong with the model.
    """
    folder, description, tensors = check_model(job.model.source)
    core = core_description(description)
    tokenizer = read_tokenizer(folder, description["stop_token_ids"], core["vocab_size"])
    return tokenizer, core.get("max_position_embeddings"), shape_of(core), tensors


def _inspect(job: InspectJob) -> Iterator[Event]:
    yield Phase("loading_model")
    tokenizer, context, shape, tensors = open_model(job)
    if needs_fetch(job.data, Path(job.root)):
        yield from fetch_dataset(job.data, Path(job.root))
    source = find_source(job.data, Path(job.root))
    stamp, found = source.stamp(), read_examples(source)
    head, first, fault = yield from _read_head(found)
    if first is None:
        yield from _say_columns(head, tokenizer)
        raise fault or no_rows(source)

    deciding = deciding_example(one.example for one in head if one.example is not None)

    def renderer(data: DataConfig, positions: int | None) -> Renderer:
        return make_renderer(tokenizer, data, positions, job.today, deciding or first)

    def treated(choice: str) -> Renderer:
        changes = {"long_rows": choice} if choice else {"max_length": _ENDLESS, "long_rows": "cut"}
        data = msgspec.structs.replace(job.data, **changes)
        return renderer(data, context if choice else None)

    own = renderer(job.data, context)
    look = Look(source, first, own, LongRows(treated, own.max_length), job)
    look.renderer.keeps_rest = True
    if job.row is not None:
        yield from _show_row(source, look.renderer, job.row)
        return
    look.take(head)
    yield from say_rows(head[:SHOWN], look.shown, tokenizer)
    budget = _TOKENS
    for row in look.shown[:_PIECES]:
        budget -= len(row.tokens) + row.cut
        if budget >= 0:
            yield from say_pieces(tokenizer, row)
    look.renderer.keeps_rest = False
    yield from _look_on(look, source, found)
    facts = look.end(shape)
    if (end := look.renderer.end_id) is not None and is_untrained(tensors, end):
        _note_stop(facts)
    yield Report(kind="inspect", data={**facts, "stamp": stamp})


def _note_stop(facts: dict[str, Any]) -> None:
    """Put the finding that rows end with a sign the model does not know in its place."""
    code, count = "untrained_stop", facts["training_rows"]
    said = words(code, count, "train", facts["limit"])
    found = {"code": code, "split": "train", "count": count, "rows": [], "places": [], **said}
    facts["issues"] = sorted(
        [*facts["issues"], found], key=lambda issue: CODES.index(issue["code"])
    )


def _read_head(
    found: Iterator[Found],
) -> Generator[Phase, None, tuple[list[Found], Any, UserError | None]]:
    """The first rows, enough to show and to know what they are; the first example and fault."""
    pulse, head = Pulse(), list[Found]()
    first_fault: UserError | None = None
    first = None
    for one in found:
        head.append(one)
        first_fault = first_fault or one.fault
        first = first or one.example
        if pulse.due():
            yield Phase("reading_data", len(head))
        enough = SHOWN if first is not None else _ENOUGH
        if len(head) >= enough and (first is not None or first_fault is not None):
            break
    return head, first, first_fault


def _say_columns(head: list[Found], tokenizer: Tokenizer) -> Iterator[Report]:
    """Rows of which none is understood, and their columns: a person may say which is which."""
    columns = dict[str, str]()
    for one in head[:SHOWN]:
        note_columns(one, columns)
    if columns:
        yield from say_rows(head[:SHOWN], [], tokenizer)
        yield Report(kind="columns", data=mapping_of(columns, needed=True))


def _look_on(look: Look, source: Source, found: Iterator[Found]) -> Iterator[Phase]:
    """The rest of the rows; how far it is, in bytes."""
    pulse, total = Pulse(), source.size
    while batch := list(itertools.islice(found, _TOGETHER)):
        look.take(batch)
        if pulse.due():
            yield Phase("checking", look.bytes_read, total)


def _show_row(source: Source, renderer: Renderer, number: int) -> Iterator[Event]:
    """One row of the training file, whole."""
    pulse, last, tokenizer = Pulse(), 0, renderer.tokenizer
    for one in read_examples(source, ["train"]):
        if pulse.due():
            yield Phase("reading_data", last)
        rows = list[Rendered]()
        if one.row.document and one.example is not None:
            blocks = number_blocks(one.example, renderer.render(one.example), last)
            last += len(blocks)
            rows = [row for row in blocks if row.row == number]
            if not rows:
                continue
        else:
            last = one.row.number
            if last != number:
                continue
            rows = renderer.render(one.example) if one.example is not None else []
        yield from say_rows([one], rows, tokenizer)
        for row in rows:
            yield from say_pieces(tokenizer, row)
        return
    fix = f"choose a number from 1 to {last:,}"
    raise UserError("bad_option", f"row {number:,}", "there is no such row", fix)
