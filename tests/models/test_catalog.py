"""The catalogue: typed, complete, and its figures follow from its shapes."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from mlx_lora.models.catalog import Catalog, Entry, catalog, find_entry, stored_bytes
from mlx_lora.models.library import assets
from mlx_lora.models.shape import parameters, shape_of

# as their makers publish them
PUBLISHED = {
    "Gemma 3 270M": 268_098_176, "Gemma 3 1B": 999_885_952, "Llama 3.2 1B": 1_235_814_400,
    "Llama 3.2 3B": 3_212_749_824, "Qwen3 0.6B": 596_049_920, "Qwen3 1.7B": 1_720_574_976,
    "Qwen3 4B": 4_022_468_096, "SmolLM2 135M": 134_515_008, "SmolLM2 360M": 361_821_120,
    "SmolLM2 1.7B": 1_711_376_384,
}  # fmt: skip
ENTRIES = [pytest.param(entry, id=entry.title) for entry in catalog()]


def test_holds_every_model_once_the_demo_first() -> None:
    assert catalog()[0].source == "demo"
    assert {entry.title for entry in catalog()} == {"Storybook", *PUBLISHED}
    assert len({entry.source for entry in catalog()}) == len(catalog())


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_complete(entry: Entry) -> None:
    assert entry.parameters == parameters(entry.shape)
    assert entry.parameters == PUBLISHED.get(entry.title, 3_410_176)
    assert entry.title
    assert entry.maker
    assert entry.licence
    assert entry.use.endswith(".")
    assert len(entry.use) <= 80
    assert entry.bits in {4, 16}
    assert entry.shape.heads % entry.shape.kv_heads == 0
    if entry.source != "demo":
        assert re.fullmatch(r"mlx-community/[\w.-]+", entry.source)
        assert (
            entry.download == entry.size == stored_bytes(entry.shape, entry.parameters, entry.bits)
        )
    assert entry.accept == (not entry.licence.startswith("Apache"))


def test_the_demo_is_described_as_it_is() -> None:
    demo = find_entry("demo")
    assert demo is not None
    config = json.loads((assets() / "demo" / "model" / "config.json").read_text())
    assert demo.shape == shape_of(config)
    files = (assets() / "demo" / "model" / "model.safetensors").stat().st_size
    assert 0 < files - demo.size < 10_000  # the table of contents


def test_an_unknown_field_is_refused() -> None:
    content = json.loads((assets() / "model_catalog.json").read_text())
    content["models"][0]["licens"] = "typo"
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(content).encode(), type=Catalog)


def test_four_bit_bytes_by_hand() -> None:
    demo = find_entry("demo")
    assert demo is not None
    matrices = 4096 * 256 + 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256)
    norms = 4 * 2 * 256 + 256
    assert stored_bytes(demo.shape, demo.parameters, 4) == matrices * 4.5 / 8 + norms * 2
