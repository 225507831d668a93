"""config.json as foreign input: every fault in words, before anything is built from it."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_lora.errors import UserError
from mlx_lora.models.definitions import known_types, model_classes
from mlx_lora.models.description import check_against_weights, core_description, read_description
from mlx_lora.models.tensors import TensorInfo

GOOD: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 272,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}


def read(folder: Path, **changes: Any) -> dict[str, Any]:
    config = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return read_description(folder)


def refused(folder: Path, **changes: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        read(folder, **changes)
    assert caught.value.code == "bad_model"
    assert caught.value.where.endswith("config.json")
    return caught.value


def test_a_good_one_is_read_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path) == {**GOOD, "stop_token_ids": []}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": [64]}, "hidden_size is [64]"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000"),
        ({"num_hidden_layers": ...}, "num_hidden_layers is missing"),
        ({"vocab_size": 10**12}, "vocab_size is"),
        ({"vocab_size": ...}, "vocab_size is missing"),
        ({"vocab_size": 2**70}, "vocab_size is"),
        ({"num_attention_heads": 5}, "no multiple of num_key_value_heads"),
        (
            {"num_attention_heads": 6, "num_key_value_heads": 3},
            "no multiple of num_attention_heads",
        ),
        ({"num_key_value_heads": 3}, "no multiple of num_key_value_heads"),
        ({"head_dim": 10**6}, "head_dim is"),
        ({"intermediate_size": -5}, "intermediate_size is -5"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"rope_theta": float("nan")}, "JSON"),
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"rope_theta": -1.0}, "rope_theta is -1.0"),
        ({"rope_theta": "10000"}, "rope_theta is '10000'"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"model_type": "../../x"}, "model_type is no name"),
        ({"model_type": "llama.py"}, "model_type is no name"),
        ({"model_type": "x" * 99}, "model_type is no name"),
        ({"model_type": ["llama"]}, "model_type is no name"),
        ({"model_type": ...}, "model_type is missing"),
        ({"model_file": "model.py"}, "Python code"),
        ({"model_file": "../../x.py"}, "Python code"),
        ({"auto_map": {"AutoModel": "modeling.X"}}, "Python code"),
        ({"text_config": 5}, "text_config is no group"),
        ({"text_config": {**GOOD, "hidden_size": 10**9}}, "hidden_size is"),
        ({"text_config": GOOD, "model_type": "../x"}, "model_type is no name"),
        ({"text_config": GOOD, "model_type": ...}, "model_type is missing"),
        ({"text_config": GOOD, "model_type": ["x"]}, "model_type is no name"),
        ({"rope_theta": ..., "rope_parameters": {"rope_type": "default"}}, "no rope_theta"),
        ({"rope_theta": ..., "rope_parameters": {"rope_theta": -1}}, "no rope_theta"),
        ({"rope_theta": ..., "rope_parameters": {"rope_theta": True}}, "no rope_theta"),
        ({"rope_parameters": 5}, "rope_parameters is no group"),
        ({"rope_theta": ..., "rope_parameters": {"full_attention": 5}}, "is no group"),
        ({"rope_theta": ..., "rope_parameters": {"full_attention": {}}}, "has no rope_theta"),
    ],
)
def test_a_fault_is_said_with_its_value(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in refused(tmp_path, **changes).why


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b'{"a": 1e999}', b"\xff\xfe{", b"[" * 99999]
)
def test_no_json_object(tmp_path: Path, content: bytes) -> None:
    for name in ("config.json", "generation_config.json"):
        (tmp_path / "config.json").write_text(json.dumps(GOOD))
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_description(tmp_path)
        assert caught.value.code == "bad_model"
        assert caught.value.where.endswith(name)


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_description(tmp_path)
    assert "no config.json" in caught.value.why


def test_stop_tokens_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 3]}')
    assert read(tmp_path, eos_token_id=2)["stop_token_ids"] == [2, 3, 7]
    odd = read(tmp_path, eos_token_id=[True, "5", -1, None, 9])
    assert odd["stop_token_ids"] == [3, 7, 9]


def test_rope_of_transformers_5_becomes_that_of_before(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    new = read(tmp_path, rope_theta=..., rope_parameters={"rope_theta": 5e5, **scaling})
    assert new["rope_theta"] == 5e5
    assert new["rope_scaling"] == {**scaling, "type": "llama3"}
    plain = read(
        tmp_path, rope_theta=..., rope_parameters={"rope_theta": 5e5, "rope_type": "default"}
    )
    assert plain["rope_theta"] == 5e5
    assert "rope_scaling" not in plain
    part = {"rope_theta": 5e5, "rope_type": "default", "partial_rotary_factor": 0.5}
    assert read(tmp_path, rope_theta=..., rope_parameters=part)["partial_rotary_factor"] == 0.5
    both = read(tmp_path, rope_parameters={"rope_theta": 5e5})
    assert both["rope_theta"] == 10000.0
    layered = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    gemma = read(tmp_path, rope_theta=..., rope_parameters=layered)
    assert (gemma["rope_theta"], gemma["rope_local_base_freq"]) == (1e6, 1e4)
    assert gemma["rope_scaling"] == {"rope_type": "linear", "factor": 8.0, "type": "linear"}


def embedding(rows: int, *layers: int) -> dict[str, TensorInfo]:
    names = ["model.embed_tokens.weight", *(f"model.layers.{n}.mlp.up_proj.weight" for n in layers)]
    return {name: TensorInfo(Path("x"), "F32", (rows, 64), 0, 1) for name in names}


def test_sizes_against_the_weights(tmp_path: Path) -> None:
    description = read(tmp_path)
    check_against_weights(tmp_path, description, embedding(272, 0, 1))
    with pytest.raises(UserError) as caught:
        check_against_weights(tmp_path, description, embedding(300, 0, 1))
    assert "vocab_size is 272, but the weights hold 300" in caught.value.why
    with pytest.raises(UserError) as caught:
        check_against_weights(tmp_path, description, embedding(272, 0))
    assert "num_hidden_layers is 2, but the weights hold 1" in caught.value.why


def test_a_vocabulary_left_out_of_a_text_config_is_the_weights(tmp_path: Path) -> None:
    """As in google/gemma-3-4b-it."""
    text = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 2}
    description = read(tmp_path, text_config=text, model_type="gemma3", vocab_size=...)
    check_against_weights(tmp_path, description, embedding(300, 0, 1))
    assert core_description(description)["vocab_size"] == 300
    with pytest.raises(UserError):
        check_against_weights(tmp_path, read(tmp_path, text_config=dict(text), vocab_size=...), {})


def test_every_known_type_has_a_definition() -> None:
    import importlib.util

    found = importlib.util.find_spec("mlx_lm")
    assert found is not None
    places = [Path(place, "models") for place in found.submodule_search_locations or ()]
    shared = {"mistral", "iquestcoder", "xverse"}
    for name in known_types() - shared:
        source = next(p / f"{name}.py" for p in places if (p / f"{name}.py").is_file())
        text = source.read_text(encoding="utf-8")
        assert re.search(r"\bModel\b", text), name
        assert "ModelArgs" in text, name
    assert {"llama", "mistral", "gemma3_text", "qwen3", "phi3", "smollm3"} <= known_types()


@pytest.mark.parametrize(
    "name", ["nothing", "base", "cache", "rope_utils", "__init__", "bitlinear_layers"]
)
def test_an_unknown_type_is_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        model_classes(name)
    assert caught.value.code == "unsupported_model"


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(["rope_theta", "rope_type", "full_attention", "model_type", "vocab_size"]),
        inner,
        max_size=3,
    ),
    max_leaves=5,
)  # fmt: skip


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(
        st.sampled_from(
            [*GOOD, "head_dim", "text_config", "rope_parameters", "rope_scaling", "eos_token_id"]
        ),
        _VALUE,
        max_size=3,
    )
)
def test_nothing_but_user_errors_escapes(tmp_path: Path, changes: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):
        read(tmp_path, **changes)
