"""One tree of settings: rules beside fields, words for what is wrong, TOML and back."""

from __future__ import annotations

import math
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from mlx_lora.config import (
    PRESETS,
    AdapterConfig,
    RunConfig,
    build_config,
    merge,
    rules,
)
from mlx_lora.errors import UserError
from mlx_lora.generation.settings import Sampling
from mlx_lora.runs import Run, RunRecord, RunStore

if TYPE_CHECKING:
    from pathlib import Path

_BASE: dict[str, Any] = {"model": {"source": "demo"}, "data": {"source": "demo"}}
_GROUPS = {field.name: field.type for field in msgspec.structs.fields(RunConfig)}


def _config(**changes: Any) -> RunConfig:
    return build_config(merge(_BASE, changes))


@pytest.mark.parametrize("struct", [*_GROUPS.values(), Sampling])
def test_every_field_has_a_rule_and_help(struct: type[msgspec.Struct]) -> None:
    found = rules(struct)
    assert list(found) == list(struct.__struct_fields__)
    for name, rule in found.items():
        assert len(rule.help) > 8, name
        assert not rule.help.endswith("."), name


@pytest.mark.parametrize("struct", [*_GROUPS.values(), Sampling])
def test_every_number_has_both_limits(struct: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(struct):
        rule = rules(struct)[field.name]
        value = field.default
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert rule.low is not None, field.name
            assert rule.high is not None, field.name
            assert rule.low <= value <= rule.high


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build(preset: str) -> None:
    config = build_config(merge(_BASE, PRESETS[preset]))
    assert config.model.source == "demo"
    for group, values in PRESETS[preset].items():
        for name, value in values.items():
            assert getattr(getattr(config, group), name) == value


def test_presets_state_differences_only() -> None:
    plain = msgspec.to_builtins(_config())
    for values in PRESETS.values():
        for group, changes in values.items():
            assert all(plain[group].get(name) != value for name, value in changes.items())


def test_defaults_of_the_contract() -> None:
    config = _config()
    assert (config.adapter.rank, config.adapter.strength, config.adapter.scale) == (8, 16.0, 2.0)
    assert (config.adapter.targets, config.adapter.layers) == (("all",), "all")
    assert (config.training.learning_rate, config.training.epochs) == (1e-4, 3.0)
    assert AdapterConfig(rank=4, alpha=2.0).scale == 0.5


def test_merge_leaves_its_arguments_alone() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    changes = {"a": {"y": 5}, "c": {"z": 1}}
    assert merge(base, changes) == {"a": {"x": 1, "y": 5}, "b": 3, "c": {"z": 1}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge({"a": 1}, {"a": {"x": 2}}) == {"a": {"x": 2}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"training": {"learning_rat": 1}},
            ["training.learning_rat", "did you mean learning_rate?"],
        ),
        ({"adaptor": {}}, ["adaptor", "did you mean adapter?"]),
        ({"training": {"zzz": 1}}, ["training.zzz", "known here", "batch_size"]),
        ({"training": 5}, ["training", "group of settings"]),
        (
            {"training": {"batch_size": -2}},
            ["training.batch_size", "-2", "at least 1 and at most 4,096"],
        ),
        ({"training": {"learning_rate": 0.0}}, ["training.learning_rate", "more than 0"]),
        ({"training": {"learning_rate": math.nan}}, ["training.learning_rate", "nan"]),
        ({"adapter": {"alpha": math.inf}}, ["adapter.alpha", "inf"]),
        ({"adapter": {"alpha": -math.inf}}, ["adapter.alpha", "-inf"]),
        ({"adapter": {"rank": 8.5}}, ["adapter.rank", "whole number"]),
        ({"adapter": {"layers": "most"}}, ["adapter.layers", "a whole number or all"]),
        ({"model": {"bits": "3"}}, ["model.bits", "keep, 4, 6, 8, 16 or 32"]),
        ({"adapter": {"targets": "all"}}, ["adapter.targets", "a list of texts"]),
        ({"adapter": {"targets": [""]}}, ["adapter.targets", "attention, mlp, all"]),
        ({"training": {"grad_checkpoint": 1}}, ["training.grad_checkpoint", "true or false"]),
        ({"model": {"source": ""}}, ["model.source", "empty"]),
        ({"training": {"seed": 2**53 + 1}}, ["training.seed", "at most"]),
    ],
)
def test_words(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        _config(**changes)
    assert caught.value.code == "bad_option"
    for word in words:
        assert word in caught.value.line()


def test_what_must_be_there() -> None:
    for tree in ({}, {"model": {"source": "x"}}, {"model": {}, "data": {"source": "x"}}):
        with pytest.raises(UserError, match="required"):
            build_config(tree)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_names = st.sampled_from(
    sorted({n for t in _GROUPS.values() for n in t.__struct_fields__})
) | st.text(max_size=8)


@given(
    st.dictionaries(
        st.sampled_from(sorted(_GROUPS)) | st.text(max_size=6),
        _values | st.dictionaries(_names, _values, max_size=4),
        max_size=4,
    )
)
def test_nothing_but_a_user_error_escapes(tree: dict[str, Any]) -> None:
    for candidate in (tree, merge(_BASE, tree)):
        try:
            config = build_config(candidate)
        except UserError as error:
            refused = error
        else:
            assert build_config(msgspec.to_builtins(config)) == config
            continue
        assert refused.code == "bad_option"
        assert len(refused.line().splitlines()) == 1


def test_a_record_survives_toml(root: Path) -> None:
    config = _config(
        adapter={"alpha": 3.5, "targets": ["q_proj", "mlp"], "layers": 2},
        training={"steps": 7, "learning_rate": 1e-5, "grad_checkpoint": True},
        samples={"prompts": ['a "quoted"\nline', "\N{SNOWMAN} \\ tab\t", ""]},
    )
    record = RunRecord(
        config=config,
        versions={"understudy": "0.1.0", "mlx-lm": "1"},
        data_sha256="a" * 64,
        base_fingerprint="b" * 32,
        model_name="demo",
    )
    run = RunStore(root).create(record, "A name / with .. everything")
    assert run.record() == record
    assert Run(run.folder).record().config.training.eval_every is None
    tree = tomllib.loads((run.folder / "config.toml").read_text())
    assert build_config(tree["config"]) == config
    assert tomllib.loads(tomli_w.dumps(tree)) == tree
