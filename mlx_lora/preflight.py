"""What can be found wrong before a worker starts, and a run's record. No mlx here."""

from __future__ import annotations

import platform
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora import __version__
from mlx_lora.config import GROUPS, no_such_target, too_many_layers
from mlx_lora.data.examples import check_examples
from mlx_lora.data.source import find_source
from mlx_lora.models.description import core_description
from mlx_lora.models.fingerprint import fingerprint
from mlx_lora.models.library import check_model, model_name
from mlx_lora.runs import RunRecord
from mlx_lora.storage import expanded, show

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.config import AdapterConfig, DataConfig, RunConfig
    from mlx_lora.data.source import Source
    from mlx_lora.models.tensors import TensorInfo

# families whose definition in mlx-lm names its linears as the tensors in the file are named
_NAMES_KEPT = {
    "gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3",
}  # fmt: skip
_INNER, _WEIGHT = re.compile(r"^.*?\blayers\.\d+\."), ".weight"


def make_record(config: RunConfig, root: Path) -> tuple[RunRecord, str]:
    """(record, a name for the run) of a configuration whose model and data can be read.

    Raises:
        UserError: whatever is wrong with them.
    """
    source = check_data(config.data, root)
    folder, description, tensors = check_model(config.model.source)
    _check_adapter(config.adapter, core_description(description), tensors)
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
        created=time.strftime("%Y-%m-%d"),
    )
    return record, f"{name.rpartition('/')[2]}-{source.name}"


def check_data(data: DataConfig, root: Path) -> Source:
    """The files DATA names, each row of them read.

    Raises:
        UserError: `no_such_data`, `bad_data`, `network`.
    """
    source = find_source(data, root)
    check_examples(source)
    return source


def _check_adapter(
    config: AdapterConfig, core: dict[str, Any], tensors: dict[str, TensorInfo]
) -> None:
    """What can be said of `--layers` and `--targets` from the tables of contents alone."""
    if config.layers != "all" and config.layers > core["num_hidden_layers"]:
        raise too_many_layers(config.layers, core["num_hidden_layers"])
    if core["model_type"] not in _NAMES_KEPT:
        return
    matrices = [n for n, info in tensors.items() if info.shape[1:] and n.endswith(_WEIGHT)]
    names = {_INNER.sub("", n).removesuffix(_WEIGHT) for n in matrices if "embed_tok" not in n}
    for target in config.targets:
        if target not in GROUPS and not any(f".{name}".endswith(f".{target}") for name in names):
            raise no_such_target(target, names)


def _settled(source: str) -> str:
    """A path that means the same from any folder; names stay names."""
    path = expanded(source)
    return (
        show(path.resolve())
        if source not in {"demo", "tiny-shakespeare"} and path.exists()
        else source
    )


def _versions() -> dict[str, str]:
    import importlib.metadata

    packages = {
        name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "numpy", "tokenizers")
    }
    return {"understudy": __version__, "python": platform.python_version(), **packages}
