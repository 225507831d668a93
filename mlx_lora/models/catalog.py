"""The models the app suggests: assets/model_catalog.json, typed. No mlx here."""

from __future__ import annotations

import functools

import msgspec

from mlx_lora.models.library import assets
from mlx_lora.models.shape import Shape, expert_numbers, matrix_numbers

# a packed number: its bits, and 16-bit scale and bias every 64
_PACKED_EXTRA = 32 / 64
# GPT-OSS's experts are only published in mxfp4: 4 bits, and an 8-bit scale every 32
_MXFP4 = 4 + 8 / 32
_MXFP4_FAMILIES = {"gpt_oss"}


class Repositories(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model is on the hub; empty where no public source names such a repository.

    Attributes:
        bits4, bits8, bf16: MLX's community's copies, to be had without asking.
        original: the maker's own, which may ask for its licence to be accepted first.
    """

    bits4: str = ""
    bits8: str = ""
    bf16: str = ""
    original: str = ""

    def bits(self) -> dict[str, int]:
        """Every repository there is, with the bits a weight it holds."""
        widths = ((self.bits4, 4), (self.bits8, 8), (self.bf16, 16), (self.original, 16))
        return {name: width for name, width in widths if name}


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One suggested model.

    Attributes:
        source: what `--model` takes: a Hugging Face id, or `demo`.
        parameters: how many numbers it has.
        accept: its licence is to be read and accepted before it is used.
        use: what it is good at, one plain line.
        bits: bits a weight as the files hold it: 4, 8, 16 or 32.
        download: bytes of its weights, computed from `parameters` and `bits`; 0 for the demo.
        repositories: the same model in other precisions, and the maker's own.
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
    repositories: Repositories
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

    4 bit: matrices x 4.5 / 8 + the rest x 2. Of GPT-OSS the experts take 4.25 bits in any case.
    """
    experts = expert_numbers(shape) if shape.family in _MXFP4_FAMILIES else 0
    others, fixed = parameters - experts, round(experts * _MXFP4 / 8)
    if bits >= 16:  # noqa: PLR2004
        return fixed + others * bits // 8
    matrices = matrix_numbers(shape) - experts
    return fixed + round(matrices * (bits + _PACKED_EXTRA) / 8) + (others - matrices) * 2


@functools.cache
def catalog() -> tuple[Entry, ...]:
    """Every suggested model, the demo first."""
    content = (assets() / "model_catalog.json").read_bytes()
    return msgspec.json.decode(content, type=Catalog).models


def find_entry(source: str) -> Entry | None:
    """The suggested model of this source."""
    return next((entry for entry in catalog() if entry.source == source), None)


def find_variant(repository: str) -> Entry | None:
    """The suggested model a repository of the hub holds, in that repository's precision."""
    for entry in catalog():
        bits = entry.repositories.bits().get(repository)
        if bits is not None:
            size = stored_bytes(entry.shape, entry.parameters, bits)
            return msgspec.structs.replace(entry, source=repository, bits=bits, download=size)
    return None


def open_twin(repository: str) -> str:
    """The repository to be had without accepting a licence in place of the maker's; else empty.

    Full precision first: that is what was asked for.
    """
    for entry in catalog():
        known = entry.repositories
        if repository and repository == known.original:
            return known.bf16 or known.bits8 or known.bits4
    return ""
