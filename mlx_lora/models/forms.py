"""How packed weights are held: as stored, or once as the floats they stand for.

`packed` takes 2 to 8 bits a weight and unpacks them at every product; `plain` unpacks once. The
values are the same. Which is faster is a matter of the machine's kernels: on MLX's CPU backend
quantized products run at 2-5 GFLOP/s where OpenBLAS reaches 180 (engine.md), on Metal both run at
about the same rate. So it is timed on the machine itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_lora.machine import this_machine
from mlx_lora.models.packing import plain_fits
from mlx_lora.models.quantize import dequantize_model, dequantized, is_packed

if TYPE_CHECKING:
    from collections.abc import Sequence

Form = Literal["packed", "plain"]
Wanted = Literal["auto", "packed", "plain"]
# a form has to be this much faster than the table's first to be taken instead
HYSTERESIS = 1.15
_FLOATS = (mx.float32, mx.float16, mx.bfloat16)
# pairs timed; seconds a pass should take at least, which decides on how many tokens it is timed,
# beginning with few; and weights timed: of a larger layer some rows of each linear
_PAIRS, _SECONDS, _FEW, _MOST = 3, 0.02, 8, 4 << 20


class Forms(msgspec.Struct, frozen=True):
    """What the two forms take on this machine.

    Attributes:
        packed_seconds: forward and input gradient of one layer's linears as stored; None where it
            was not timed: nothing is packed, or `plain` does not fit.
        plain_seconds: the same with plain weights.
        plain_bytes: the whole model's weights where none is packed.
    """

    packed_seconds: float | None
    plain_seconds: float | None
    plain_bytes: int

    @property
    def speedup(self) -> float | None:
        """How many times faster `plain` is."""
        if self.packed_seconds is None or self.plain_seconds is None:
            return None
        return self.packed_seconds / self.plain_seconds

    def choose(self, first: Form) -> Form:
        """`first`, unless the other is clearly faster; `packed` where it was not timed."""
        if self.speedup is None:
            return "packed"
        gain = self.speedup if first == "packed" else 1 / self.speedup
        other: Form = "plain" if first == "packed" else "packed"
        return other if gain > HYSTERESIS else first

    def words(self, stored: str) -> str:
        """What was found, in a sentence about `stored` ("4-bit") weights."""
        takes, gain = _size(self.plain_bytes), self.speedup
        if gain is None:
            return f"{stored} weights stay packed: held as floats they would take {takes}."
        if gain > HYSTERESIS:
            faster = f"{_times(gain)} faster held as floats; that takes {takes}"
        elif gain < 1 / HYSTERESIS:
            faster = f"{_times(1 / gain)} faster packed than held as floats"
        else:
            faster = f"about as fast packed as held as floats, which would take {takes}"
        return f"On this machine products with {stored} weights are {faster}."


def measure_forms(module: Any, tokens: int, memory: int = 0) -> Forms:
    """Time both forms on one layer of a model that is held packed.

    Times are medians of interleaved pairs. Each form is timed on as many tokens as take it 20 to 80
    ms, and on 4 million weights at most, and its time counted up to `tokens` and the whole layer.

    Args:
        module: the model, with or without an adapter; it is not changed.
        tokens: tokens of one batch.
        memory: bytes of physical memory, 0 to ask this machine.
    """
    # here, as loading a model needs this file and times nothing
    import statistics

    held = plain_bytes(module)
    linears = _largest_layer(module)
    if not linears or not plain_fits(held, memory or this_machine().memory):
        return Forms(None, None, held)
    kind, numbers = float_type(module), sum(_numbers(one) for one in linears)
    both = [_both(one, min(1.0, _MOST / numbers), kind) for one in linears]
    packed, plain = [one for one, _ in both], [one for _, one in both]
    share = sum(one.weight.size for one in plain) / numbers
    counts = _enough(packed, tokens, kind), _enough(plain, tokens, kind)
    pairs = [
        [_seconds(form, count, kind) for form, count in zip((packed, plain), counts, strict=True)]
        for _ in range(_PAIRS)
    ]
    packed_seconds, plain_seconds = (
        statistics.median(times) * tokens / count / share
        for times, count in zip(zip(*pairs, strict=True), counts, strict=True)
    )
    return Forms(packed_seconds, plain_seconds, held)


def choose_form(module: Any, wanted: Wanted) -> Form:
    """What `auto` is here: on Metal packed; on the CPU plain where that leaves room to train."""
    if wanted != "auto":
        return wanted
    if mx.default_device() != mx.cpu:
        return "packed"
    return "plain" if plain_fits(plain_bytes(module), this_machine().memory) else "packed"


def hold_plain(module: Any) -> None:
    """Unpack every packed weight of a model in place, into the type of its activations."""
    dequantize_model(module, float_type(module))


def packed_words(module: Any) -> str:
    """`4-bit`, `4/8-bit`; "" where nothing is packed."""
    bits = sorted({one.bits for one in module.modules() if is_packed(one)})
    return f"{'/'.join(map(str, bits))}-bit" if bits else ""


def plain_bytes(module: Any) -> int:
    """Bytes of a model's weights where none is packed."""
    width = float_type(module).size
    total = 0
    for _, one in module.named_modules():
        own = {key: value for key, value in one.items() if isinstance(value, mx.array)}
        if is_packed(one):
            total += _numbers(one) * width
            own = {key: value for key, value in own.items() if key == "bias"}
        total += sum(value.nbytes for value in own.values())
    return total


