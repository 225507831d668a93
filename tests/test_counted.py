"""What the forecast counts, against MLX's own counter: each part to 2 %.

What is kept between the passes is measured between them: the loss is computed, the gradient is not
yet, and whatever the backward pass will want is alive. Buffers are not reused, because one that is
taken from the cache may be larger than what was asked for.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from models_made import attach_adapter, make_model, random_rows

from mlx_lora.batches import Batch
from mlx_lora.config import RunConfig, build_config
from mlx_lora.data.batching import make_batch
from mlx_lora.forecast import adapter_bytes, base_of, kept_bytes, logits_bytes, weight_bytes
from mlx_lora.models.anatomy import Head, take_apart
from mlx_lora.models.loading import load_model
from mlx_lora.models.shape import Shape
from mlx_lora.models.shelf import look_up
from mlx_lora.training.head_loss import make_head_loss
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.objective import Objective
from mlx_lora.training.optimizers import AdamW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(mx.default_device() != mx.cpu, reason="Metal's kernels keep less")
FAMILIES = ("llama", "gemma2", "gemma3_text", "gpt_oss", "qwen3", "phi3")
ROWS, LENGTH = 3, 65
SIZES = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32, "num_hidden_layers": 4}


@pytest.fixture(autouse=True)
def _nothing_is_reused() -> Iterator[None]:
    before = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(before)


def made(folder: Path, family: str, **changes: Any) -> str:
    """A random model of four layers that see the whole row."""
    kinds: dict[str, Any] = {}
    if family in {"gemma3_text", "gpt_oss"}:
        kinds = {"layer_types": ["sliding_attention", "full_attention"] * 2}
        kinds |= {"sliding_window": 512, "sliding_window_pattern": 2}
    return str(make_model(folder / family, family, **(SIZES | kinds | changes)))


def config(source: str, **changes: Any) -> RunConfig:
    tree = {"model": {"source": source}, "data": {"source": "d", "max_length": LENGTH}}
    return build_config(tree | changes)


def kept(source: str, chosen: RunConfig, kind: mx.Dtype = mx.float32) -> tuple[int, int]:
    """(bytes alive between the passes, those of the head's part) of a batch, every token learnt."""
    model = load_model(source).module
    model.set_dtype(kind)
    adapter = attach_adapter(model, **{n: getattr(chosen.adapter, n) for n in _ADAPTER})
    adapter.train(True)
    training = chosen.training
    objective = Objective(
        model,
        take_apart(model),
        chunked=True,
        recompute=training.checkpoint_every if training.grad_checkpoint else 0,
        first=len(model.layers) - adapter.shape.layers,
    )
    batch = make_batch(random_rows([LENGTH] * ROWS, learnt=1.0))
    mx.eval(model.parameters(), batch.inputs, batch.targets, batch.learnt, batch.sure)
    differentiation = Differentiation(objective, adapter.dropout_key)
    gc.collect()
    mx.synchronize()
    before = mx.get_active_memory()
    found = differentiation.step([batch], batch.target_count, 0, 1)
    mx.eval(found.loss)
    mx.synchronize()
    return mx.get_active_memory() - before, batch.learnt.size * SIZES["hidden_size"] * 4


_ADAPTER = ("rank", "dropout", "targets", "layers")
SOME: list[tuple[str, dict[str, Any], mx.Dtype]] = [
    ("llama", {}, mx.float32),
    ("gpt_oss", {}, mx.float32),
    ("gemma2", {"targets": ("attention",)}, mx.bfloat16),
    ("gemma3_text", {"targets": ("mlp",)}, mx.float32),
    ("llama", {"layers": 2, "rank": 16, "dropout": 0.1}, mx.float32),
]
MORE: list[tuple[str, dict[str, Any], mx.Dtype]] = [
    *((family, {}, mx.float32) for family in FAMILIES),
    *((family, {}, mx.bfloat16) for family in ("llama", "gemma2", "gemma3_text")),
    *((family, {"targets": ("attention",)}, mx.float32) for family in FAMILIES),
    *((family, {"targets": ("mlp",)}, mx.float32) for family in FAMILIES),
    ("llama", {"layers": 2, "rank": 16}, mx.float32),
    ("llama", {"dropout": 0.1}, mx.float32),
]
CASES = [*SOME, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE if case not in SOME)]


