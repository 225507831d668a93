"""A safetensors file in memory: read back by MLX, and what it was whatever is computed since."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import mlx.core as mx
import pytest

from mlx_lora.models.tensor_pieces import tensor_pieces
from mlx_lora.models.tensors import read_header, read_metadata
from mlx_lora.storage import write_pieces

if TYPE_CHECKING:
    from pathlib import Path

TYPES = [
    *(mx.bool_, mx.uint8, mx.int8, mx.uint16, mx.int16, mx.float16, mx.bfloat16),
    *(mx.uint32, mx.int32, mx.float32, mx.uint64, mx.int64),
]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4)])
def test_mlx_reads_back_every_type(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensors = {str(kind): (mx.random.normal(shape) * 9).astype(kind) for kind in TYPES}
    path = tmp_path / "all.safetensors"
    write_pieces(path, tensor_pieces(tensors, {"format": "mlx", "said": 'a "word"'}))
    found = mx.load(str(path))
    assert isinstance(found, dict)
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {
        n: (t.dtype, t.shape) for n, t in tensors.items()
    }
    assert all(mx.array_equal(found[n], t, equal_nan=True).item() for n, t in tensors.items())
    assert read_metadata(path) == {"format": "mlx", "said": 'a "word"'}
    for info in read_header(path).values():
        assert info.start % 8 == 0 or info.dtype not in {"U64", "I64"}


def test_slices_and_turned_tensors_are_laid_out_in_rows(tmp_path: Path) -> None:
    whole = mx.random.normal((6, 8))
    tensors = {"turned": whole.T, "columns": whole[:, 2:5], "rows": whole[1:3]}
    path = tmp_path / "views.safetensors"
    write_pieces(path, tensor_pieces(tensors, {}))
    found = mx.load(str(path))
    assert isinstance(found, dict)
    assert all(mx.array_equal(found[name], tensor).item() for name, tensor in tensors.items())
    assert read_metadata(path) == {}


def test_the_same_tensors_make_the_same_bytes() -> None:
    one = {name: mx.arange(n) for n, name in enumerate("bca", 1)}
    other = dict(reversed(one.items()))
    assert [*map(bytes, tensor_pieces(one, {}))] == [*map(bytes, tensor_pieces(other, {}))]


def test_nothing_is_copied_and_nothing_changes() -> None:
    """Not by what is computed from it, not by writing into it, not by letting go of it."""
    size = 1 << 20
    flat = mx.random.normal((size,))
    mx.eval(flat)
    before = mx.get_active_memory()
    pieces = tensor_pieces({"half": flat[: size // 2], "rest": flat[size // 2 :]}, {})
    assert mx.get_active_memory() - before < size
    content = [*map(bytes, pieces)]
    for _ in range(5):
        flat = mx.exp(flat * 0.5) - 1.0
        mx.eval(flat)
    part = mx.random.normal((64, 64))
    pieces += tensor_pieces({"part": part}, {})
    content += [*map(bytes, pieces[3:])]
    part[3] = 7.0
    part += 1.0
    mx.eval(part)
    del part, flat
    gc.collect()
    mx.eval([mx.zeros((64, 64)) for _ in range(50)], [mx.zeros((size,)) for _ in range(3)])
    assert [*map(bytes, pieces)] == content
