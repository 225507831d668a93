"""What a base holds: its tensors by plain names, their shapes and how they are packed.

Told from tables of contents and config.json alone; no weight is read. No mlx here.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model, model_name
from mlx_lora.models.packing import PACKED, group_for

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlx_lora.models.tensors import TensorInfo

# parts of multimodal files that are no language model, and buffers old files carry along
_DROPPED = re.compile(r"vision_tower|vision_model|multi_modal_projector|rotary_emb\.inv_freq")
_PREFIXES = (("model.language_model.", "model."), ("language_model.", ""))
_PARTS = (".scales", ".biases")
HALVES = ("F16", "BF16")


class Layout:
    """A base folder, looked at from outside.

    Attributes:
        folder: the base.
        settings: its language model's config.json, checked.
        family: model_type of the language model.
        name: hub id or folder name, never a path.
        adapted: modules an adapter changes.
    """

    def __init__(self, model: str, bits: str, adapted: Collection[str] = ()) -> None:
        self.folder, self.description, self.headers = check_model(model)
        self.settings: dict[str, Any] = core_description(self.description)
        self.family: str = self.settings["model_type"]
        self.name, self._bits, self.adapted = model_name(model), bits, adapted
        self._tensors = {
            plain_name(name): (name, info)
            for name, info in self.headers.items()
            if not _DROPPED.search(name)
        }
        self._quantization: dict[str, Any] = self.description.get("quantization") or {}

    @property
    def tied(self) -> bool:
        """Whether the output matrix is that of the embeddings."""
        absent = "lm_head.weight" not in self._tensors
        return absent or bool(self.settings.get("tie_word_embeddings"))

    def names(self) -> list[str]:
        """Every weight and bias, in the order of the layers."""
        kept = [name for name in self._tensors if not name.endswith(_PARTS)]
        return sorted(
            (name for name in kept if not (self.tied and name == "lm_head.weight")), key=_order
        )

    def extent(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor as a float array."""
        *rows, columns = self._info(name).shape
        if self._scales(name) is None:
            return (*rows, columns)
        return (*rows, columns * 32 // self._settled(name)["bits"])

    def count(self) -> int:
        """Numbers in the model."""
        return sum(math.prod(self.extent(name)) for name in self.names())

    def kind(self, name: str) -> str:
        """How the file holds a tensor: `F32`, `BF16`, `U32` (packed), ..."""
        return self._info(name).dtype

    def half_type(self) -> str:
        """The 16-bit type the base itself has, else F16."""
        halves = [kind for kind in map(self.kind, self.names()) if kind in HALVES]
        return max(set(halves), key=halves.count) if halves else "F16"

    def packing(self, name: str) -> tuple[int, int] | None:
        """(bits, group) the app holds a tensor in, where nothing was added to it and it is packed.

        Packing the values it stands for again would round them a second time.
        """
        if name.removesuffix(".weight") in self.adapted:
            return None
        if self._scales(name) is not None:
            form = self._settled(name)
            return (form["bits"], form["group_size"]) if form["mode"] == "affine" else None
        group = group_for(self.extent(name)[-1])
        applied = self._bits in PACKED and not self._quantization
        return (int(self._bits), group) if applied and group else None

    def packed_as(self, name: str, bits: int) -> tuple[int, int] | None:
        """(bits, group) a matrix gets in a model packed to `bits`; None for what is not packed.

        What the base holds packed so stays as it is. In 4 bit the output matrix gets 6, as in
        llama.cpp's mixes: every answer goes through it.
        """
        shape = self.extent(name)
        group = group_for(shape[-1]) if _is_matrix(name, shape) else None
        if group is None:
            return None
        kept = self.packing(name) == (bits, group)
        finer = bits == 4 and self.is_output(name) and not kept  # noqa: PLR2004
        return (6 if finer else bits), group

    def is_output(self, name: str) -> bool:
        """Whether answers are made by this matrix."""
        return name == ("model.embed_tokens.weight" if self.tied else "lm_head.weight")

    def _settled(self, name: str) -> dict[str, Any]:
        """How a packed weight is packed; sizes follow from the file, as loading finds them."""
        module = name.removesuffix(".weight")
        own = self._quantization.get(self._tensors[name][0].removesuffix(".weight"))
        form = own if isinstance(own, dict) else self._quantization
        packed, groups = self._info(name).shape[-1], self._info(f"{module}.scales").shape[-1]
        width = self._width(module) or packed * 32 // int(form.get("bits", 4))
        mode = form.get("mode", "affine")
        return {"group_size": width // groups, "bits": packed * 32 // width, "mode": mode}

    def _width(self, module: str) -> int:
        """Inputs of a packed linear, from config.json where its name says them; else 0."""
        settings, leaf = self.settings, module.rpartition(".")[2]
        if leaf == "down_proj":
            return int(settings.get("intermediate_size", 0))
        if leaf == "o_proj":
            heads = settings.get("num_attention_heads", 0)
            head = settings.get("head_dim") or (settings["hidden_size"] // heads if heads else 0)
            return int(heads * head)
        return int(settings["hidden_size"])

    def _scales(self, name: str) -> TensorInfo | None:
        entry = self._tensors.get(f"{name.removesuffix('.weight')}.scales")
        return entry[1] if entry and name.endswith(".weight") else None

    def _info(self, name: str) -> TensorInfo:
        return self._tensors[name][1]


def plain_name(name: str) -> str:
    """The name a tensor or module has in a file of the language model alone."""
    for prefix, instead in _PREFIXES:
        if name.startswith(prefix):
            return instead + name.removeprefix(prefix)
    return name


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and name.endswith(".weight") and "norm" not in name  # noqa: PLR2004


def _order(name: str) -> tuple[bool, int, str]:
    found = re.search(r"\blayers\.(\d+)\.", name)
    return ("lm_head" in name, int(found[1]) if found else -1, name)
