"""What is exported: a base and an adapter, one tensor at a time.

So a large model needs little memory. Tensors have the names of the Hugging Face file. A merged
weight is W + scale * (a b)^T in float32 on the values the app holds (dequantized where the base is
quantized), rounded once, by whoever writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import msgspec
import numpy as np

from mlx_lora.data.render import Renderer
from mlx_lora.errors import UserError
from mlx_lora.export.layout import Layout
from mlx_lora.export.layout import plain_name as plain_name  # noqa: PLC0414  (for verify)
from mlx_lora.lora.store import as_trained, check_base, read_adapter
from mlx_lora.models.definitions import model_classes
from mlx_lora.models.description import core_description
from mlx_lora.models.fingerprint import fingerprint
from mlx_lora.models.packing import PACKED, group_for
from mlx_lora.models.quantize import dequantize_parts
from mlx_lora.models.tokenizer import Tokenizer, read_tokenizer
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.lora.attach import AdapterShape
    from mlx_lora.lora.store import AdapterFacts


class Delta(msgspec.Struct, frozen=True):
    """What the adapter adds to one linear: scale * (x a) b; `magnitude` (out,) makes it a DoRA.

    a is (in, rank), b (rank, out), float32; of experts (experts, rank, in), (experts, out, rank).
    """

    a: np.ndarray
    b: np.ndarray
    scale: float
    magnitude: np.ndarray | None = None

    def on(self, weight: np.ndarray) -> np.ndarray:
        """The merged weight (out, in), float32."""
        merged = self.b.T @ self.a.T
        merged *= np.float32(self.scale)
        merged += weight
        if self.magnitude is not None:
            merged *= (self.magnitude / np.linalg.norm(merged, axis=1))[:, None]
        return merged


class Source(Layout):
    """A base folder and, where one is exported, the adapter on it.

    Attributes:
        settings: its language model's config.json, checked, with the definition's own defaults.
        tokenizer: its tokenizer, with the chat template the adapter was trained with.
        deltas: by module name; empty for the base alone.
        shape, facts: of the adapter; None for the base alone.
    """

    def __init__(self, model: str, bits: str, adapter: Path | None) -> None:
        super().__init__(model, bits)
        core = core_description(self.description)
        self.settings = {**_defaults(self.description, core), **core}
        self.tokenizer: Tokenizer = read_tokenizer(
            self.folder, self.description["stop_token_ids"], core["vocab_size"]
        )
        self.deltas: dict[str, Delta] = {}
        self.adapted = self.deltas
        self.shape: AdapterShape | None = None
        self.facts: AdapterFacts | None = None
        if adapter is not None:
            self._adapt(adapter, fingerprint(self.folder, self.headers, bits))
            self.tokenizer = as_trained(self.tokenizer, self.facts)
        if self.template:
            self.tokenizer.stop_ids = Renderer(self.tokenizer, 1).stop_ids

    @property
    def template(self) -> str:
        """The built-in chat template the adapter brings along; empty where it has none."""
        return self.facts.template_source if self.facts is not None else ""

    def base(self, name: str) -> np.ndarray:
        """The values the app computes with, float32."""
        weight = self._read(name)
        if self._scales(name) is not None:
            module = name.removesuffix(".weight")
            biases = f"{module}.biases"
            weight = dequantize_parts(
                weight,
                self._read(f"{module}.scales"),
                self._read(biases) if biases in self._tensors else None,
                **self._settled(name),
            )
        return np.array(self._as_loaded(weight).astype(mx.float32))

    def merged(self, name: str) -> np.ndarray:
        """`base` with the adapter's change in it.

        Raises:
            UserError: `bad_model` where that is no number.
        """
        weight = self.base(name)
        delta = self.deltas.get(name.removesuffix(".weight"))
        if delta is not None and not name.endswith(".bias"):
            with np.errstate(over="ignore", invalid="ignore"):  # seen in the next line
                weight = delta.on(weight)
        if not np.isfinite(weight).all():
            why = f"{name} holds numbers that are not finite, the adapter merged in"
            fix = "download the model again, or use an earlier checkpoint"
            raise UserError("bad_model", show(self.folder), why, fix)
        return weight

    def packed(self, name: str) -> list[mx.array]:
        """Weight, scales and biases of a tensor that has a `packing`."""
        module = name.removesuffix(".weight")
        if self._scales(name) is not None:
            return [self._read(f"{module}.{part}") for part in ("weight", "scales", "biases")]
        bits, group = self.packing(name) or (0, 0)
        return list(mx.quantize(_as_quantized(self._read(name)), group, bits))

    def _as_loaded(self, weight: mx.array) -> mx.array:
        """What `--bits` makes of a float weight, as `models/loading.py` does it."""
        if self._bits == "16" and weight.dtype == mx.float32:
            return weight.astype(mx.bfloat16)
        group = group_for(weight.shape[-1]) if weight.ndim == 2 else None  # noqa: PLR2004
        if self._bits not in PACKED or self._quantization or group is None:
            return weight
        packed = mx.quantize(_as_quantized(weight), group, int(self._bits))
        return dequantize_parts(*packed, group_size=group, bits=int(self._bits), mode="affine")

    def _read(self, name: str) -> mx.array:
        original, info = self._tensors[name]
        return mx.load(str(info.path), format="safetensors")[original]

    def _adapt(self, folder: Path, base: str) -> None:
        self.shape, self.facts, tensors = read_adapter(folder, self.settings["num_hidden_layers"])
        check_base(folder, self.facts, base)
        for name in sorted({key.rpartition(".")[0] for key in tensors}):
            a, b = tensors.get(f"{name}.lora_a"), tensors.get(f"{name}.lora_b")
            module = plain_name(name)
            if a is None or b is None or not self._fits(f"{module}.weight", a, b):
                why = f"its {name} does not fit this base"
                fix = "use the model it was trained on"
                raise UserError("bad_adapter", show(folder), why, fix)
            self.deltas[module] = Delta(a, b, self.shape.scale, tensors.get(f"{name}.m"))

    def _fits(self, weight: str, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether a pair is as wide as its weight and of the rank the adapter claims.

        Of experts (experts, rank, in) and (experts, out, rank); a maker's own file may hold their
        weights in other pieces, and then there is nothing to compare with.
        """
        rank = self.shape.rank if self.shape else 0
        if a.ndim == b.ndim == 3:  # noqa: PLR2004
            extent = self.extent(weight) if weight in self._tensors else None
            found = (a.shape[0], b.shape[1], a.shape[2])
            whole = a.shape[:2] == (b.shape[0], rank) and b.shape[2] == rank
            return whole and extent in {None, found}
        if weight not in self._tensors or len(self.extent(weight)) != 2:  # noqa: PLR2004
            return False
        outputs, inputs = self.extent(weight)
        return a.shape == (inputs, rank) and b.shape == (rank, outputs)


def _as_quantized(weight: mx.array) -> mx.array:
    """A float weight as loading quantizes it: in float32 on the CPU."""
    return weight.astype(mx.float32) if mx.default_device() == mx.cpu else weight


def _defaults(description: dict[str, Any], core: dict[str, Any]) -> dict[str, Any]:
    """Settings a config.json may leave out, as the definitions fill them in."""
    if core is not description:
        model_classes(description["model_type"])[1].from_dict(description)
    return vars(model_classes(core["model_type"])[1].from_dict(core))
