"""The LoRA linear: y = W x + scale * (x a) b (Hu et al. 2021), W frozen; for experts; DoRA's."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_lora.models.experts import is_switch
from mlx_lora.models.quantize import dequantized


class DropoutKey:
    """Where every adapter layer of a model takes its randomness from, set once a micro-batch.

    A key that depends on (seed, step, micro-batch) and a salt a module, never on the global state:
    recomputing a layer (gradient checkpointing) draws the same mask again, and a resumed run the
    same masks as one never stopped.
    """

    def __init__(self) -> None:
        self.key = mx.random.key(0)

    def set(self, seed: int, step: int, micro_batch: int) -> None:
        """Choose the masks of one micro-batch."""
        digest = hashlib.blake2b(f"{seed}/{step}/{micro_batch}".encode(), digest_size=8).digest()
        self.key = mx.random.key(int.from_bytes(digest, "little"))


class LoRALinear(nn.Module):
    """A frozen linear with a trainable low-rank product beside it.

    Tensors: `lora_a` (in, rank), `lora_b` (rank, out), float32; the names and layout are mlx-lm's.
    They are what the optimizer changes. The product is worked out in the type of its input, because
    float32 factors would make float32 copies of every 16-bit activation; their gradients come back
    as float32.
    """

    parts: tuple[str, ...] = ("lora_a", "lora_b")

    def __init__(self, linear: nn.Module, *, rank: int, scale: float, name: str) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale
        self.enabled = True
        shape_a, shape_b = factor_shapes(linear, rank)
        self.lora_a = mx.zeros(shape_a)
        self.lora_b = mx.zeros(shape_b)
        self._dropout = 0.0
        self._key: DropoutKey | None = None
        salt = hashlib.blake2b(name.encode(), digest_size=8).digest()
        self._salt = mx.array(
            [int.from_bytes(salt[:4], "little"), int.from_bytes(salt[4:], "little")], mx.uint32
        )

    def initialize(self, seed: int) -> None:
        """A Kaiming-uniform (+-1/sqrt(in), as in the paper's code), B zero.

        The draw depends on (seed, module) only.
        """
        key = mx.random.key(seed) ^ self._salt
        bound = 1.0 / math.sqrt(widths(self.linear)[1])
        self.lora_a = mx.random.uniform(-bound, bound, self.lora_a.shape, key=key)
        self.lora_b = mx.zeros(self.lora_b.shape)

    def use_dropout(self, share: float, key: DropoutKey) -> None:
        """Hide `share` of the inputs from the adapter while training."""
        self._dropout, self._key = share, key

    def __call__(self, x: mx.array) -> mx.array:  # noqa: D102  (nn.Module's call)
        y = self.linear(x)
        if not self.enabled:
            return y
        z = (self._dropped(x) @ self.lora_a.astype(x.dtype)) @ self.lora_b.astype(x.dtype)
        return y + (self.scale * z).astype(y.dtype)

    def _dropped(self, x: mx.array) -> mx.array:
        if not (self._dropout and self.training and self._key is not None):
            return x
        kept = mx.random.bernoulli(1.0 - self._dropout, x.shape, key=self._key.key ^ self._salt)
        return x * kept.astype(x.dtype) * (1.0 / (1.0 - self._dropout))


class LoRASwitchLinear(LoRALinear):
    """A switch layer of a mixture of experts with a low-rank product beside every expert's matrix.

    Tensors: `lora_a` (experts, rank, in), `lora_b` (experts, out, rank), float32, transposed
    against `LoRALinear`'s as mlx-lm has them.
    """

    def __call__(  # type: ignore[override]  # noqa: D102  (as mlx-lm's switch layers)
        self, x: mx.array, indices: mx.array, sorted_indices: bool = False
    ) -> mx.array:
        y = self.linear(x, indices, sorted_indices=sorted_indices)
        if not self.enabled:
            return y
        z = self._dropped(x)
        for factor in (self.lora_a, self.lora_b):
            z = mx.gather_mm(
                z,
                factor.astype(x.dtype).swapaxes(-1, -2),
                rhs_indices=indices,
                sorted_indices=sorted_indices,
            )
        return y + (self.scale * z).astype(y.dtype)


class DoRALinear(LoRALinear):
    """A LoRA linear whose rows of W + delta are brought to the lengths `m` (Liu et al. 2024).

    Read from mlx-lm's adapters and run; never trained here.
    """

    parts = ("lora_a", "lora_b", "m")

    def __init__(self, linear: nn.Module, *, rank: int, scale: float, name: str) -> None:
        super().__init__(linear, rank=rank, scale=scale, name=name)
        self.m = mx.zeros((widths(linear)[0],))

    def __call__(self, x: mx.array) -> mx.array:  # noqa: D102  (nn.Module's call)
        if not self.enabled:
            return self.linear(x)
        bias = self.linear.bias if "bias" in self.linear else 0.0
        packed = isinstance(self.linear, nn.QuantizedLinear)
        weight = dequantized(self.linear) if packed else self.linear.weight.astype(mx.float32)
        merged = weight + self.scale * (self.lora_a @ self.lora_b).T
        lengths = mx.linalg.norm(merged, axis=1)
        y = super().__call__(x) - bias
        return (self.m / lengths).astype(y.dtype) * y + bias


def lora_layer(linear: Any, *, rank: int, scale: float, name: str) -> LoRALinear:
    """The adapter layer that goes beside a linear or a switch layer."""
    kind = LoRASwitchLinear if is_switch(linear) else LoRALinear
    return kind(linear, rank=rank, scale=scale, name=name)


def factor_shapes(linear: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the `lora_a` and `lora_b` of a linear or switch layer."""
    out_width, in_width = widths(linear)
    if is_switch(linear):
        experts = int(linear.weight.shape[0])
        return (experts, rank, in_width), (experts, out_width, rank)
    return (in_width, rank), (rank, out_width)


def widths(linear: Any) -> tuple[int, int]:
    """(out, in) of a linear or of each expert's matrix, packed or not."""
    rows, columns = linear.weight.shape[-2:]
    return rows, columns * 32 // linear.bits if "scales" in linear else columns
