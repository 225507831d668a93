"""Packing a merged weight so that the layer's answers change least, not the weight itself.

Rounding every number to the nearest of 16 loses a trained delta: it is often smaller than a step of
the grid. What matters is the layer's output on real inputs X. Its squared error is
trace(E H E^T) with E = W - W_hat and H = X^T X, and it is lowered here by coordinate descent: in
turn the scale and offset of a group (a two-variable least-squares problem a row) and each code
given all others (rounded to its own best value). Every step lowers the error or leaves it, so the
result is never worse than the plain rounding it starts from. The objective is GPTQ's (Frantar et
al. 2022), whose one greedy pass over the columns ends about as low, and higher for small deltas.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_lora.models.quantize import replace_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SWEEPS = 3
# share of the mean of H's diagonal added to it: inputs never seen must not become free
_DAMPING = 0.01
_SINGULAR = 1e-6
# rows packed at a time
_CHUNK = 1024


def quantize_weight(
    weight: np.ndarray, *, bits: int, group_size: int, gram: np.ndarray | None, dtype: mx.Dtype
) -> tuple[mx.array, mx.array, mx.array]:
    """A weight (out, in) in `mx.quantize`'s layout: packed, scales and biases (out, groups).

    `gram` is X^T X of the layer's inputs (in, in); without it every number is rounded to the
    nearest. Scales and biases are rounded to `dtype` before codes are chosen for them.
    """
    packed, scales, biases = mx.quantize(mx.array(weight), group_size, bits)
    if gram is None:
        return packed, scales.astype(dtype), biases.astype(dtype)
    grid = _Grid(weight, bits, group_size, (scales, biases), dtype)
    grid.descend(gram)
    return _pack(grid.codes, bits), mx.array(grid.scale).astype(dtype), mx.array(
        grid.bias
    ).astype(dtype)  # fmt: skip


class _Grid:
    """The codes, scales and biases of a weight while they are improved; all float32."""

    def __init__(
        self,
        weight: np.ndarray,
        bits: int,
        group_size: int,
        start: tuple[mx.array, mx.array],
        dtype: mx.Dtype,
    ) -> None:
        self._weight, self._highest, self._size = weight, 2**bits - 1, group_size
        self._dtype = dtype
        self.scale, self.bias = (self._rounded(np.array(part, np.float32)) for part in start)
        spread = [np.repeat(part, group_size, axis=1) for part in (self.scale, self.bias)]
        self.codes = self._nearest(weight, *spread)
        self._error = weight - (self.codes * spread[0] + spread[1])

    def descend(self, gram: np.ndarray) -> None:
        """Lower trace(E H E^T)."""
        damping = _DAMPING * float(np.trace(gram)) / len(gram) or 1.0
        hessian = gram.astype(np.float32) + damping * np.eye(len(gram), dtype=np.float32)
        for _ in range(SWEEPS):
            for group in range(self.scale.shape[1]):
                self._improve(group, hessian)

    def _improve(self, group: int, hessian: np.ndarray) -> None:
        """One group: its grid first, then its codes, column by column."""
        part = slice(group * self._size, (group + 1) * self._size)
        inner = hessian[part, part]
        slope = self._error @ hessian[:, part]
        self._refit(group, part, inner, slope)
        scale, bias = self.scale[:, group], self.bias[:, group]
        for at in range(self._size):
            column = part.start + at
            best = self._error[:, column] - slope[:, at] / inner[at, at]
            best = self._weight[:, column] - best
            codes = self._nearest(best, scale, bias)
            change = (self.codes[:, column] - codes) * scale
            self.codes[:, column] = codes
            self._error[:, column] += change
            slope += change[:, None] * inner[at]

    def _refit(self, group: int, part: slice, inner: np.ndarray, slope: np.ndarray) -> None:
        """Scale and bias that fit the codes best, taken row by row where they lower the error."""
        codes, scale, bias = self.codes[:, part], self.scale[:, group], self.bias[:, group]
        weighted = codes @ inner
        a, b, c = (weighted * codes).sum(1), weighted.sum(1), float(inner.sum())
        right, left = (slope * codes).sum(1), slope.sum(1)
        determinant = a * c - b * b
        sound = determinant > _SINGULAR * np.abs(a) * c
        safe = np.where(sound, determinant, 1.0)
        new_scale = self._rounded(scale + np.where(sound, (c * right - b * left) / safe, 0.0))
        new_bias = self._rounded(bias + np.where(sound, (a * left - b * right) / safe, 0.0))
        change = -(codes * (new_scale - scale)[:, None] + (new_bias - bias)[:, None])
        pushed = change @ inner
        better = (2 * slope * change + pushed * change).sum(1) < 0
        change, pushed = change * better[:, None], pushed * better[:, None]
        self.scale[:, group] = np.where(better, new_scale, scale)
        self.bias[:, group] = np.where(better, new_bias, bias)
        self._error[:, part] += change
        slope += pushed

    def _nearest(self, values: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        step = np.where(scale == 0, 1.0, scale)
        return np.clip(np.rint((values - bias) / step), 0, self._highest).astype(np.float32)

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        return np.array(mx.array(values).astype(self._dtype).astype(mx.float32))


def _pack(codes: np.ndarray, bits: int) -> mx.array:
    """Codes (out, in) as MLX packs them: a row's codes one after the other, low bits first."""
    parts = []
    for begin in range(0, len(codes), _CHUNK):
        rows = codes[begin : begin + _CHUNK].astype(np.uint8)
        ones = np.unpackbits(rows[..., None], axis=-1, count=bits, bitorder="little")
        raw = np.packbits(ones.reshape(len(rows), -1), axis=-1, bitorder="little")
        parts.append(raw.view(np.uint32))
    return mx.array(np.concatenate(parts))


def input_grams(
    model: Any, rows: tuple[tuple[int, ...], ...], folder: Path
) -> dict[str, np.ndarray]:
    """X^T X (in, in) of the inputs of every linear over token rows, float32, by name.

    They lie in files in `folder`: those of a large model need more room than the model.
    """
    grams: dict[str, np.ndarray] = {}
    with _recording(model, folder, grams):
        for row in rows:
            mx.eval(model(mx.array([row])))
            mx.clear_cache()
    return grams


class _Recorder(nn.Module):
    """A linear that adds up what goes in."""

    def __init__(self, inner: nn.Module, gram: np.ndarray) -> None:
        super().__init__()
        self.inner, self._gram = inner, gram

    def __call__(self, x: mx.array) -> mx.array:
        flat = x.reshape(-1, x.shape[-1]).astype(mx.float32)
        self._gram += np.array(flat.T @ flat)
        return self.inner(x)


@contextmanager
def _recording(model: Any, folder: Path, grams: dict[str, np.ndarray]) -> Iterator[None]:
    """Every linear records, for as long as the block lasts; an adapter's by its own name."""
    kinds = (nn.Linear, nn.QuantizedLinear)
    found = {name: part for name, part in model.named_modules() if isinstance(part, kinds)}
    for number, (name, part) in enumerate(found.items()):
        width = part.weight.shape[1]
        if isinstance(part, nn.QuantizedLinear):
            width = width * 32 // part.bits
        file = folder / f"gram-{number}.f32"
        gram = np.memmap(file, np.float32, "w+", shape=(width, width))
        grams[name.removesuffix(".linear")] = gram
        replace_module(model, name, _Recorder(part, gram))
    try:
        yield
    finally:
        for name, part in found.items():
            replace_module(model, name, part)
