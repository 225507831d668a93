"""A safetensors file in memory, in pieces: a table of contents, then views of the tensors' bytes.

Nothing is copied. A view holds its array, and MLX computes into an array's memory only where nobody
holds the array, so the bytes stay what they were for as long as the pieces are kept, whatever the
model does meanwhile. Any thread may read them; only the computing thread makes them, because other
threads must leave MLX alone (its streams belong to the thread that made them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlx_lora.storage import Piece

TYPES = {
    mx.bool_: "BOOL", mx.uint8: "U8", mx.int8: "I8", mx.uint16: "U16", mx.int16: "I16",
    mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32", mx.int32: "I32", mx.float32: "F32",
    mx.uint64: "U64", mx.int64: "I64",
}  # fmt: skip


def tensor_pieces(tensors: Mapping[str, mx.array], metadata: Mapping[str, str]) -> list[Piece]:
    """The pieces of a safetensors file, to be written one after the other.

    The widest types come first, so that each tensor lies at a multiple of its width, and names in
    their order, so that the same tensors make the same bytes.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    # an object of its own: should someone write into the array, that is another one from there
    held = {name: tensors[name].reshape(tensors[name].shape) for name in names}
    mx.eval(held)
    views = [bytes_of(tensor) for tensor in held.values()]
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for (name, tensor), view in zip(held.items(), views, strict=True):
        end = at + view.nbytes
        kind = TYPES[tensor.dtype]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": (at, end)}
        at = end
    table = msgspec.json.encode(header)
    table += b" " * (-len(table) % 8)
    return [len(table).to_bytes(8, "little") + table, *views]


def bytes_of(tensor: mx.array) -> memoryview:
    """The bytes of an evaluated tensor, of any type; copied only where it is not contiguous."""
    view = memoryview(tensor)
    if not view.c_contiguous:
        view = memoryview(mx.contiguous(tensor))
    # an empty one cannot be cast
    return view.cast("B") if view.nbytes else memoryview(b"")
