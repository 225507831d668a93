"""Speed against mlx-lm on the same work: interleaved pairs in one run, the median of their ratios.

Same model, same blocks of real text, same layers, rank and batch; mlx-lm's own `train()` and
`load()` are what is called. No absolute time is asserted. `-s` prints the table.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from trial import ROOT

from mlx_lora import blas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
_STEPS, _ROWS, _LENGTH = 6, 4, 129


def ratios(theirs: Callable[[], float], ours: Callable[[], float], pairs: int) -> list[float]:
    """Their time over ours, pair by pair; the order of a pair alternates."""
    found = []
    for number in range(pairs):
        if number % 2:
            mine, other = ours(), theirs()
        else:
            other, mine = theirs(), ours()
        found.append(other / mine)
    return found


def tell(name: str, values: list[float]) -> float:
    middle = statistics.median(values)
    spread = f"[{min(values):.2f}, {max(values):.2f}], {len(values)} pairs"
    sys.stdout.write(f"{name}: {middle:.2f}x mlx-lm {spread}, {blas.in_use()}\n")
    return middle


@pytest.fixture
def blocks(stories: Path, shared: Path) -> list[list[int]]:
    """Full blocks of Tiny Shakespeare, so that neither side pads."""
    from mlx_lora.models.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(stories, [2], 512)
    ids = tokenizer.encode((shared / "tinyshakespeare.txt").read_text()[:40_000])
    starts = range(0, len(ids) - _LENGTH, _LENGTH)
    return [ids[at : at + _LENGTH] for at in starts][: _ROWS * _STEPS]


@pytest.mark.filterwarnings("ignore")
def test_training_step_is_not_slower(
    stories: Path, blocks: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # other tests of this process may have left our stand-in for mlx-lm's package
    for name in [n for n in sys.modules if n.partition(".")[0] == "mlx_lm"]:
        monkeypatch.delitem(sys.modules, name)
    theirs = _mlx_lm_trainer(stories, blocks, tmp_path)
    ours = _our_trainer(stories, blocks)
    theirs(), ours()
    assert tell("training, fixed blocks", ratios(theirs, ours, 9)) > 0.9


def test_loading_is_faster(stories: Path) -> None:
    start = "import sys; sys.path.insert(0, sys.argv[2])\n"
    start += "from mlx_lora import blas; blas.prepare()\n"
    ours = "from mlx_lora.models.loading import load_model; load_model(sys.argv[1])"
    theirs = "import mlx_lm; mlx_lm.load(sys.argv[1])"

    def timed(code: str) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            command = [sys.executable, "-c", start + code, str(stories), str(ROOT)]
            subprocess.run(command, check=True, capture_output=True)
            return time.perf_counter() - began

        return run

    assert tell("process start and load", ratios(timed(theirs), timed(ours), 5)) > 3


def _mlx_lm_trainer(stories: Path, blocks: list[list[int]], folder: Path) -> Callable[[], float]:
    import mlx.core as mx
    import mlx.optimizers
    import mlx_lm
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model = mlx_lm.load(str(stories))[0]
    model.freeze()
    linear_to_lora_layers(model, 5, {"rank": 8, "scale": 2.0, "dropout": 0.0, "keys": _keys()})
    mx.eval(model.parameters())
    data = [(row, 0) for row in blocks]
    settings = TrainingArgs(
        batch_size=_ROWS,
        iters=_STEPS,
        val_batches=0,
        steps_per_report=10_000,
        steps_per_eval=10_000,
        steps_per_save=10_000,
        adapter_file=str(folder / "adapters.safetensors"),
    )

    def run() -> float:
        optimizer = mlx.optimizers.AdamW(learning_rate=1e-5)
        began = time.perf_counter()
        train(model, optimizer, data, None, settings)
        return time.perf_counter() - began

    return run


def _our_trainer(stories: Path, blocks: list[list[int]]) -> Callable[[], float]:
    from mlx_lora.config import AdapterConfig, TrainingConfig
    from mlx_lora.data.batching import make_batch
    from mlx_lora.data.render import Rendered
    from mlx_lora.lora.attach import attach, choose_shape
    from mlx_lora.models.loading import load_model
    from mlx_lora.training.loss import clipped, step_gradient
    from mlx_lora.training.optimizers import AdamW

    base = load_model(str(stories))
    adapter = attach(base.module, choose_shape(base.module, AdapterConfig())[0])
    for module in adapter.modules.values():
        module.initialize(0)
    rows = [Rendered(n, ids, [0] + [1] * (len(ids) - 1)) for n, ids in enumerate(blocks)]

    def run() -> float:
        optimizer = AdamW(base.module, TrainingConfig())
        began = time.perf_counter()
        for step, group in enumerate(_groups(rows)):
            key: Any = adapter.dropout_key
            gradient = step_gradient(base.module, [make_batch(group)], key=key, seed=0, step=step)
            optimizer.update(clipped(gradient, 1.0), 1e-5)
        return time.perf_counter() - began

    return run


def _groups(rows: list[Any]) -> list[list[Any]]:
    return [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]


def _keys() -> list[str]:
    attention = [f"self_attn.{name}_proj" for name in "qkvo"]
    return attention + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
