"""Presets for a model and its data: data with reasons, and never a silent change."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mlx_lora.config import PRESETS, build_config, merge
from mlx_lora.data.verdict import judge_size
from mlx_lora.models.catalog import catalog
from mlx_lora.models.defaults import Rules, preset_for, rules
from mlx_lora.models.library import assets

NAMES = ("quick", "balanced", "thorough")
SOURCES = {"model": {"source": "-"}, "data": {"source": "-"}}
ENTRIES = {entry.title: entry for entry in catalog()}


def changed(title: str, preset: str = "balanced", rows: int = 0, tokens: int = 0) -> dict[str, Any]:
    advice = preset_for(ENTRIES[title], rows, tokens, preset)
    return {change.place: change.value for change in advice.changes}


def test_every_rule_has_a_reason_and_a_source_that_is_named() -> None:
    assert len({rule.name for rule in rules().rules}) == len(rules().rules)
    for rule in rules().rules:
        assert rule.reason.endswith(".")
        assert rule.source in rules().sources
        assert rule.set.keys() <= set(NAMES)
        assert rule.set
        # a rate is somebody's word, never a guess
        rates = any("learning_rate" in tree.get("training", {}) for tree in rule.set.values())
        assert rule.source or not rates
    assert rules().sources.keys() == {rule.source for rule in rules().rules}
    assert all(where.startswith("https://") for name, where in rules().sources.items() if name)


@pytest.mark.parametrize("preset", NAMES)
@pytest.mark.parametrize("title", ENTRIES)
def test_what_is_advised_is_a_configuration(title: str, preset: str) -> None:
    for rows, tokens in ((0, 0), (20, 4_000), (500, 10_000), (3_000, 2_700_000), (90_000, 4 << 24)):
        advice = preset_for(ENTRIES[title], rows, tokens, preset)
        plain = build_config(merge(PRESETS[preset], SOURCES))
        made = build_config(merge(merge(PRESETS[preset], advice.tree), SOURCES))
        for change in advice.changes:
            group, _, field = change.place.partition(".")
            assert getattr(getattr(made, group), field) == change.value
            assert getattr(getattr(plain, group), field) != change.value
            assert change.reason.endswith(".")
        assert made.data.max_length <= max(plain.data.max_length, ENTRIES[title].shape.context)
        assert len({change.place for change in advice.changes}) == len(advice.changes)


def test_an_ordinary_model_with_ordinary_data_stays_as_the_preset_is() -> None:
    for title in ("Llama 3.2 1B", "Llama 3.2 3B", "Qwen3 1.7B", "Gemma 3 4B", "Phi-4-mini"):
        for preset in NAMES:
            assert changed(title, preset) == {}
            assert changed(title, preset, rows=300, tokens=300 * 120) == {}
    assert changed("SmolLM2 135M", "quick") == {}
    assert preset_for(ENTRIES["Storybook"], 10, 100, "demo").changes == ()


def test_rates_by_size() -> None:
    assert changed("SmolLM2 135M") == {"training.learning_rate": 2e-4}
    assert changed("Gemma 3 270M", "thorough") == {"training.learning_rate": 2e-4}
    assert changed("SmolLM2 1.7B") == {"training.learning_rate": 2e-4}
    assert changed("GPT-OSS 20B", "quick")["training.learning_rate"] == 1e-4


def test_experts_have_half_the_rank() -> None:
    assert changed("GPT-OSS 20B") == {"adapter.rank": 4}
    assert changed("GPT-OSS 20B", "thorough") == {"adapter.rank": 8}
    # what each of them holds is not what the whole does: never raised by the size of the data
    assert changed("GPT-OSS 20B", rows=300, tokens=30_000) == {"adapter.rank": 4}


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(0, 3.0), (49, 5.0), (50, 3.0), (999, 3.0), (1_000, 2.0), (19_999, 2.0), (20_000, 1.0)],
)
def test_rounds_by_rows(rows: int, epochs: float) -> None:
    found = changed("Llama 3.2 1B", rows=rows, tokens=rows * 100)
    assert found.get("training.epochs", 3.0) == epochs


def test_batch_and_length_by_the_length_of_rows() -> None:
    def found(mean: int, rows: int = 300) -> dict[str, Any]:
        return changed("Llama 3.2 1B", rows=rows, tokens=rows * mean)

    assert found(30) == {"training.batch_size": 8}
    assert found(30, rows=100) == {}
    assert found(450) == {"data.max_length": 1024}
    long = {"data.max_length": 2048, "training.batch_size": 2, "training.grad_accumulation": 2}
    assert found(900) == long


def test_no_row_is_longer_than_the_model_was_made_for() -> None:
    advice = preset_for(ENTRIES["Storybook"], 100, 100 * 900, "balanced")
    assert "data.max_length" not in advice.tree.get("data", {})  # 512 is the preset's already
    shape = msgspec.structs.replace(ENTRIES["Storybook"].shape, context=1024)
    length = next(
        change
        for change in preset_for(shape, 100, 100 * 900, "balanced").changes
        if change.place == "data.max_length"
    )
    assert length.value == 1024
    assert "made for 1,024" in length.reason


def test_the_rank_is_what_the_verdict_on_the_data_says() -> None:
    entry = ENTRIES["SmolLM2 135M"]
    rows, tokens = 30_000, 9_000_000
    said = judge_size(rows, tokens, running_text=False, shape=entry.shape)
    advice = preset_for(entry, rows, tokens, "balanced")
    found = {change.place: change for change in advice.changes}
    assert found["adapter.rank"].value == said["rank"] > 8
    assert found["adapter.rank"].reason == said["rank_text"]


def test_an_unknown_field_is_refused() -> None:
    content = json.loads((assets() / "model_defaults.json").read_text())
    content["rules"][0]["familys"] = ["llama"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(content).encode(), type=Rules)