def float_type(module: Any) -> mx.Dtype:
    """The type of a model's activations: that of its last norm or other unpacked weight."""
    found = [
        value.dtype
        for _, one in module.named_modules()
        if not is_packed(one)
        for key, value in one.items()
        if key == "weight" and value.dtype in _FLOATS
    ]
    return found[-1] if found else mx.float32


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"  # noqa: PLR2004


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"  # noqa: PLR2004


def _largest_layer(module: Any) -> list[Any]:
    """The packed linears of the layer that has most in them; the last of several."""
    layers = [
        [one for _, one in layer.named_modules() if isinstance(one, nn.QuantizedLinear)]
        for layer in module.layers
    ]
    return max(reversed(layers), key=lambda linears: sum(map(_numbers, linears)), default=[])


def _numbers(one: Any) -> int:
    """Weights of a linear or an embedding, packed or not."""
    size = int(one.weight.size)
    return size * 32 // int(one.bits) if is_packed(one) else size


def _both(one: Any, share: float, kind: mx.Dtype) -> tuple[Any, Any]:
    """The first rows of a packed linear, packed and plain; no bias."""
    rows = max(32, round(one.weight.shape[0] * share))
    group, bits, mode = one.group_size, one.bits, one.mode
    packed: Any = nn.QuantizedLinear(group, 1, bias=False, group_size=group, bits=bits, mode=mode)
    packed.weight, packed.scales = one.weight[:rows], one.scales[:rows]
    packed.biases = None if one.biases is None else one.biases[:rows]
    plain = nn.Linear(1, 1, bias=False)
    plain.weight = dequantized(packed).astype(kind)
    mx.eval(packed.parameters(), plain.parameters())
    return packed, plain


def _enough(linears: Sequence[Any], tokens: int, kind: mx.Dtype) -> int:
    """How many tokens take these linears long enough to be timed."""
    count = min(tokens, _FEW)
    _seconds(linears, count, kind)  # a first call also makes kernels
    while count < tokens and _seconds(linears, count, kind) < _SECONDS:
        count = min(tokens, 4 * count)
    return count


def _seconds(linears: Sequence[Any], tokens: int, kind: mx.Dtype) -> float:
    """One forward pass and input gradient of each."""
    sizes = [(rows := int(one.weight.shape[0]), _numbers(one) // rows) for one in linears]
    ones = {size: mx.ones((tokens, size), kind) for both in sizes for size in both}
    mx.eval(list(ones.values()))
    begun = time.perf_counter()
    mx.eval(
        [
            mx.vjp(one, [ones[width]], [ones[out]])
            for one, (out, width) in zip(linears, sizes, strict=True)
        ]
    )
    return time.perf_counter() - begun
