"""The Modelfile beside a merged GGUF: what `ollama create` makes a model from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.export.source import Source


def write_modelfile(folder: Path, source: Source, gguf_name: str) -> None:
    """Put the Modelfile into an export."""
    raise NotImplementedError((folder, source, gguf_name))
