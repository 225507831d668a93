"""All examples of DATA, read row by row before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.encodings import guess_encoding
from mlx_lora.data.formats import Example, form_of, read_example
from mlx_lora.data.reading import Row, read_rows
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mlx_lora.data.latin import Guess
    from mlx_lora.data.source import Source


class Found(msgspec.Struct, frozen=True):
    """A row of a file, and what it holds.

    Attributes:
        form: what the row is (`formats.Form`), empty where that is not understood.
        example: None where the row is empty or has a fault.
        fault: what is wrong with it.
    """

    split: str
    row: Row
    form: str
    example: Example | None
    fault: UserError | None = None

    @property
    def trouble(self) -> str:
        """The finding (`findings.KINDS`) that its fault is one of."""
        if self.row.unread:
            return "unread"
        return "broken" if self.row.fault is not None or self.form else "unknown"


def read_examples(
    source: Source,
    splits: Iterable[str] | None = None,
    encodings: Mapping[Path, Guess] | None = None,
) -> Iterator[Found]:
    """Every row of DATA, in the order of its files; faults are in the rows.

    A file that is not UTF-8 is read in its encoding of `encodings`, see `encodings_of`.

    Raises:
        UserError: `bad_data` where a file itself cannot be read.
    """
    for split in splits or source.files:
        last = 0
        for path in source.files[split]:
            guess = (encodings or {}).get(path)
            # one of many may be empty; that all are is said at the end
            may_be_empty = split != "train" or len(source.files[split]) > 1
            for row in read_rows(
                path,
                first=last + 1,
                may_be_empty=may_be_empty,
                encoding=guess.encoding if guess else None,
            ):
                last = row.number
                yield _found(split, row, source)


def encodings_of(source: Source) -> dict[Path, Guess]:
    """The encodings of those files that are not UTF-8, as far as they can be told."""
    found = {path: guess_encoding(path) for path in source.paths if path.suffix != ".parquet"}
    return {path: guess for path, guess in found.items() if guess is not None}


def load_examples(source: Source) -> tuple[dict[str, list[Example]], dict[str, list[int]]]:
    """Examples by split, and by split the numbers of the empty rows left out.

    Raises:
        UserError: `bad_data`, naming file, row and what is wrong with it.
    """
    examples: dict[str, list[Example]] = {}
    empty: dict[str, list[int]] = {}
    for one in read_examples(source):
        if one.fault is not None:
            raise one.fault
        if one.example is None:
            empty.setdefault(one.split, []).append(one.row.number)
        else:
            examples.setdefault(one.split, []).append(one.example)
    if not examples.get("train"):
        raise no_rows(source)
    return examples, empty


def check_examples(source: Source) -> None:
    """Every row of DATA can be read, and one of the training rows holds something.

    Raises:
        UserError: `bad_data`, naming file, row and what is wrong with it.
    """
    something = False
    for one in read_examples(source):
        if one.fault is not None:
            raise one.fault
        something = something or (one.split == "train" and one.example is not None)
    if not something:
        raise no_rows(source)


def check_beginnings(source: Source) -> None:
    """What the first row of every split already tells: a file that is none of the kind it says.

    Parquet is left to those who read it: pyarrow takes longer to load than all else here.

    Raises:
        UserError: `bad_data`.
    """
    for paths in source.files.values():
        if paths[0].suffix.lower() != ".parquet":
            next(read_rows(paths[0], may_be_empty=True), None)


def no_rows(source: Source) -> UserError:
    """There is nothing to learn in any row."""
    fix = "choose a file with text and answers in it"
    return UserError("bad_data", source.name, "every row is empty", fix)


def _found(split: str, row: Row, source: Source) -> Found:
    if row.fault is not None:
        return Found(split, row, "", None, row.fault)
    form = "document" if row.document else form_of(row.value, source.columns)
    try:
        return Found(split, row, form, read_example(row, form, source.columns))
    except UserError as error:
        return Found(split, row, form, None, error)
