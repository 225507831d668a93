"""Memory and speed of the engine's forms against the plain ones and mlx-lm's own step.

Same model, same rows; peaks are MLX's own counter above what is held before; speeds are medians of
interleaved pairs. `-s` prints the figures. No absolute time is asserted.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter
from trial import drain

from mlx_lora import blas
from mlx_lora.data.batching import lay_out
from mlx_lora.data.render import Rendered
from mlx_lora.models.anatomy import Head, take_apart
from mlx_lora.models.definitions import model_classes
from mlx_lora.training.head_loss import make_head_loss
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.objective import Objective
from mlx_lora.training.prefix import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlx_lora.data.batching import Batch

pytestmark = pytest.mark.slow
_WORDS = 65_536


def peak(compute: Callable[[], Any]) -> tuple[float, float]:
    """(seconds, MB above what is held) of one call."""
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    began = time.perf_counter()
    mx.eval(compute())
    seconds = time.perf_counter() - began
    return seconds, (mx.get_peak_memory() - before) / 1e6


def compare(
    name: str, plain: Callable[[], Any], ours: Callable[[], Any], pairs: int = 5
) -> tuple[float, float]:
    """(speed, memory): plain over ours; the median of interleaved pairs, printed."""
    peak(plain), peak(ours)
    speeds, memories = [], []
    for number in range(pairs):
        order = (plain, ours) if number % 2 else (ours, plain)
        found = {one: peak(one) for one in order}
        speeds.append(found[plain][0] / found[ours][0])
        memories.append((found[plain][1], found[ours][1]))
    speed = statistics.median(speeds)
    theirs, mine = (statistics.median(side) for side in zip(*memories, strict=True))
    spread = f"[{min(speeds):.2f}, {max(speeds):.2f}]"
    sys.stdout.write(
        f"{name}: speed {speed:.2f}x {spread}, {pairs} pairs; extra memory {theirs:.0f} MB against "
        f"{mine:.0f} MB, {theirs / mine:.1f}x; {blas.in_use()}\n"
    )
    return speed, theirs / mine


def gemma_like(layers: int = 6) -> Any:
    """A random Gemma 3 of small widths and a vocabulary of 65 k."""
    model_class, arguments = model_classes("gemma3_text")
    mx.random.seed(0)
    model = model_class(
        arguments.from_dict(
            {
                "model_type": "gemma3_text",
                "vocab_size": _WORDS,
                "hidden_size": 320,
                "intermediate_size": 1024,
                "num_hidden_layers": layers,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "head_dim": 80,
                "query_pre_attn_scalar": 80,
                "sliding_window": 512,
            }
        )
    )
    model.sanitize({})
    mx.eval(model.parameters())
    return model


def rows_of(lengths: list[int], learnt: float = 1.0) -> list[Rendered]:
    generator = np.random.default_rng(0)
    return [
        Rendered(
            n,
            generator.integers(3, _WORDS, length).tolist(),
            [0, *(generator.random(length - 1) < learnt).astype(int).tolist()],
        )
        for n, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(("learnt", "faster"), [(1.0, 0.9), (0.5, 1.8)])
def test_the_head_never_holds_all_logits(learnt: float, faster: float) -> None:
    """1,024 positions, 65 k words; with half of them learnt the rest costs nothing."""
    table = nn.Embedding(_WORDS, 320)
    generator = np.random.default_rng(0)
    hidden = mx.array(generator.standard_normal((1024, 320), np.float32))
    targets = mx.array(generator.integers(0, _WORDS, 1024))
    mask = generator.random(1024) < learnt
    weights, places = mx.array(mask.astype(np.float32)), mx.array(np.flatnonzero(mask))
    mx.eval(table.parameters(), hidden, targets, weights, places)

    def materialised(states: mx.array) -> mx.array:
        logits = table.as_linear(states)
        return (nn.losses.cross_entropy(logits, targets) * weights).sum()

    chunked = make_head_loss(Head(table))

    def ours(states: mx.array) -> mx.array:
        return chunked(states[places], targets[places], mx.ones(places.shape))

    plain, mine = mx.value_and_grad(materialised), mx.value_and_grad(ours)
    (loss, gradient), (found, other) = plain(hidden), mine(hidden)
    assert found.item() == pytest.approx(loss.item(), rel=1e-5)
    assert mx.abs(other - gradient).max().item() < 1e-5 * mx.abs(gradient).max().item()
    speed, memory = compare(
        f"head, {learnt:.0%} of the positions learnt", lambda: plain(hidden), lambda: mine(hidden)
    )
    assert speed > faster
    assert memory >= 20


def test_a_step_takes_a_tenth_of_the_memory() -> None:
    """A whole step on a large vocabulary against mlx-lm's, both with layers recomputed and not."""
    model = gemma_like()
    adapter = attach_adapter(model, rank=8)
    batch = lay_out([[row] for row in rows_of([129] * 4)], 128).on_device()
    anatomy = take_apart(model)
    assert anatomy is not None
    ours = Differentiation(
        Objective(model, anatomy, chunked=True, recompute=1), adapter.dropout_key
    )
    plain = nn.value_and_grad(model, _mlx_lm_loss)

    def theirs() -> Any:
        return plain(model, batch)

    speed, memory = compare(
        "a step, 512 positions, 65 k words", theirs, lambda: _all(ours, batch), pairs=3
    )
    assert memory >= 10
    assert speed > 0.6


