"""What a run does beside its steps takes no more memory than they do, by MLX's own counter."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
import trial

from mlx_lora.config import build_config
from mlx_lora.control import Control
from mlx_lora.events import Phase, Sample, TrainStep, Validation
from mlx_lora.preflight import make_record
from mlx_lora.runs import Run, RunStore
from mlx_lora.training.loop import train
from mlx_lora.training.step import Stepper

if TYPE_CHECKING:
    from pathlib import Path


def made(root: Path, tmp_path: Path, **training: Any) -> Run:
    chosen = build_config(
        {
            "model": {"source": "demo"},
            "data": {"source": str(trial.write_play(tmp_path)), "max_length": 64},
            "training": {"steps": 4, "warmup": 0} | training,
            "samples": {"tokens": 8},
        }
    )
    return RunStore(root).create(*make_record(chosen, root))


@pytest.mark.parametrize(
    "training",
    [{}, pytest.param({"grad_checkpoint": True}, marks=pytest.mark.slow)],
    ids=["kept", "made again"],
)
def test_evaluation_and_samples_stay_below_the_steps(
    root: Path, tmp_path: Path, training: dict[str, Any]
) -> None:
    """Each part's own peak: the counter begins anew wherever the run says something."""
    run = made(root, tmp_path, eval_every=2, sample_every=2, **training)
    steps, looks, stepped = [], [], False
    for event in train(run, root, Control()):
        peak = mx.get_peak_memory()
        mx.reset_peak_memory()
        match event:
            case TrainStep():
                steps.append(peak)
                stepped = True
            case Validation() | Sample() | Phase(name="validation" | "sampling") if stepped:
                looks.append(peak)
            case _:
                pass
    assert len(steps) == 4
    assert len(looks) >= 5
    print(f"steps {max(steps):,}, looks {max(looks):,}")  # noqa: T201
    assert 0 < max(looks) < max(steps)


def test_what_a_checkpoint_holds_is_gone_before_more_is_taken(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the disk: no step begins beside weights and moments of two steps before."""
    flush, launch, held = os.fsync, Stepper.launch, []

    def slow(handle: int) -> None:
        time.sleep(0.05)
        flush(handle)

    def watched(self: Stepper, step: int, *rest: Any) -> Any:
        mx.synchronize()
        held.append(mx.get_active_memory())
        return launch(self, step, *rest)

    run = made(root, tmp_path, eval_every=100, sample_every=100, save_every=2)
    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(Stepper, "launch", watched)
    for _ in train(run, root, Control()):
        pass
    assert len(held) == 4
    # a copy of the adapter is 0.5 MB, and moments have not been made before the first
    assert max(held[1:]) - min(held[1:]) < 100_000, held
