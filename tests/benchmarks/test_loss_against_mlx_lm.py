"""What is learnt in equal epochs of Tiny Shakespeare, beside mlx-lm: the same rows, the same start.

Both adapters are measured by our own validation on the same held-out stretch. Same rank, layers,
optimizer and a constant rate; everything else is as each side has it by default. What an adapter
begins as and the order of the rows move either side by 0.05, so it is the mean over seeds that is
compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import mlx.core as mx
import pytest
import trial
from trial import drain

from mlx_lora.config import AdapterConfig, DataConfig
from mlx_lora.data.dataset import Dataset, build_dataset
from mlx_lora.data.source import find_source
from mlx_lora.lora.attach import attach, choose_shape
from mlx_lora.models.anatomy import take_apart
from mlx_lora.models.library import find_model
from mlx_lora.models.loading import load_model
from mlx_lora.training.objective import Objective
from mlx_lora.training.validation import Measured, measure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EPOCHS, RATE, LENGTH, SEEDS = 2, 1e-3, 128, (0, 1, 2)
_THEIRS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from mlx_lora import blas
blas.prepare()
import mlx.core as mx, mlx.optimizers, mlx_lm, numpy as np
from mlx_lm.tuner.trainer import TrainingArgs, train
from mlx_lm.tuner.utils import linear_to_lora_layers
model = mlx_lm.load(sys.argv[2])[0]
model.apply(lambda part: part.astype(mx.float32))
model.freeze()
given = json.load(open(sys.argv[3]))
mx.random.seed(given["seed"])
np.random.seed(given["seed"])
shape = {"rank": 8, "scale": given["scale"], "dropout": 0.0, "keys": given["keys"]}
linear_to_lora_layers(model, given["layers"], shape)
rows = [(row, 0) for row in given["rows"]]
settings = TrainingArgs(batch_size=4, iters=given["epochs"] * len(rows) // 4, val_batches=0,
    steps_per_report=10**6, steps_per_eval=10**6, steps_per_save=10**6, adapter_file=sys.argv[4])
rate = given["rate"]
optimizer = mlx.optimizers.AdamW(learning_rate=rate, weight_decay=0.0, bias_correction=True)
train(model, optimizer, rows, None, settings)
"""


@pytest.mark.parametrize("model", ["stories260k", "demo"])
def test_no_less_is_learnt_in_equal_epochs(
    model: str, stories: Path, shared: Path, tmp_path: Path
) -> None:
    source = stories if model == "stories260k" else find_model("demo")
    text = (shared / "tinyshakespeare.txt").read_text()
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text(text[:60_000])
    (data / "valid.txt").write_text(text[-20_000:])
    base = load_model(str(source))
    dataset = _dataset(data, base)
    ours = [_ours(source, data, tmp_path, seed) for seed in SEEDS]
    theirs = [_theirs(base, source, dataset, tmp_path, seed) for seed in SEEDS]
    start = drain(measure(Objective(base.module, take_apart(base.module)), dataset.validation, 8))
    sys.stdout.write(
        f"{model}, {len(dataset.training)} blocks of {LENGTH}, {EPOCHS} epochs: held-out loss "
        f"{start.loss:.4f} before, ours {_told(ours)}, mlx-lm {_told(theirs)}\n"
    )
    assert max(ours) < start.loss - 0.3
    assert fmean(ours) <= fmean(theirs) + 0.01


def _told(losses: list[float]) -> str:
    return f"{fmean(losses):.4f} ({', '.join(f'{loss:.4f}' for loss in losses)})"


def _dataset(data: Path, base: Any) -> Dataset:
    settings = DataConfig(source=str(data), max_length=LENGTH)
    return drain(
        build_dataset(
            find_source(settings, data),
            base.tokenizer,
            settings,
            context=base.context,
            seed=0,
            today="2026-01-01",
        )
    )


def _ours(source: Path, data: Path, folder: Path, seed: int) -> float:
    run = folder / f"run-{seed}"
    options = ("--max-length", str(LENGTH), "--epochs", str(EPOCHS), "--learning-rate", str(RATE))
    settings = folder / "settings.toml"
    settings.write_text(f"[training]\nseed = {seed}\nwarmup = 0.0\nfinal_rate = 1.0\n")
    never = ("--eval-every", "9999", "--sample-every", "9999", "--config", str(settings))
    whole = trial.train(source, data, run, *options, *never)
    assert whole.wait() == 0, whole.stderr
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    loss: float = events[-1]["result"]["adapted"]["loss"]
    return loss


def _theirs(base: Any, source: Path, dataset: Dataset, folder: Path, seed: int) -> float:
    shape, _ = choose_shape(base.module, AdapterConfig())
    rows = [row.tokens for row in dataset.training]
    given = folder / "given.json"
    given.write_text(
        json.dumps(
            {
                "rows": rows[: len(rows) // 4 * 4],
                "keys": list(shape.keys),
                "layers": shape.layers,
                "scale": shape.scale,
                "epochs": EPOCHS,
                "rate": RATE,
                "seed": seed,
            }
        )
    )
    adapter = folder / "theirs.safetensors"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _THEIRS, root, str(source), str(given), str(adapter)]
    subprocess.run(command, check=True, capture_output=True)
    attached = attach(base.module, shape)
    attached.load(mx.load(str(adapter)))
    attached.train(False)
    found: Measured = drain(
        measure(Objective(base.module, take_apart(base.module)), dataset.validation, 8)
    )
    attached.detach()
    return found.loss
