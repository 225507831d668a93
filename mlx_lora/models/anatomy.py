"""A decoder taken apart: body (ids to hidden states), its list of layers, and head (to logits).

Nothing of the model is changed. mlx-lm's families name these parts alike but not equal, so what is
found is believed only after `check` has put it together again and got the model's own logits.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import msgspec

# relative to the largest logit; what the order of sums may change in each type
_TOLERANCE = {mx.float32: 1e-3, mx.float16: 2e-2, mx.bfloat16: 1e-1}
# what a family whose parts go together in another way raises
FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_PACKED = (nn.QuantizedLinear, nn.QuantizedEmbedding)
_TABLES = (nn.Embedding, nn.QuantizedEmbedding)
# names under which families keep what they multiply or divide their logits by
_FACTORS, _DIVISORS = ("logit_scale",), ("logits_scaling",)


class Head(msgspec.Struct, frozen=True):
    """The last matrix of a decoder and what is done to its products.

    Attributes:
        module: a linear (vocabulary, width), or the embeddings that serve as one; packed or not.
        scale: the products are multiplied by it.
        cap: they are then bounded by `cap * tanh(z / cap)`; None where they are not.
    """

    module: Any
    scale: float = 1.0
    cap: float | None = None

    @property
    def frozen(self) -> bool:
        """Whether it has no adapter: its own gradient is never wanted."""
        return isinstance(self.module, (nn.Linear, *_PACKED, *_TABLES))

    @property
    def vocabulary(self) -> int:
        """How many logits."""
        # an adapter layer holds the matrix it stands beside
        return int(getattr(self.module, "linear", self.module).weight.shape[0])

    def products(self, hidden: mx.array) -> mx.array:
        """(n, width) to raw logits (n, vocabulary), before scale and cap."""
        as_linear = getattr(self.module, "as_linear", self.module)
        made: mx.array = as_linear(hidden)
        return made

    def logits(self, products: mx.array) -> mx.array:
        """Scale and cap put to raw logits."""
        if self.scale != 1.0:
            products = products * self.scale
        if self.cap is not None:
            products = self.cap * mx.tanh(products / self.cap)
        return products

    def back(self, gradient: mx.array) -> mx.array:
        """The gradient of raw logits (n, vocabulary) to that of hidden states (n, width)."""
        module = self.module
        if not isinstance(module, _PACKED):
            return gradient @ module.weight
        return mx.quantized_matmul(
            gradient,
            module.weight,
            scales=module.scales,
            biases=module.get("biases"),
            transpose=False,
            group_size=module.group_size,
            bits=module.bits,
            mode=module.mode,
        )

    def rows(self, ids: mx.array) -> mx.array:
        """The matrix's rows of some ids: (n,) to (n, width)."""
        module = self.module
        if not isinstance(module, _PACKED):
            return module.weight[ids]
        biases = module.get("biases")
        return mx.dequantize(
            module.weight[ids],
            scales=module.scales[ids],
            biases=None if biases is None else biases[ids],
            group_size=module.group_size,
            bits=module.bits,
            mode=module.mode,
        )


class Anatomy(msgspec.Struct, frozen=True):
    """The parts of a model.

    Attributes:
        body: called with ids (rows, length) and `cache=`, gives hidden states behind the last norm.
        layers: the very list the body goes through.
    """

    body: Any
    layers: list[Any]
    head: Head


def take_apart(model: Any) -> Anatomy | None:
    """The parts of a model; None where they do not make its own logits when put together."""
    try:
        anatomy = _find(model)
        whole = anatomy is not None and _agrees(model, anatomy)
    except FAULTS:
        return None
    return anatomy if whole else None


def list_of_layers(model: Any) -> list[Any]:
    """The list itself: some families' `model.layers` is a copy made at every call."""
    layers: list[Any] = _walk(model, layer_path(model))
    return layers


def layer_path(model: Any) -> str:
    """Name of the list of layers, e.g. `model.layers`."""
    first = model.layers[0]
    name = next(name for name, module in model.named_modules() if module is first)
    return name.removesuffix(".0")


def near(found: mx.array, wanted: mx.array) -> bool:
    """Equal but for the order in which their type sums."""
    tolerance = _TOLERANCE.get(wanted.dtype, _TOLERANCE[mx.float32])
    wanted, found = wanted.astype(mx.float32), found.astype(mx.float32)
    if wanted.shape != found.shape:
        return False
    return bool((mx.abs(wanted - found).max() <= tolerance * mx.abs(wanted).max()).item())


def trial_ids(model: Any, count: int, rows: int = 1) -> mx.array:
    """Ids (rows, count) to try a model with, spread over its vocabulary."""
    anatomy = _find(model)
    size = anatomy.head.vocabulary if anatomy else count
    return (7 + 31 * mx.arange(rows * count).reshape(rows, count)) % size


def _find(model: Any) -> Anatomy | None:
    *path, _ = layer_path(model).split(".")
    body = _walk(model, ".".join(path))
    owner = _walk(model, ".".join(path[:-1]))
    module = owner.get("lm_head")
    if module is None:
        found = [part for part in body.children().values() if isinstance(part, _TABLES)]
        module = found[0] if len(found) == 1 else None
    if module is None:
        return None
    settings = getattr(owner, "args", None)
    cap = getattr(settings, "final_logit_softcapping", None)
    scale = 1.0
    for name in _FACTORS:
        scale *= getattr(settings, name, None) or 1.0
    for name in _DIVISORS:
        scale /= getattr(settings, name, None) or 1.0
    return Anatomy(body, list_of_layers(model), Head(module, scale, cap))


def _agrees(model: Any, anatomy: Anatomy) -> bool:
    ids = trial_ids(model, 4)
    head = anatomy.head
    found = head.logits(head.products(anatomy.body(ids)))
    return near(found, model(ids))


def _walk(model: Any, path: str) -> Any:
    place: Any = model
    for part in path.split(".") if path else ():
        place = place[int(part)] if part.isdigit() else place[part]
    return place
