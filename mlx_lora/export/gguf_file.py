"""GGUF as a container: fields and tensors written one by one, and read back against what was meant.

Written with the `gguf` package's own writer. A file is never read with `mx.load`, whose GGUF loader
trusts its input.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gguf
import msgspec
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFValueType

from mlx_lora.errors import UserError
from mlx_lora.export import ggml
from mlx_lora.export.gguf_reader import FoundTensor, read_gguf

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_F16_LARGEST = 65504.0
# bytes of a tensor read back at a time
_CHUNK = 1 << 24
# the largest relative Frobenius error a kind may make of a tensor: twice that of Gaussian weights
LOSS = {
    Kind.F32: 0.0, Kind.F16: 1e-3, Kind.BF16: 8e-3, Kind.Q8_0: 0.011, Kind.Q6_K: 0.036,
    Kind.Q5_K: 0.08, Kind.Q5_0: 0.086, Kind.Q5_1: 0.086, Kind.Q4_K: 0.144, Kind.Q4_0: 0.174,
}  # fmt: skip


class Field(msgspec.Struct, frozen=True):
    """A key with its value and GGUF type; arrays take their item type from their items."""

    key: str
    value: Any
    kind: GGUFValueType


class Planned(msgspec.Struct, frozen=True):
    """A tensor to write.

    Attributes:
        shape: rows first, as NumPy has it; ggml counts the other way round.
        values: makes it, float32.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    values: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape)) // block * size


class Plan(msgspec.Struct, frozen=True):
    """Everything a GGUF file will hold.

    Attributes:
        remark: what a person should know of it, or empty.
        written: SHA-256 of every tensor's bytes by name, known once it is written.
    """

    arch: str
    fields: list[Field]
    tensors: list[Planned]
    remark: str = ""
    written: dict[str, bytes] = msgspec.field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def constant(values: np.ndarray) -> Callable[[], np.ndarray]:
    """The maker of a tensor that is already there."""
    return lambda: values


def text(key: str, value: str) -> Field:
    """A string."""
    return Field(key, value, GGUFValueType.STRING)


def whole(key: str, value: int) -> Field:
    """A uint32."""
    return Field(key, int(value), GGUFValueType.UINT32)


def real(key: str, value: float) -> Field:
    """A float32; never an integer, which aborts llama.cpp where it expects this."""
    return Field(key, float(value), GGUFValueType.FLOAT32)


def flag(key: str, value: bool) -> Field:
    """A bool."""
    return Field(key, bool(value), GGUFValueType.BOOL)


def array(key: str, values: list[Any]) -> Field:
    """Strings, int32 or float32."""
    return Field(key, values, GGUFValueType.ARRAY)


def encode(tensor: Planned) -> np.ndarray:
    """The bytes of a tensor as the file holds them.

    Raises:
        UserError: `cannot_export` where a weight is too large for F16.
    """
    values = tensor.values()
    match tensor.kind:
        case Kind.F32:
            return np.ascontiguousarray(values, np.float32)
        case Kind.F16:
            if values.size and np.abs(values).max() > _F16_LARGEST:
                why, fix = f"{tensor.name} has numbers too large for F16", "use --quant bf16"
                raise UserError("cannot_export", "--quant f16", why, fix)
            return np.ascontiguousarray(values, np.float16)
        case Kind.BF16:
            return np.ascontiguousarray(gguf.quants.quantize(values, Kind.BF16))
        case _:
            return ggml.quantize(values, tensor.kind)


def write(path: Path, plan: Plan) -> Generator[tuple[int, int], None, None]:
    """Write a file and flush it to the disk; yields (tensors done, of how many)."""
    writer = gguf.GGUFWriter(path, plan.arch)
    try:
        for field in plan.fields:
            writer.add_key_value(field.key, field.value, field.kind)
        for tensor in plan.tensors:
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, tensor in enumerate(plan.tensors):
            yield done, len(plan.tensors)
            content = encode(tensor)
            plan.written[tensor.name] = hashlib.sha256(content.data).digest()
            writer.write_tensor_data(content)
        for file in writer.fout or ():
            file.flush()
            os.fsync(file.fileno())
    finally:
        writer.close()


def read_back(path: Path, plan: Plan) -> Generator[tuple[int, int], None, dict[str, float]]:
    """Compare a file with what was meant; returns the largest error made of a tensor, by kind.

    Raises:
        UserError: `broken_export` naming the first field or tensor that is not as it was meant.
    """
    try:
        content = read_gguf(path)
    except (ValueError, LookupError, OverflowError, struct.error) as error:
        raise broken(f"it cannot be read back ({error})") from error
    for field in [text("general.architecture", plan.arch), *plan.fields]:
        found = content.fields.get(field.key)
        if found is None or found[0] != field.kind or not _equal(found[1], field.value):
            raise broken(f"{field.key} is not as it was meant")
    if list(content.tensors) != [tensor.name for tensor in plan.tensors]:
        meant = {tensor.name for tensor in plan.tensors}
        odd = sorted(content.tensors.keys() ^ meant) or ["their order"]
        raise broken(f"its tensors are not those meant ({odd[0]})")
    worst: dict[str, float] = {}
    for done, tensor in enumerate(plan.tensors):
        yield done, len(plan.tensors)
        loss, digest = _loss(path, content.tensors[tensor.name], tensor)
        if digest != plan.written.get(tensor.name, digest):
            raise broken(f"{tensor.name} is not as it was written")
        worst[tensor.kind.name] = max(loss, worst.get(tensor.kind.name, 0.0))
    return worst


def broken(why: str) -> UserError:
    """The file is not what it should be."""
    fix = "export again; if it happens again, tell us"
    return UserError("broken_export", "the exported file", why, fix)


def _loss(path: Path, found: FoundTensor, meant: Planned) -> tuple[float, bytes]:
    """(relative Frobenius error, SHA-256) of a tensor in the file."""
    if found.kind != meant.kind or found.shape != meant.shape:
        raise broken(f"{meant.name} is {found.kind} {found.shape} in the file")
    wanted = meant.values().reshape(-1, meant.shape[-1])
    width = meant.nbytes // len(wanted)
    step = max(1, _CHUNK // max(width, 1))
    error, hasher = 0.0, hashlib.sha256()
    for begin in range(0, len(wanted), step):
        part = wanted[begin : begin + step]
        raw = np.fromfile(path, np.uint8, len(part) * width, offset=found.offset + begin * width)
        if raw.size != len(part) * width:
            raise broken(f"it ends inside {meant.name}")
        hasher.update(raw.data)
        values = gguf.quants.dequantize(raw, meant.kind).reshape(part.shape)
        error += float(np.square(values - part, dtype=np.float64).sum())
    size = float(np.linalg.norm(wanted))
    loss = error**0.5 / (size or 1.0)
    if not loss <= LOSS[meant.kind]:
        raise broken(f"{meant.name} is off by {loss:.1%} of its size")
    return loss, hasher.digest()


def _equal(found: Any, meant: Any) -> bool:
    if isinstance(meant, float):
        return bool(np.float32(meant) == found)
    if isinstance(meant, list) and meant and isinstance(meant[0], float):
        return bool(np.array_equal(np.array(meant, np.float32), np.array(found, np.float32)))
    return bool(found == meant)
