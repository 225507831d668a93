"""AdamW against NumPy float64, and its state to a file and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import as_numpy, attach_adapter, make_model, random_rows
from reference import adamw

from mlx_lora.config import TrainingConfig
from mlx_lora.data.batching import make_batch
from mlx_lora.models.loading import load_model
from mlx_lora.training.loss import step_gradient
from mlx_lora.training.optimizers import AdamW

if TYPE_CHECKING:
    from pathlib import Path

RATES = [0.001, 0.01, 0.02, 0.015, 0.005]


def small() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    generator = np.random.default_rng(0)
    for layer in model.layers:
        layer.weight = mx.array(generator.normal(0, 1, layer.weight.shape).astype(np.float32))
    model.layers[0].freeze()
    return model


def gradients(model: nn.Module, steps: int) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    names = {name: p.shape for name, p in nn.utils.tree_flatten(model.trainable_parameters())}
    return [
        {
            n: generator.normal(0, 10.0 ** -(step % 3), s).astype(np.float32)
            for n, s in names.items()
        }
        for step in range(steps)
    ]


def as_tree(gradient: dict[str, np.ndarray]) -> Any:
    return nn.utils.tree_unflatten([(name, mx.array(g)) for name, g in gradient.items()])


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_five_steps_are_those_of_the_paper(decay: float) -> None:
    model = small()
    start, drawn = as_numpy(dict(nn.utils.tree_flatten(model.parameters()))), gradients(small(), 5)
    optimizer = AdamW(model, TrainingConfig(weight_decay=decay))
    for gradient, rate in zip(drawn, RATES, strict=True):
        optimizer.update(as_tree(gradient), rate)
    after = as_numpy(dict(nn.utils.tree_flatten(model.parameters())))
    assert set(drawn[0]) == {"layers.1.weight", "layers.1.bias"}
    for name, value in after.items():
        if name not in drawn[0]:
            assert np.array_equal(value, start[name]), "a frozen tensor was moved"
            continue
        wanted = adamw(start[name], [g[name] for g in drawn], RATES, decay)
        assert np.abs(wanted - start[name]).max() > 0.01
        assert np.abs(value - wanted).max() < 1e-6, name


def test_the_first_step_has_the_length_of_the_rate() -> None:
    """Without bias correction it would be 0.1 / sqrt(0.001) = 3.2 times the rate."""
    model = small()
    before = np.array(model.layers[1].weight)
    gradient = {"layers.1.weight": np.full((2, 4), -0.02, np.float32)}
    gradient["layers.1.bias"] = np.zeros(2, np.float32)
    AdamW(model, TrainingConfig()).update(as_tree(gradient), 0.01)
    assert np.allclose(np.array(model.layers[1].weight) - before, 0.01, rtol=1e-4)


def run(model: Any, adapter: Any, optimizer: AdamW, steps: range) -> None:
    batches = [make_batch(random_rows([7, 4], seed=1))]
    for step in steps:
        found = step_gradient(model, batches, key=adapter.dropout_key, seed=0, step=step)
        optimizer.update(found.tree, 0.01)


@pytest.mark.parametrize("layers", ["all", 1])
def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path, layers: Any) -> None:
    folder, config = make_model(tmp_path / "m"), TrainingConfig(weight_decay=0.01)

    def session() -> tuple[Any, Any, AdamW]:
        model = load_model(str(folder)).module
        adapter = attach_adapter(model, rank=2, layers=layers, dropout=0.1)
        adapter.train(True)
        return model, adapter, AdamW(model, config)

    whole = session()
    run(*whole, range(1, 6))
    first = session()
    run(*first, range(1, 4))
    mx.save_safetensors(str(tmp_path / "w.safetensors"), first[1].tensors())
    mx.save_safetensors(str(tmp_path / "o.safetensors"), first[2].tensors())
    second = session()
    second[1].load(mx.load(str(tmp_path / "w.safetensors")))
    second[2].load(mx.load(str(tmp_path / "o.safetensors")))
    assert second[2].tensors()["step"].item() == 3
    run(*second, range(4, 6))
    for have, want in ((second[1], whole[1]), (second[2], whole[2])):
        found, wanted = have.tensors(), want.tensors()
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(np.array(found[n]), np.array(wanted[n])) for n in wanted)
        assert all(found[n].dtype == wanted[n].dtype for n in wanted)


def test_the_state_names_every_tensor(tmp_path: Path) -> None:
    model = load_model(str(make_model(tmp_path / "m"))).module
    adapter = attach_adapter(model, rank=2, layers=1)
    names = set(AdamW(model, TrainingConfig()).tensors())
    assert names == {"step", "learning_rate"} | {
        f"{n}.{p}" for n in adapter.tensors() for p in "mv"
    }


def test_a_state_of_other_tensors_is_refused() -> None:
    state = AdamW(small(), TrainingConfig()).tensors()
    other = small()
    other.unfreeze()
    with pytest.raises(ValueError, match="other trainable tensors"):
        AdamW(other, TrainingConfig()).load(state)
