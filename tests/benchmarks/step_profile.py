"""Where a training step's time goes, and what share of the machine's matmul peak it reaches.

    python tests/benchmarks/step_profile.py MODEL [ROWS] [TOKENS]

The floor is the step's matrix products at the peak measured here: forward `2 N` operations a token,
backward `2 N` (no gradient for frozen weights), N the matrices a token goes through and, for
attention, `length x query width` a layer twice. Parts are timed alone, medians of several; they
need not add up to the step, since the engine overlaps them.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from mlx_lora import blas

blas.prepare()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import numpy as np  # noqa: E402

from mlx_lora.config import AdapterConfig, TrainingConfig  # noqa: E402
from mlx_lora.data.batching import lay_out  # noqa: E402
from mlx_lora.data.render import Rendered  # noqa: E402
from mlx_lora.lora.attach import attach, choose_shape, linears  # noqa: E402
from mlx_lora.models.anatomy import take_apart  # noqa: E402
from mlx_lora.models.loading import load_model  # noqa: E402
from mlx_lora.training.head_loss import make_head_loss  # noqa: E402
from mlx_lora.training.loss import Differentiation  # noqa: E402
from mlx_lora.training.objective import Objective  # noqa: E402
from mlx_lora.training.optimizers import AdamW  # noqa: E402
from mlx_lora.training.step import Stepper  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMES = 7


def seconds(work: Callable[[], Any]) -> float:
    """Median of several runs, after one that is not counted."""
    mx.eval(work())
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        mx.eval(work())
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def peak() -> float:
    """Operations a second of a large float32 product, the best of several."""
    size = 1536
    one = mx.random.normal((size, size))
    mx.eval(one @ one)
    best = min(seconds(lambda: one @ one) for _ in range(3))
    return 2 * size**3 / best


def operations(model: Any, rows: int, tokens: int) -> float:
    """Of one step's matrix products, forward and backward."""
    anatomy = take_apart(model)
    assert anatomy is not None
    inside = sum(
        module.weight.size for name, module in linears(model).items() if "head" not in name
    )
    numbers = inside + anatomy.head.vocabulary * anatomy.head.module.weight.shape[1]
    attention = getattr(model.args, "num_attention_heads", 1) * (
        getattr(model.args, "head_dim", None)
        or model.args.hidden_size // model.args.num_attention_heads
    )
    per_token = 4 * numbers + 4 * 2 * tokens * attention * len(anatomy.layers)
    return float(per_token * rows * tokens)


def main(source: str, rows: int, tokens: int) -> None:
    base = load_model(source)
    work = operations(base.module, rows, tokens)
    adapter = attach(base.module, choose_shape(base.module, AdapterConfig())[0])
    for module in adapter.modules.values():
        module.initialize(0)
    anatomy = take_apart(base.module)
    assert anatomy is not None
    generator = np.random.default_rng(0)
    documents = [
        Rendered(n, generator.integers(3, anatomy.head.vocabulary, tokens + 1).tolist(),
                 [0] + [1] * tokens)
        for n in range(rows)
    ]  # fmt: skip
    batch = lay_out([[one] for one in documents], tokens).on_device()
    objective = Objective(base.module, anatomy, chunked=True)
    compute = Differentiation(objective, adapter.dropout_key)
    stepper = Stepper(compute, AdamW(base.module, TrainingConfig()), clip=1.0, seed=0)
    body = nn.value_and_grad(base.module, lambda: anatomy.body(batch.inputs).sum())
    head = mx.value_and_grad(make_head_loss(anatomy.head))
    hidden = anatomy.body(batch.inputs).reshape(rows * tokens, -1)
    targets = batch.targets.reshape(-1)
    mx.eval(hidden, targets)

    def built() -> list[mx.array]:
        """The graph alone: nothing of it is computed."""
        compute.step([batch], batch.target_count, 0, 1)
        return []

    parts = {
        "whole step": lambda: stepper.launch(1, [batch], 1e-5).loss,
        "gradient": lambda: compute.step([batch], batch.target_count, 0, 1).flat,
        "body forward": lambda: anatomy.body(batch.inputs),
        "body forward and backward": body,
        "head, loss and its gradient": lambda: head(hidden, targets, batch.sure),
        "graph building (Python)": built,
    }
    top = peak()
    found = {name: seconds(part) for name, part in parts.items()}
    whole, floor = found["whole step"], work / top
    say = sys.stdout.write
    say(f"{base.name}, {base.form}, {rows} x {tokens} tokens, {blas.in_use()}, ")
    say(f"{blas.threads()} threads\npeak {top / 1e9:.0f} GFLOP/s (float32 product of 1536)\n")
    say(f"floor {floor * 1e3:.1f} ms, step {whole * 1e3:.1f} ms, MFU {floor / whole:.1%}\n")
    for name, taken in found.items():
        say(f"  {name}: {taken * 1e3:.1f} ms, {taken / whole:.0%}\n")


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else 4,
        int(sys.argv[3]) if len(sys.argv) > 3 else 128,
    )
