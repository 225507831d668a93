"""How far a packed model is from the one it was made of: mean KL and the next token, on texts.

Both are run layer by layer, each layer read from the disk when its turn comes and let go behind it,
so that neither has to fit into memory. The texts are ours: stories, dialogue, code, plain prose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from mlx_lora.data.samples import story_texts
from mlx_lora.export import verdict
from mlx_lora.export.reference import TEXTS, Reference
from mlx_lora.models.anatomy import list_of_layers
from mlx_lora.models.description import core_description
from mlx_lora.models.library import check_model
from mlx_lora.models.loading import build_model
from mlx_lora.models.quantize import dequantize_model
from mlx_lora.models.tensors import weight_files
from mlx_lora.models.tokenizer import read_tokenizer
from mlx_lora.training.layers import Passed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from mlx_lora.export.verdict import Difference
    from mlx_lora.models.tokenizer import Tokenizer

_ROW, _POSITIONS = 64, 1024
# bytes of logits kept of each model: a vocabulary of 262 k leaves 381 positions
_ROOM = 400_000_000
_FLOATS = (mx.float32, mx.float16, mx.bfloat16)
Steps = tuple[str, int, int]


def measure_loss(original: str, packed: str, folder: Path) -> Generator[Steps, None, Difference]:
    """Compare two folders of one model; yields (what, layers done, of how many).

    Args:
        original: MODEL it was made of.
        packed: the folder that was written.
        folder: for the logits of both, which go when it does.

    Raises:
        UserError: whatever is wrong with either folder.
    """
    base, made = folder / "original.f32", folder / "packed.f32"
    place, description, _ = check_model(original)
    size = core_description(description)["vocab_size"]
    tokenizer = read_tokenizer(place, description["stop_token_ids"], size)
    rows = sample_rows(tokenizer, min(_POSITIONS, max(64, _ROOM // (4 * size))))
    for what, source, path in (
        ("measuring_original", original, base),
        ("measuring_packed", packed, made),
    ):
        for done, total in write_logits(source, rows, path):
            yield what, done, total
    size = base.stat().st_size // (4 * sum(map(len, rows)))
    reference = Reference(rows, (), own=False, form="", vocabulary=size, base=base, adapted=base)
    return verdict.compare(reference, made, "coarse")[0]


def sample_rows(tokenizer: Tokenizer, room: int) -> tuple[tuple[int, ...], ...]:
    """Up to `room` tokens in rows of 64 at most: the first of every text, then the second, ..."""
    documents = [tokenizer.encode_document(text) for text in (*TEXTS, *story_texts())]
    rows: list[tuple[int, ...]] = []
    for begin in range(0, max(map(len, documents)), _ROW):
        for ids in documents:
            row = tuple(ids[begin : begin + min(_ROW, room)])
            if len(row) > 1:
                rows.append(row)
                room -= len(row)
            if room <= 1:
                return tuple(rows)
    return tuple(rows)


def write_logits(
    source: str, rows: tuple[tuple[int, ...], ...], path: Path
) -> Generator[tuple[int, int]]:
    """float32 logits of every row, one after the other; yields (layers done, of how many)."""
    folder, description, _ = check_model(source)
    module = build_model(folder, description, weight_files(folder))
    module.freeze()
    module.eval()
    on_cpu = mx.default_device() == mx.cpu
    if on_cpu:  # half-precision and packed kernels are slow there
        module.apply(lambda array: array.astype(mx.float32) if array.dtype in _FLOATS else array)
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row  # what stands behind a row is not seen by it
    logits = yield from _through(module, mx.array(ids), dequantize_model if on_cpu else None)
    with path.open("wb") as file:
        for number, row in enumerate(rows):
            np.array(logits[number, : len(row)].astype(mx.float32)).tofile(file)
            mx.clear_cache()


def _through(
    module: Any, ids: mx.array, unpack: Callable[[Any, mx.Dtype], None] | None
) -> Generator[tuple[int, int], None, mx.array]:
    """Logits (rows, length, vocabulary); the weights of each layer are gone behind it.

    For every layer the model is called anew with the layers before it passed over, and left as soon
    as this one has answered: so a layer is called as its own family calls it.
    """
    layers = list_of_layers(module)
    originals = list(layers)
    if unpack is not None:
        layers[:] = []
        unpack(module, mx.float32)  # embeddings and output matrix
    hidden: Any = None
    for number, layer in enumerate(originals):
        yield number, len(originals)
        if unpack is not None:
            unpack(layer, mx.float32)
        passed = [Passed(one) for one in originals[:number]]
        if passed:
            passed[-1] = Passed(originals[number - 1], hidden)
        layers[:] = [*passed, _Last(layer), *originals[number + 1 :]]
        try:
            module(ids)
        except _AnsweredError as answer:
            hidden = answer.hidden
        layer.update(tree_map(lambda _: mx.array([]), layer.parameters()))
        mx.clear_cache()
    layers[:] = [*map(Passed, originals[:-1]), Passed(originals[-1], hidden)]
    logits: mx.array = module(ids)
    mx.eval(logits)
    return logits


class _AnsweredError(Exception):
    """A layer has answered, and what comes behind it need not be computed."""

    def __init__(self, hidden: Any) -> None:
        super().__init__()
        self.hidden = hidden


class _Last:
    """A layer behind which a call ends."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        hidden = self._layer(*inputs, **named)
        mx.eval(hidden)
        raise _AnsweredError(hidden)
