"""Options that say how rows are read and put to the model, shared by every command with DATA."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_lora.cli.display import print_progress
from mlx_lora.cli.options import option
from mlx_lora.config import DataConfig
from mlx_lora.data.hub import fetch_dataset, needs_fetch
from mlx_lora.errors import UserError

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="a file, a folder, a Hugging Face dataset id, sample:NAME, tiny-shakespeare, or demo",
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FIELD=COLUMN", help="which column is text, prompt, completion, system"
    ),
]
LongRows = Annotated[str | None, option("data.long_rows", "--long-rows")]
Overlap = Annotated[int | None, option("data.overlap", "--overlap")]
Template = Annotated[str | None, option("data.template", "--template")]
Subset = Annotated[str | None, option("data.subset", "--subset")]
Split = Annotated[str | None, option("data.split", "--split")]
ValFraction = Annotated[float | None, option("data.val_fraction", "--val-fraction")]


def rows_settings(
    mapping: list[str] | None,
    long_rows: str | None,
    overlap: int | None,
    template: str | None,
    subset: str | None,
    split: str | None,
) -> dict[str, Any]:
    """The fields of `DataConfig` that these options give; None where one is not given.

    Raises:
        UserError: `bad_option` for a --map without an equals sign.
    """
    columns = {}
    for pair in mapping or ():
        field, sign, column = pair.partition("=")
        if not sign or not field.strip() or not column.strip():
            why, fix = "it names no field and column", "write it as --map prompt=question"
            raise UserError("bad_option", f"--map {pair}", why, fix)
        columns[field.strip()] = column.strip()
    given = {
        "columns": columns or None, "long_rows": long_rows, "overlap": overlap,
        "template": template, "subset": subset, "split": split,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def fetch(data: DataConfig, root: Path) -> None:
    """Bring a Hugging Face dataset to this machine, saying how far it is.

    Raises:
        UserError: `network`, `no_such_data`, `no_access`, or what the storage refuses.
    """
    if needs_fetch(data, root):
        for phase in fetch_dataset(data, root):
            print_progress(phase.name, phase.done, phase.total)
