"""Everything `ollama create` needs beside the merged GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlx_lora.export.modelfile import modelfile

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.export.source import Source

# settings of generation_config.json -> Ollama's names of them
_PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repeat_penalty",
}


def write_modelfile(
    folder: Path, source: Source, gguf_name: str, adapter_name: str | None = None
) -> None:
    """Put the Modelfile into an export; `adapter_name` for the older form with ADAPTER."""
    content = modelfile(
        source.tokenizer,
        gguf_name=gguf_name,
        adapter_name=adapter_name,
        parameters=_parameters(source.folder),
    )
    (folder / "Modelfile").write_text(content, encoding="utf-8")


def _parameters(base: Path) -> dict[str, float]:
    """How the base's makers want it sampled."""
    path = base / "generation_config.json"
    if not path.is_file():
        return {}
    found = msgspec.json.decode(path.read_bytes())
    return {
        theirs: found[ours]
        for ours, theirs in _PARAMETERS.items()
        if isinstance(found.get(ours), int | float) and not isinstance(found[ours], bool)
    }