@pytest.mark.parametrize(("family", "adapter", "kind"), CASES)
def test_what_is_kept_between_the_passes(
    tmp_path: Path, family: str, adapter: dict[str, Any], kind: mx.Dtype
) -> None:
    source = made(tmp_path, family)
    chosen = config(source, adapter=adapter)
    _compare(source, chosen, kind)


@pytest.mark.parametrize("every", [1, 2])
def test_what_is_kept_of_layers_made_again(tmp_path: Path, every: int) -> None:
    source = made(tmp_path, "llama")
    training = {"grad_checkpoint": True, "checkpoint_every": every}
    _compare(source, config(source, training=training))


def _compare(source: str, chosen: RunConfig, kind: mx.Dtype = mx.float32) -> None:
    found, head = kept(source, chosen, kind)
    shape = look_up(source).shape
    assert shape is not None
    batch = Batch(ROWS * (LENGTH - 1), LENGTH - 1)
    counted = kept_bytes(chosen, shape, batch, kind.size) + head
    if kind != mx.float32:
        copies = adapter_bytes(chosen, shape, kind.size) - adapter_bytes(chosen, shape)
        counted += copies
    print(f"{counted / found:.4f} of {found:,}")  # noqa: T201
    assert counted == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize(
    ("family", "bits"),
    [
        ("llama", "keep"), ("gpt_oss", "4"),
        *(pytest.param(family, bits, marks=pytest.mark.slow)
          for family in ("llama", "gemma3_text", "gpt_oss") for bits in ("4", "8")),
    ],
)  # fmt: skip
def test_weights_packed_and_not(tmp_path: Path, family: str, bits: str) -> None:
    source = made(tmp_path, family, intermediate_size=96)
    _compare_weights(source, bits)


@pytest.mark.parametrize("bits", ["keep", "4"])
def test_weights_that_no_group_divides(stories: Path, bits: str) -> None:
    _compare_weights(str(stories), bits)


def _compare_weights(source: str, bits: str) -> None:
    base = base_of(look_up(source))
    assert base is not None
    chosen = config(source, model={"source": source, "bits": bits}, engine={"base": "packed"})
    held = nn.utils.tree_flatten(load_model(source, bits, "packed").module.parameters())
    found = sum(array.nbytes for _, array in held)
    assert weight_bytes(chosen, base, metal=False) == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize(
    ("words", "hidden", "tokens"),
    [
        pytest.param(4096, 64, 512, marks=pytest.mark.slow),
        (32_768, 64, 256),
        pytest.param(65_536, 128, 96, marks=pytest.mark.slow),
    ],
)
def test_the_scores_of_a_chunk(words: int, hidden: int, tokens: int) -> None:
    """One chunk that is all, and several, each made when the one before is done with."""
    linear = nn.Linear(hidden, words, bias=False)
    loss = make_head_loss(Head(linear))
    states, sure = mx.random.normal((tokens, hidden)), mx.ones(tokens)
    targets = mx.zeros((tokens,), mx.int32)
    mx.eval(linear.parameters(), states, targets, sure)
    gc.collect()
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.value_and_grad(lambda x: loss(x, targets, sure))(states))
    mx.synchronize()
    found = mx.get_peak_memory() - before
    shape = Shape(
        family="llama", layers=1, hidden=hidden, intermediate=1, heads=1, kv_heads=1, head_dim=1,
        vocabulary=words, context=0, tied=True,
    )  # fmt: skip
    assert logits_bytes(config("m"), shape, tokens, 4) == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_the_adapter_with_its_moments(tmp_path: Path, family: str) -> None:
    """Parameters and two moments; the gradient is a fourth copy that comes with a step."""
    source = made(tmp_path, family)
    chosen = config(source)
    model = load_model(source).module
    mx.eval(model.parameters())
    gc.collect()
    before = mx.get_active_memory()
    adapter = attach_adapter(model)
    optimizer = AdamW(model, chosen.training)
    mx.eval(adapter.tensors(), optimizer.pending())
    gc.collect()
    found = mx.get_active_memory() - before
    shape = look_up(source).shape
    assert shape is not None
    assert adapter_bytes(chosen, shape) * 3 / 4 == pytest.approx(found, rel=0.02)
