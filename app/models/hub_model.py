"""A model of the hub as a worker told of it: found by a search, or looked at."""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from app.models.offers import Offer, numbers
from app.words import count
from mlx_lora.forecast import Base, base_of
from mlx_lora.models.catalog import find_variant
from mlx_lora.models.shape import Shape

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_HUB = "https://huggingface.co"
_ADDRESS = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?")
# the hub's own pages, which are no models
_PAGES = {"datasets", "spaces", "docs", "blog", "papers", "collections", "settings"}
_BITS = re.compile(r"(?i)(?<![a-z0-9])(\d+)-?bit|(bf16|fp16|f16)(?![a-z0-9])")


class HubModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model there; a search leaves the fields from `commit` on empty.

    Attributes:
        licence: as the hub names it, empty where it does not.
        gated: its terms are to be accepted before it may be had.
        mlx: in MLX's own form.
        size, missing: bytes that are fetched, and those of them that are not here yet.
        twin: the same model without accepting terms.
        weights, bits, numbers, shape: of its weights; 0 and None where they are not known.
    """

    repository: str
    downloads: int = 0
    parameters: int = 0
    licence: str = ""
    gated: bool = False
    mlx: bool = False
    commit: str = ""
    size: int = 0
    missing: int = 0
    page: str = ""
    twin: str = ""
    weights: int = 0
    bits: int = 0
    numbers: int = 0
    shape: Shape | None = None

    def offer(self) -> Offer:
        """The same, to be shown as a card and judged."""
        maker, _, name = self.repository.partition("/")
        entry = find_variant(self.repository)
        bits = self.bits or (entry.bits if entry else _bits_in(name))
        known = self.numbers or self.parameters or (entry.parameters if entry else 0)
        parts = (maker, numbers(known) if known else "", f"{bits}-bit" if bits else "")
        popular = f"Downloaded {count(self.downloads)} times" if self.downloads else "New"
        form = ", in MLX’s own form." if self.mlx else "."
        return Offer(
            source=self.repository, title=name, line=" · ".join(filter(None, parts)),
            use=f"{popular}{form}", licence=_licence(self.licence), accept=self.gated,
            size=self.missing or self.size, bits=bits or 16, base=self._base(),
        )  # fmt: skip

    def _base(self) -> Base | None:
        entry = find_variant(self.repository)
        if self.shape is None:
            return base_of(entry) if entry else None
        return Base(
            shape=self.shape, parameters=self.numbers, stored=self.weights, bits=self.bits or 16
        )


def hub_models(data: dict[str, Any]) -> list[HubModel]:
    """Those of a worker's report `search`."""
    return [msgspec.convert(one, HubModel) for one in data["models"]]


def hub_name(text: str) -> str:
    """owner/name, where the text is one or the address of a model's page; else empty."""
    if text.strip().startswith(("/", "~", ".")):
        return ""  # a folder
    plain = _ADDRESS.sub("", text.strip())
    parts = plain.split("?")[0].split("#")[0].strip("/").split("/")
    address = plain != text.strip()
    if len(parts) < 2 or (len(parts) > 2 and not address) or parts[0] in _PAGES:  # noqa: PLR2004
        return ""
    name = "/".join(parts[:2])
    return name if _NAME.fullmatch(name) else ""


def hub_page(repository: str) -> str:
    """The address of its page, for a person."""
    return f"{os.environ.get('HF_ENDPOINT') or _HUB}/{repository}"


def _bits_in(name: str) -> int:
    """What a name says of the bits of its weights, 0 where it says nothing."""
    found = _BITS.search(name)
    if found is None:
        return 0
    return int(found[1]) if found[1] else 16


def _licence(said: str) -> str:
    """The hub's tags in the form people know."""
    known = {"apache-2.0": "Apache-2.0", "mit": "MIT", "other": "A licence of its own"}
    return known.get(said.lower(), said)
