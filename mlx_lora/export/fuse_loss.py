"""What merging into a packed model costs, measured before it is chosen.

The adapted model is merged into 16, 8, 6 and 4 bit in memory, one after the other, and compared
with the adapter on its base on the run's held-out rows: mean KL and how often the next token stays
the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_lora.events import Event, Report
from mlx_lora.export import merged, tensor_file, verdict
from mlx_lora.export.layout import plain_name
from mlx_lora.export.reference import write_logits
from mlx_lora.export.requantize import input_grams
from mlx_lora.export.verdict import Difference
from mlx_lora.models.quantize import dequantize_parts, replace_module

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy as np

    from mlx_lora.export.reference import Reference
    from mlx_lora.export.source import Source
    from mlx_lora.export.tensor_file import Group
    from mlx_lora.models.loading import LoadedModel

WIDTHS = (16, 8, 6, 4)
# `auto` takes the smallest width that keeps so much of the greedy choices
_KEPT = 0.98


class Line(msgspec.Struct, frozen=True):
    """One width: what it costs and what it weighs."""

    bits: int
    difference: Difference
    nbytes: int


class FuseLoss:
    """Gathers what packing needs to know of the adapted model, and measures every width.

    Attributes:
        grams: module -> X^T X of its inputs on training rows, float32 (in, in).
        lines: what was measured, widest first.
    """

    def __init__(self, source: Source, dtype: str) -> None:
        self._source, self._dtype = source, dtype
        self.grams: dict[str, np.ndarray] = {}
        self.lines: list[Line] = []

    def nbytes(self) -> int:
        """Bytes on disk `gather` needs until the export is done."""
        matrices = (self._source.extent(name) for name in self._source.names())
        return sum(4 * shape[-1] ** 2 for shape in matrices if len(shape) > 1)

    def gather(self, base: LoadedModel, reference: Reference) -> None:
        """See the inputs of every linear of the adapted model."""
        grams = input_grams(base.module, reference.calibration, reference.base.parent)
        self.grams = {plain_name(name): gram for name, gram in grams.items()}

    def measure(self, base: LoadedModel, reference: Reference) -> str:
        """Measure every width; returns the one to take."""
        for bits in WIDTHS:
            for _ in self.measure_width(bits, base, reference):
                continue
        return self.choice()

    def measure_width(
        self, bits: int, base: LoadedModel, reference: Reference
    ) -> Generator[tuple[int, int], None, None]:
        """Measure one width; yields (tensors merged, of how many)."""
        written = reference.base.with_name("fused.f32")
        held = mx.float32 if mx.default_device() == mx.cpu else merged.DTYPES[self._dtype]
        groups = self.groups(bits)
        for done, group in enumerate(groups):
            yield done, len(groups)
            _put(base.module, group, held)
        write_logits(base.module, reference.rows, written)
        difference, _ = verdict.compare(reference, written, "coarse")
        self.lines.append(Line(bits, difference, tensor_file.nbytes(groups)))

    def choice(self) -> str:
        """The smallest width measured that keeps enough of the model's choices."""
        good = [line.bits for line in self.lines if line.difference.top1 >= _KEPT]
        return str(min(good, default=16))

    def groups(self, bits: int) -> list[Group]:
        """The merged model in a width."""
        if bits == 16:  # noqa: PLR2004
            return merged.plan_plain(self._source, self._dtype)
        return merged.plan_packed(self._source, bits, self._dtype, self.grams)

    def reports(self, chosen: str) -> Iterator[Event]:
        """The table, where there is one."""
        if self.lines:
            yield Report(kind="fuse_loss", data=self.table(chosen))

    def table(self, chosen: str) -> dict[str, Any]:
        """What was measured, and the width to take."""
        return {"lines": [msgspec.to_builtins(line) for line in self.lines], "chosen": chosen}


def _put(model: Any, group: Group, held: mx.Dtype) -> None:
    """Put a merged weight into the model as the floats it stands for, without the adapter."""
    name, _, leaf = group.parts[0].name.rpartition(".")
    values, *rest = group.make()
    if rest:
        values = dequantize_parts(
            values, *rest, group_size=group.group_size, bits=group.bits, mode="affine"
        )
    found, module = next(
        (key, part) for key, part in model.named_modules() if plain_name(key) == name
    )
    inner = getattr(module, "linear", module)
    if isinstance(inner, nn.QuantizedLinear | nn.QuantizedEmbedding):
        inner = _float_module(inner)
    if inner is not module:
        replace_module(model, found, inner)
    setattr(inner, leaf, values.astype(held))


def _float_module(module: Any) -> nn.Module:
    """A module of the same kind that holds floats."""
    if isinstance(module, nn.QuantizedEmbedding):
        return nn.Embedding(1, 1)
    made = nn.Linear(1, 1, bias="bias" in module)
    if "bias" in module:
        made.bias = module.bias
    return made
