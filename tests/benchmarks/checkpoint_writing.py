"""What a checkpoint costs the computing thread:  python tests/benchmarks/checkpoint_writing.py

For the demo model and for an adapter of the size that Llama 3.2 1B has (rank 8, every linear: 5.6
million numbers, and AdamW's two moments of each), in interleaved pairs of

- before: MLX writes the files, they are hashed, flushed to the disk and renamed, all of it waited
  for; what is no longer wanted is deleted;
- after: the snapshot, which the writer's thread then does the same with. The time until it is on
  disk is given apart: it costs the run only where a step is shorter.

Each save is of another step into the same folder, its optimizer state made by the update before, so
none finds anything made already. Ratios are those of the pairs: median [smallest, largest].
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parents[2])]

from mlx_lora import blas

blas.prepare()

import mlx.core as mx
import mlx.nn as nn

from mlx_lora.checkpoints import OPTIMIZER, WEIGHTS, Snapshot, prune, save_checkpoint
from mlx_lora.config import AdapterConfig, TrainingConfig
from mlx_lora.lora.attach import AdapterShape, attach, choose_shape
from mlx_lora.lora.store import AdapterFacts, adapter_files
from mlx_lora.models.loading import load_model
from mlx_lora.models.tensor_pieces import tensor_pieces
from mlx_lora.training.loss import flatten
from mlx_lora.training.optimizers import AdamW
from mlx_lora.training.writer import CheckpointWriter

# (output, input) widths of the linears of a layer of Llama 3.2 1B
_LINEARS = {
    "self_attn.q_proj": (2048, 2048),
    "self_attn.k_proj": (512, 2048),
    "self_attn.v_proj": (512, 2048),
    "self_attn.o_proj": (2048, 2048),
    "mlp.gate_proj": (8192, 2048),
    "mlp.up_proj": (8192, 2048),
    "mlp.down_proj": (2048, 8192),
}
_LAYERS, _RANK, _KEEP = 16, 8, 2


class Trained(NamedTuple):
    """What a checkpoint is made of."""

    model: Any
    tensors: Any
    optimizer: AdamW
    shape: AdapterShape


def demo() -> Trained:
    model = load_model("demo", "4").module
    shape, _ = choose_shape(model, AdapterConfig())
    adapter = attach(model, shape)
    for module in adapter.modules.values():
        module.initialize(0)
    return Trained(model, adapter.tensors, AdamW(model, TrainingConfig()), shape)


def large() -> Trained:
    model = nn.Module()
    for layer in range(_LAYERS):
        for name, (wide, narrow) in _LINEARS.items():
            linear = nn.Module()
            linear.lora_a = mx.random.normal((narrow, _RANK))
            linear.lora_b = mx.random.normal((_RANK, wide))
            setattr(model, f"model.layers.{layer}.{name}".replace(".", "_"), linear)

    def tensors() -> dict[str, mx.array]:
        return {
            f"{name}.{part}": tensor
            for name, linear in model.children().items()
            for part, tensor in linear.items()
        }

    shape = AdapterShape(
        rank=_RANK, scale=2.0, dropout=0.0, layers=_LAYERS, keys=tuple(_LINEARS), kind="lora"
    )
    return Trained(model, tensors, AdamW(model, TrainingConfig()), shape)


FACTS = AdapterFacts(
    base_name="m", base_fingerprint="f", bits="keep", prompt_style="raw", template_sha256="",
    settings={}, step=1, version="0",
)  # fmt: skip


def advance(trained: Trained) -> None:
    """One update, so that weights and moments are new arrays."""
    ones = mx.ones_like(flatten(list(trained.tensors().values())))
    trained.optimizer.advance(ones, 1e-4, mx.array(True))
    mx.eval(trained.optimizer.pending())


def before(trained: Trained, folder: Path, step: int) -> None:
    """As it was written on the computing thread."""

    def write(temporary: Path) -> None:
        mx.save_safetensors(str(temporary / WEIGHTS), trained.tensors(), {"format": "mlx"})
        mx.save_safetensors(str(temporary / OPTIMIZER), trained.optimizer.tensors())

    save_checkpoint(
        folder, step, write,
        state={}, environment={}, base_fingerprint="f", validation_loss=None,
    )  # fmt: skip
    prune(folder, _KEEP)


def after(trained: Trained, writer: CheckpointWriter, step: int) -> None:
    """As the computing thread does it now."""
    writer.save(
        Snapshot(
            step=step,
            files={
                **adapter_files(trained.tensors(), trained.shape, FACTS, WEIGHTS),
                OPTIMIZER: tensor_pieces(trained.optimizer.tensors(), {}),
            },
            state={},
            environment={},
            base_fingerprint="f",
        )
    )


def compare(name: str, trained: Trained, pairs: int) -> None:
    old, new, disk = [], [], []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        one, other = Path(place, "one"), Path(place, "other")
        with CheckpointWriter(other, _KEEP) as writer:
            for step in range(1, pairs + 2):
                advance(trained)
                begun = time.perf_counter()
                before(trained, one, step)
                old.append(time.perf_counter() - begun)
                advance(trained)
                begun = time.perf_counter()
                after(trained, writer, step)
                new.append(time.perf_counter() - begun)
                writer.wait()
                disk.append(time.perf_counter() - begun)
    # the first pair is a warm-up
    ratios = [a / b for a, b in zip(old[1:], new[1:], strict=True)]
    numbers = sum(tensor.size for tensor in trained.tensors().values())
    print(  # noqa: T201
        f"{name}, {numbers / 1e6:.2f} million numbers: before {_spread(old[1:], 1e3)} ms, "
        f"after {_spread(new[1:], 1e3)} ms ({_spread(ratios)} times less), "
        f"on disk after {_spread(disk[1:], 1e3)} ms; {pairs} pairs"
    )


def _spread(values: list[float], unit: float = 1.0) -> str:
    found = [value * unit for value in values]
    return f"{statistics.median(found):.1f} [{min(found):.1f}, {max(found):.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=21)
    pairs = parser.parse_args().pairs
    compare("demo", demo(), pairs)
    compare("Llama 3.2 1B's widths", large(), pairs)


if __name__ == "__main__":
    main()
