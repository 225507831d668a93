"""What can be found wrong before a worker starts, and a run's record. No mlx here."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlx_lora import __version__
from mlx_lora.data.examples import load_examples
from mlx_lora.data.reading import find_source
from mlx_lora.models.description import check_against_weights, read_description
from mlx_lora.models.fingerprint import fingerprint
from mlx_lora.models.library import find_model, model_name
from mlx_lora.models.tensors import read_headers, weight_files
from mlx_lora.runs import RunRecord
from mlx_lora.storage import show

if TYPE_CHECKING:
    from mlx_lora.config import RunConfig


def make_record(config: RunConfig, root: Path) -> tuple[RunRecord, str]:
    """(record, a name for the run) of a configuration whose model and data are there and can be
    read.

    Raises:
        UserError: whatever is wrong with them.
    """
    source = find_source(config.data.source, root)
    load_examples(source)
    folder = find_model(config.model.source)
    description = read_description(folder)
    tensors = read_headers(weight_files(folder))
    check_against_weights(folder, description, tensors)
    name = model_name(config.model.source)
    settled = msgspec.structs.replace(
        config,
        model=msgspec.structs.replace(config.model, source=_settled(config.model.source)),
        data=msgspec.structs.replace(config.data, source=_settled(config.data.source)),
    )
    record = RunRecord(
        config=settled,
        versions=_versions(),
        data_sha256=source.sha256(),
        base_fingerprint=fingerprint(folder, tensors, config.model.bits),
        model_name=name,
    )
    return record, f"{name.rpartition('/')[2]}-{source.name}"


def _settled(source: str) -> str:
    """A path that means the same from any folder; names stay names."""
    path = Path(source).expanduser()
    return (
        show(path.resolve())
        if source not in {"demo", "tiny-shakespeare"} and path.exists()
        else source
    )


def _versions() -> dict[str, str]:
    packages = {
        name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "numpy", "tokenizers")
    }
    return {"understudy": __version__, "python": platform.python_version(), **packages}
