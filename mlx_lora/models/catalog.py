"""The models the app suggests: assets/model_catalog.json, typed. No mlx here."""

from __future__ import annotations

import functools

import msgspec

from mlx_lora.models.library import assets
from mlx_lora.models.shape import Shape, matrix_numbers

# a packed number: its bits, and 16-bit scale and bias every 64
_PACKED_EXTRA = 32 / 64


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One suggested model.

    Attributes:
        source: what `--model` takes: a Hugging Face id, or `demo`.
        parameters: how many numbers it has.
        accept: its licence is to be read and accepted before it is used.
        use: what it is good at, one plain line.
        bits: bits a weight as the files hold it: 4, 8, 16 or 32.
        download: bytes of its weights, computed from `parameters` and `bits`; 0 for the demo.
    """

    source: str
    title: str
    maker: str
    parameters: int
    licence: str
    accept: bool
    use: str
    bits: int
    download: int
    recommended: bool
    shape: Shape

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return stored_bytes(self.shape, self.parameters, self.bits)


class Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: how its figures were found, and the models."""

    about: str
    models: tuple[Entry, ...]


def stored_bytes(shape: Shape, parameters: int, bits: int) -> int:
    """Bytes of weights at `bits` a number; packed ones carry scales, norms stay at 16 bit.

    4 bit: matrices x 4.5 / 8 + the rest x 2.
    """
    if bits >= 16:  # noqa: PLR2004
        return parameters * bits // 8
    matrices = matrix_numbers(shape)
    return round(matrices * (bits + _PACKED_EXTRA) / 8) + (parameters - matrices) * 2


@functools.cache
def catalog() -> tuple[Entry, ...]:
    """Every suggested model, the demo first."""
    content = (assets() / "model_catalog.json").read_bytes()
    return msgspec.json.decode(content, type=Catalog).models


def find_entry(source: str) -> Entry | None:
    """The suggested model of this source."""
    return next((entry for entry in catalog() if entry.source == source), None)
