"""All examples of DATA, checked row by row before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_lora.data.formats import read_example
from mlx_lora.data.reading import Source, read_rows
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from mlx_lora.data.formats import Example


def load_examples(source: Source) -> tuple[dict[str, list[Example]], dict[str, list[int]]]:
    """Examples by split, and the numbers of the empty rows left out.

    Raises:
        UserError: `bad_data`, naming file, row and what is wrong with it.
    """
    examples: dict[str, list[Example]] = {}
    empty: dict[str, list[int]] = {}
    for split, path in source.files.items():
        for row in read_rows(path, may_be_empty=split != "train"):
            example = read_example(row, path.name)
            if example is None:
                empty.setdefault(path.name, []).append(row.number)
            else:
                examples.setdefault(split, []).append(example)
    if not examples.get("train"):
        fix = "choose a file with text and answers in it"
        raise UserError("bad_data", source.name, "every row is empty", fix)
    return examples, empty
