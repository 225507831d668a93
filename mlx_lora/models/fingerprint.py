"""Which base an adapter belongs to.

A hash over config.json, every tensor's name, type and shape, samples of its bytes, and the recipe
by which the base was quantized as it was loaded.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.models.tensors import TensorInfo

_SAMPLE = 2048
# labels and notes that change no weight
_IGNORED = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}


def fingerprint(folder: Path, tensors: dict[str, TensorInfo], bits: str) -> str:
    """32 hexadecimal digits; equal for the same weights, however they are split."""
    config = msgspec.json.decode((folder / "config.json").read_bytes())
    kept = {key: value for key, value in config.items() if key not in _IGNORED}
    hasher = hashlib.sha256(msgspec.json.encode(kept, order="deterministic"))
    hasher.update(f"bits={bits}".encode())
    for name in sorted(tensors):
        info = tensors[name]
        hasher.update(f"{name} {info.dtype} {info.shape}".encode())
        hasher.update(_samples(info))
    return hasher.hexdigest()[:32]


def _samples(info: TensorInfo) -> bytes:
    """The first, middle and last bytes of a tensor."""
    last = max(info.start, info.end - _SAMPLE)
    places = {info.start, (info.start + last) // 2, last}
    with info.path.open("rb") as file:
        parts = []
        for place in sorted(places):
            file.seek(place)
            parts.append(file.read(min(_SAMPLE, info.end - place)))
    return b"".join(parts)
