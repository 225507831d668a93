"""safetensors headers as foreign input."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_lora.errors import UserError
from mlx_lora.models.tensors import read_header, read_headers, read_metadata, weight_files

if TYPE_CHECKING:
    from pathlib import Path


def entry(start: int, end: int, shape: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def put(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def refused(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_header(path)
    assert caught.value.code == "damaged_model"
    assert caught.value.where.endswith(path.name)
    return caught.value


def test_a_good_file(tmp_path: Path) -> None:
    header = {
        "b": entry(8, 16, [2, 1]),
        "__metadata__": {"format": "mlx"},
        "a": entry(0, 8, [2, 2], "F16"),
        "none": entry(16, 16, [0, 5]),
        "one": entry(16, 20, []),
    }
    path = put(tmp_path / "model.safetensors", header, bytes(20))
    infos = read_header(path)
    assert {name: info.shape for name, info in infos.items()} == {
        "a": (2, 2),
        "b": (2, 1),
        "none": (0, 5),
        "one": (),
    }
    assert infos["b"].end - infos["b"].start == 8
    assert read_metadata(path) == {"format": "mlx"}
    assert read_metadata(put(tmp_path / "bare.safetensors", {})) == {}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry(0, 8, [2])}, 7, "cut short: "),
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12, "overlap"),
        ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, 8, "overlap"),
        ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20, "gaps"),
        ({"a": entry(4, 12, [2])}, 12, "gaps"),
        ({"a": entry(-8, 0, [2])}, 8, "table of contents"),
        ({"a": entry(0, 9, [2])}, 9, "table of contents"),
        ({"a": entry(8, 0, [2])}, 8, "table of contents"),
        ({"a": entry(0, 8, [-2])}, 8, "table of contents"),
        ({"a": entry(0, 8, [2.0])}, 8, "table of contents"),
        ({"a": entry(0, 8, "2")}, 8, "table of contents"),
        ({"a": entry(0, 8, None)}, 8, "table of contents"),
        ({"a": entry(0, 8, [2], "F33")}, 8, "table of contents"),
        ({"a": entry(0, 8, [2], "f32")}, 8, "table of contents"),
        ({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, 8, "table of contents"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]}}, 8, "table of"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, 8, "table of contents"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "table of contents"),
        ({"a": 5}, 8, "table of contents"),
        ({"a": entry(0, 2**70, [2**68])}, 8, "cut short"),
        ([], 0, "table of contents"),
        (5, 0, "table of contents"),
        (b"{", 0, "table of contents"),
        (b'{"a": "\xff"}', 0, "table of contents"),
        (b"[" * 99999, 0, "table of contents"),
        (b"", 0, "table of contents"),
    ],
)
def test_a_bad_table(tmp_path: Path, header: Any, data: int, words: str) -> None:
    assert words in refused(put(tmp_path / "model.safetensors", header, bytes(data))).why


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (b"\x10\x00", "cut short"),
        (struct.pack("<Q", 2**63), "cut short"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n  <html lang=en>", "web page"),
        (b"\x80\x04\x95" + bytes(40), "cut short or no safetensors"),
        (b"GGUF" + bytes(40), "cut short or no safetensors"),
    ],
)
def test_what_is_no_such_file_is_called_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert words in refused(path).why


def test_a_truncated_file_at_every_length(tmp_path: Path) -> None:
    path = put(tmp_path / "model.safetensors", {"a": entry(0, 8, [2])}, bytes(8))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    files = [put(tmp_path / f"{n}.safetensors", {"a": entry(0, 8, [2])}, bytes(8)) for n in (1, 2)]
    with pytest.raises(UserError) as caught:
        read_headers(files)
    assert "in two files" in caught.value.why


def index(folder: Path, content: Any) -> Path:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "model.safetensors.index.json").write_bytes(raw)
    return folder


def test_the_files_an_index_names(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "model-old.safetensors"):
        put(tmp_path / name, {})
    index(tmp_path, {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors"}})
    assert [path.name for path in weight_files(tmp_path)] == [
        "model-1.safetensors",
        "model-2.safetensors",
    ]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    put(tmp_path / "model-1.safetensors", {})
    index(tmp_path, {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    with pytest.raises(UserError) as caught:
        weight_files(tmp_path)
    assert caught.value.code == "missing_shard"
    assert caught.value.where.endswith("model-2.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        {"weight_map": {"a": "../model.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": "sub/model.safetensors"}},
        {"weight_map": {"a": ".."}},
        {"weight_map": {"a": ""}},
        {"weight_map": {"a": "x\x00y"}},
        {"weight_map": {"a": 5}},
        {"weight_map": {"a": 5, "b": "x"}},
        {"weight_map": {"a": ["x"]}},
        {"weight_map": {}},
        {"weight_map": []},
        {"weight_map": None},
        {},
        [],
        b"{",
        b"\xff\xfe",
        b"[" * 99999,
    ],
)
def test_a_bad_index(tmp_path: Path, content: Any) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    put(folder / "model.safetensors", {})
    put(tmp_path / "model.safetensors", {})
    with pytest.raises(UserError) as caught:
        weight_files(index(folder, content))
    assert caught.value.code in {"damaged_model", "missing_shard"}


def test_pickles_only(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError) as caught:
        weight_files(tmp_path)
    assert caught.value.code == "no_weights"
    assert "pytorch_model.bin is a pickle" in caught.value.why
    with pytest.raises(UserError) as caught:
        weight_files(tmp_path / "nowhere")
    assert caught.value.code == "no_weights"


_NUMBER = st.integers(-4, 40) | st.floats() | st.none() | st.booleans() | st.integers(2**62, 2**70)
_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "U8", "F64", "I4", ""]) | _NUMBER,
        "shape": st.lists(_NUMBER, max_size=3) | _NUMBER,
        "data_offsets": st.lists(_NUMBER, max_size=3) | _NUMBER,
    },
)


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__", ""]), _ENTRY | _NUMBER)
    | st.binary(max_size=60),
    data=st.binary(max_size=40),
    length=st.none() | st.integers(0, 2**64 - 1),
)
def test_nothing_but_user_errors_escapes(
    tmp_path: Path, header: Any, data: bytes, length: int | None
) -> None:
    path = put(tmp_path / "model.safetensors", header, data, length)
    with contextlib.suppress(UserError):
        for info in read_header(path).values():
            assert 0 <= info.start <= info.end <= path.stat().st_size
        read_metadata(path)