def test_frozen_layers_cost_nothing_after_the_first_epoch() -> None:
    """A quarter of the layers adapted: the other three quarters are gone from every later epoch."""
    model = _llama(12)
    adapter = attach_adapter(model, rank=8, layers=3)
    anatomy = take_apart(model)
    assert anatomy is not None
    rows = [
        Rendered(n, [3 + at % 500 for at in row.tokens], row.mask)
        for n, row in enumerate(rows_of([97] * 4))
    ]
    cache = drain(fill(anatomy, 9, rows, 1 << 30))
    layout = [[number] for number in range(4)]
    batch = lay_out([[row] for row in rows], 96).on_device()
    given = _with(batch, cache.states(cache.gather(layout, 96)))
    compute = Differentiation(Objective(model, anatomy, chunked=True, first=9), adapter.dropout_key)
    one, other = _all(compute, batch), _all(compute, given)
    assert other[0].item() == pytest.approx(one[0].item(), rel=1e-3)
    assert mx.abs(other[1] - one[1]).max().item() < 5e-3 * mx.abs(one[1]).max().item()
    speed, _ = compare(
        "epochs 2 and on, 3 of 12 layers adapted",
        lambda: _all(compute, batch),
        lambda: _all(compute, given),
        pairs=7,
    )
    assert speed >= 2


def _llama(layers: int) -> Any:
    model_class, arguments = model_classes("llama")
    mx.random.seed(0)
    model = model_class(
        arguments.from_dict(
            {
                "model_type": "llama",
                "vocab_size": 512,
                "hidden_size": 512,
                "intermediate_size": 1408,
                "num_hidden_layers": layers,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "rms_norm_eps": 1e-5,
                "tie_word_embeddings": True,
            }
        )
    )
    mx.eval(model.parameters())
    return model


def _mlx_lm_loss(model: Any, batch: Batch) -> mx.array:
    """What mlx_lm.tuner.trainer.default_loss computes: all logits, then the mask."""
    logits = model(batch.inputs)
    losses = nn.losses.cross_entropy(logits, batch.targets) * batch.weights
    return losses.astype(mx.float32).sum() / batch.weights.sum()


def _all(compute: Differentiation, batch: Batch) -> tuple[mx.array, mx.array]:
    found = compute.step([batch], batch.target_count, 0, 1)
    return found.loss, found.flat


def _with(batch: Batch, given: mx.array) -> Batch:
    import msgspec

    return msgspec.structs.replace(batch, given=given)
