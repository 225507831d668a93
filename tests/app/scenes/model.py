"""Choosing a model: nothing chosen, chosen, not here, damaged, too large, searched, read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import msgspec

from app.pages.model import ModelPage
from mlx_lora.machine import Machine
from mlx_lora.models.catalog import catalog, find_entry
from mlx_lora.models.shape import Shape, layer_linears

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.application import Application
    from mlx_lora.models.catalog import Entry

SMALL = Machine("Apple M1", 8 * 10**9, 5_300_000_000, True)


def put_model(folder: Path, shape: Shape, bits: int) -> Path:
    """A model folder whose files are as large as real ones, and hold nothing."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "model_type": shape.family, "hidden_size": shape.hidden, "vocab_size": shape.vocabulary,
        "num_hidden_layers": shape.layers, "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim, "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
    }  # fmt: skip
    if bits < 16:
        config["quantization"] = {"group_size": 64, "bits": bits}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    matrices = {"model.embed_tokens": (shape.vocabulary, shape.hidden)} | {
        f"model.layers.{layer}.{name}": extent
        for layer in range(shape.layers)
        for name, extent in layer_linears(shape).items()
    }
    header, at = dict[str, Any](), 0
    for name, (rows, width) in matrices.items():
        for part, kind, wide, each in _parts(width, bits):
            end = at + rows * wide * each
            header[f"{name}.{part}"] = {
                "dtype": kind, "shape": [rows, wide], "data_offsets": [at, end],
            }  # fmt: skip
            at = end
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return folder


def put_cached(hub: Path, entry: Entry) -> None:
    """A model of the catalogue in a Hugging Face cache."""
    repository = hub / f"models--{entry.source.replace('/', '--')}"
    put_model(repository / "snapshots" / "abc", entry.shape, entry.bits)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")


def hub_of(application: Application, *titles: str) -> Path:
    """A cache with these models of the catalogue; the only one the scene's window knows."""
    hub = application.runs.root / "hub"
    hub.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HUB_CACHE"] = str(hub)
    for entry in catalog():
        if entry.title in titles:
            put_cached(hub, entry)
    return hub


def _parts(width: int, bits: int) -> list[tuple[str, str, int, int]]:
    """(name, dtype, columns, bytes each) of a matrix's tensors."""
    if bits >= 16:
        return [("weight", "BF16" if bits == 16 else "F32", width, bits // 8)]
    packed = [("weight", "U32", width * bits // 32, 4)]
    return [*packed, *((part, "BF16", width // 64, 2) for part in ("scales", "biases"))]


def _page(application: Application, *titles: str) -> ModelPage:
    hub_of(application, *titles)
    application.project.update(name="Support Tickets")
    application.window.go("model")
    application.tasks.wait()
    page = application.window.page
    assert isinstance(page, ModelPage)
    return page


def _settle(application: Application) -> None:
    from PySide6.QtWidgets import QApplication

    application.tasks.wait()
    QApplication.processEvents()


def _first(application: Application) -> None:
    _page(application)


def _chosen(application: Application) -> None:
    page = _page(application, "Llama 3.2 1B", "Qwen3 4B", "SmolLM2 360M")
    _settle(application)
    page.choose("mlx-community/Llama-3.2-1B-Instruct-4bit")


def _all(application: Application) -> None:
    page = _page(application, "Llama 3.2 1B", "Qwen3 4B")
    page.search.choose("all")


def _absent(application: Application) -> None:
    page = _page(application, "Llama 3.2 1B")
    _settle(application)
    page.choose("mlx-community/gemma-3-1b-it-4bit")


def _mine(application: Application) -> None:
    folder = application.runs.root / "models"
    entry = find_entry("mlx-community/SmolLM2-360M-Instruct")
    assert entry is not None
    put_model(folder / "letters-360m", entry.shape, 16)
    put_model(folder / "half-a-model", entry.shape, 16)
    weights = folder / "half-a-model" / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(100_000_000)
    application.settings.update(models_folder=str(folder))
    page = _page(application, "Qwen3 0.6B")
    page.search.choose("here")


def _damaged(application: Application) -> None:
    _mine(application)
    _settle(application)
    page = application.window.page
    assert isinstance(page, ModelPage)
    page.choose(next(o.source for o in page.models.offers if o.problem is not None))
    page.banner.more.hide()  # Details names this machine's folders


def _small(application: Application) -> None:
    """A machine of 8 GB, and a float base that fits at 4 bits only."""
    application.desk = msgspec.structs.replace(application.desk, machine=SMALL)
    folder = application.runs.root / "models"
    entry = find_entry("mlx-community/Qwen3-1.7B-4bit")
    assert entry is not None
    shape = entry.shape
    put_model(folder / "qwen-1.7b-full", shape, 16)
    application.settings.update(models_folder=str(folder))
    application.window.pages.clear()
    page = _page(application, "Llama 3.2 1B", "Qwen3 4B")
    page.search.choose("all")


def _nothing(application: Application) -> None:
    page = _page(application)
    page.search.field.setText("mistral large")


def _loading(application: Application) -> None:
    page = _page(application)
    page.show_loading("Reading the model’s files…", lambda: None)
    page._views.setCurrentWidget(page._waiting)


def _lost(application: Application) -> None:
    from app.project import ModelChoice

    application.project.update(model=ModelChoice("maker/gone-1b", "gone-1b", "4-bit"))
    page = _page(application, "Llama 3.2 1B")
    _settle(application)
    page.banner.more.hide()


SCENES: dict[str, Callable[[Application], None]] = {
    "model-first": _first,
    "model-chosen": _chosen,
    "model-all": _all,
    "model-absent": _absent,
    "model-here": _mine,
    "model-damaged": _damaged,
    "model-small-machine": _small,
    "model-nothing-found": _nothing,
    "model-loading": _loading,
    "model-lost": _lost,
}
