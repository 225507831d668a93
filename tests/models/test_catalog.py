"""The catalogue: typed, complete, and its figures follow from its shapes."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from mlx_lora.config import AdapterConfig
from mlx_lora.models.catalog import (
    Catalog,
    Entry,
    catalog,
    find_entry,
    find_variant,
    open_twin,
    stored_bytes,
)
from mlx_lora.models.library import assets
from mlx_lora.models.shape import (
    Shape,
    adapter_parameters,
    expert_numbers,
    matrix_numbers,
    parameters,
    shape_of,
    token_numbers,
)

# as their makers publish them; 4B without the part that sees pictures
PUBLISHED = {
    "Gemma 3 270M": 268_098_176, "Gemma 3 1B": 999_885_952, "Gemma 3 4B": 3_880_263_168,
    "Llama 3.2 1B": 1_235_814_400, "Llama 3.2 3B": 3_212_749_824, "Qwen3 0.6B": 596_049_920,
    "Qwen3 1.7B": 1_720_574_976, "Qwen3 4B": 4_022_468_096, "SmolLM2 135M": 134_515_008,
    "SmolLM2 360M": 361_821_120, "SmolLM2 1.7B": 1_711_376_384, "Phi-4-mini": 3_836_021_760,
    "GPT-OSS 20B": 20_914_757_184,
}  # fmt: skip
ENTRIES = [pytest.param(entry, id=entry.title) for entry in catalog()]
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def entry_of(title: str) -> Entry:
    return next(entry for entry in catalog() if entry.title == title)


def test_holds_every_model_once_the_demo_first() -> None:
    assert catalog()[0].source == "demo"
    assert {entry.title for entry in catalog()} == {"Storybook", *PUBLISHED}
    assert len({entry.source for entry in catalog()}) == len(catalog())


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_complete(entry: Entry) -> None:
    stated = PUBLISHED.get(entry.title, 3_410_176)
    assert abs(parameters(entry.shape) - stated) <= 0.005 * stated
    assert entry.parameters == parameters(entry.shape) == stated
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
    assert entry.accept == (not entry.licence.startswith(("Apache", "MIT")))


@pytest.mark.parametrize("entry", ENTRIES)
def test_repositories_are_named_for_what_they_hold(entry: Entry) -> None:
    known = entry.repositories
    if entry.source == "demo":
        assert not known.bits()
        return
    assert known.bits()[entry.source] == entry.bits
    assert all(REPOSITORY.fullmatch(name) for name in known.bits())
    for name in (known.bits4, known.bits8, known.bf16):
        assert not name or name.startswith("mlx-community/")
    assert known.original
    assert not known.original.startswith("mlx-community/")
    assert not known.bits4 or known.bits4.endswith(("-4bit", "-Q4"))
    assert not known.bits8 or known.bits8.endswith(("-8bit", "-Q8"))
    assert not known.bf16 or known.bf16.endswith(("-bf16", "-Instruct"))


def test_no_repository_is_named_twice() -> None:
    names = [name for entry in catalog() for name in entry.repositories.bits()]
    assert len(set(names)) == len(names)


def test_a_variant_is_the_entry_in_its_own_precision() -> None:
    entry = entry_of("Qwen3 1.7B")
    found = find_variant("mlx-community/Qwen3-1.7B-8bit")
    assert found is not None
    assert (found.source, found.bits) == ("mlx-community/Qwen3-1.7B-8bit", 8)
    assert found.download == found.size
    assert found.shape == entry.shape
    assert 1.8 < found.download / entry.download < 2
    assert find_variant(entry.source) == entry
    assert find_variant("") is None
    assert find_variant("mlx-community/no-such-model") is None


def test_a_repository_behind_a_licence_has_an_open_twin() -> None:
    for entry in catalog():
        if entry.accept:
            assert open_twin(entry.repositories.original) in entry.repositories.bits()
    assert open_twin("google/gemma-3-1b-it") == "mlx-community/gemma-3-1b-it-bf16"
    assert open_twin("google/gemma-3-4b-it") == "mlx-community/gemma-3-text-4b-it-4bit"
    assert not open_twin("")
    assert not open_twin("mlx-community/gemma-3-1b-it-bf16")


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


# vocabulary 40, hidden 8, inner 6, 2 heads of 4, one key head, 3 experts of which 2 see a token
MIXED = Shape(
    family="gpt_oss", layers=2, hidden=8, intermediate=6, heads=2, kv_heads=1, head_dim=4,
    vocabulary=40, context=64, tied=False, experts=3, active=2,
)  # fmt: skip


def test_a_mixture_of_experts_by_hand() -> None:
    attention = 8 * 8 + 2 * 4 * 8 + 8 * 8
    experts = 3 * (6 * 8 + 6 * 8 + 8 * 6)
    assert matrix_numbers(MIXED) == 2 * 40 * 8 + 2 * (attention + 3 * 8 + experts)
    assert expert_numbers(MIXED) == 2 * experts
    assert token_numbers(MIXED) == attention + 3 * 8 + 2 * (6 * 8 + 6 * 8 + 8 * 6)
    biases = 8 + 4 + 4 + 8 + 3 + 3 * (6 + 6 + 8)
    assert parameters(MIXED) == matrix_numbers(MIXED) + 2 * (biases + 2 + 2 * 8) + 8
    rest = parameters(MIXED) - 2 * experts
    packed = matrix_numbers(MIXED) - 2 * experts
    wanted = 2 * experts * 4.25 / 8 + packed * 8.5 / 8 + (rest - packed) * 2
    assert stored_bytes(MIXED, parameters(MIXED), 8) == wanted
    assert stored_bytes(MIXED, parameters(MIXED), 16) == 2 * experts * 4.25 / 8 + rest * 2


def test_an_adapter_on_experts_by_hand() -> None:
    def count(*targets: str, **changes: int) -> int:
        return adapter_parameters(MIXED, AdapterConfig(rank=5, targets=targets, **changes))

    experts = 3 * ((6 + 8) + (6 + 8) + (8 + 6))
    attention = (8 + 8) + 2 * (4 + 8) + (8 + 8)
    assert count("attention") == 5 * 2 * attention
    assert count("mlp") == 5 * 2 * experts
    assert count("all", layers=1) == 5 * (attention + experts)
    assert count("router") == 5 * 2 * (3 + 8)
    assert count("down_proj") == 5 * 2 * 3 * (8 + 6)
