"""All examples of DATA, checked row by row before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.formats import Example, read_example
from mlx_lora.data.reading import Row, Source, read_rows
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Found(msgspec.Struct, frozen=True):
    """A row of a file, and what it holds: None where it is empty."""

    split: str
    file: str
    row: Row
    example: Example | None


def read_examples(source: Source) -> Iterator[Found]:
    """Every row of DATA, in the order of its files.

    Raises:
        UserError: `bad_data`, naming file, row and what is wrong with it.
    """
    for split, path in source.files.items():
        for row in read_rows(path, may_be_empty=split != "train"):
            yield Found(split, path.name, row, read_example(row, path.name))


def load_examples(
    source: Source, found: Iterable[Found] | None = None
) -> tuple[dict[str, list[Example]], dict[str, list[int]]]:
    """Examples by split, and by file the numbers of the empty rows left out.

    `found` is what was read of the source, where that was done before.

    Raises:
        UserError: `bad_data`, naming file, row and what is wrong with it.
    """
    examples: dict[str, list[Example]] = {}
    empty: dict[str, list[int]] = {}
    for one in read_examples(source) if found is None else found:
        if one.example is None:
            empty.setdefault(one.file, []).append(one.row.number)
        else:
            examples.setdefault(one.split, []).append(one.example)
    if not examples.get("train"):
        fix = "choose a file with text and answers in it"
        raise UserError("bad_data", source.name, "every row is empty", fix)
    return examples, empty
