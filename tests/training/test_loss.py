"""Loss and gradient against NumPy float64, and all the ways in which they must not change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import (
    LLAMA3_ROPE,
    as_numpy,
    attach_adapter,
    lora_parts,
    make_model,
    random_rows,
    random_weights,
    randomize_adapter,
)
from reference import Llama, cross_entropy, directional

from mlx_lora.data.batching import Batch, make_batch
from mlx_lora.data.render import Rendered
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import quantize_model
from mlx_lora.training.loss import Gradient, clipped, step_gradient
from mlx_lora.training.objective import Objective

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = [12, 5, 9, 2]
SCALE = 1.5


class Made:
    """A random model with a random adapter, and its reference."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.model = load_model(str(make_model(folder, **changes))).module
        self.adapter = attach_adapter(self.model, rank=3, alpha=3 * SCALE)
        randomize_adapter(self.adapter)
        self.adapter.train(True)
        config = json.loads((folder / "config.json").read_text())
        if config["model_type"] == "llama":
            self.reference = Llama(config, random_weights(config, 0))

    def gradient(self, batches: list[Batch], **named: Any) -> Gradient:
        key = self.adapter.dropout_key
        return step_gradient(self.model, batches, key=key, **({"seed": 1, "step": 1} | named))

    def expected(self, tensors: dict[str, np.ndarray], rows: list[Rendered]) -> Any:
        """Mean loss a learnt target, every row on its own and without padding."""
        parts, total, count = lora_parts(tensors, SCALE), 0.0, 0
        for row in rows:
            ids, mask = np.array(row.tokens), np.array(row.mask[1:])
            logits = self.reference.logits(ids[None, :-1], parts)
            if mask.any():
                total += cross_entropy(logits, ids[None, 1:], mask[None]) * mask.sum()
                count += mask.sum()
        return total / count


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "llama")


def flat(gradient: Gradient) -> dict[str, np.ndarray]:
    return as_numpy(dict(nn.utils.tree_flatten(gradient.tree)))


def furthest(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Largest difference of two gradients, each tensor by its own largest entry."""
    assert found.keys() == wanted.keys()
    return max(np.abs(found[n] - wanted[n]).max() / np.abs(wanted[n]).max() for n in wanted)


def test_a_batch_shows_each_token_its_successor() -> None:
    rows = [Rendered(0, [5, 6, 7, 8], [0, 0, 1, 1]), Rendered(1, [9, 3], [0, 1])]
    batch = make_batch(rows)
    assert batch.inputs.tolist() == [[5, 6, 7], [9, 0, 0]]
    assert batch.targets.tolist() == [[6, 7, 8], [3, 0, 0]]
    assert batch.weights.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert batch.target_count == 3


@pytest.mark.parametrize("learnt", [1.0, 0.5, 0.0])
def test_counted_targets_are_the_real_ones(learnt: float) -> None:
    rows = random_rows(LENGTHS, learnt=learnt)
    batch = make_batch(rows)
    wanted = sum(sum(row.mask[1:]) for row in rows)
    assert batch.target_count == wanted == int(np.array(batch.weights).sum())
    assert {0: 4, 1: sum(LENGTHS) - 4}.get(int(learnt) if learnt != 0.5 else -1, wanted) == wanted


@pytest.mark.parametrize(
    "changes", [{}, {"tied": False}, {"rope_scaling": LLAMA3_ROPE}, {"num_key_value_heads": 4}]
)
def test_the_loss_is_that_of_the_unpadded_rows(tmp_path: Path, changes: dict[str, Any]) -> None:
    made, rows = Made(tmp_path / "m", **changes), random_rows(LENGTHS)
    gradient = made.gradient([make_batch(rows)])
    assert gradient.targets == sum(row.targets for row in rows)
    wanted = made.expected(as_numpy(made.adapter.tensors()), rows)
    assert gradient.loss == pytest.approx(wanted, rel=2e-6)


def test_a_position_where_nothing_is_learnt_weighs_nothing(made: Made) -> None:
    rows = [Rendered(0, [5, 60, 70, 80, 90], [0, 1, 0, 1, 0])]
    batch = make_batch(rows)
    losses, _ = Objective(made.model).token_losses(batch)
    wanted = float(losses[0, 0] + losses[0, 2])
    assert float(Objective(made.model).loss(batch)) == pytest.approx(wanted, rel=1e-6)
    changed = [Rendered(0, [5, 60, 70, 80, 91], [0, 1, 0, 1, 0])]
    assert made.gradient([make_batch(changed)]).loss == made.gradient([batch]).loss


@pytest.mark.parametrize("changes", [{}, {"tied": False, "rope_scaling": LLAMA3_ROPE}])
def test_the_gradient_is_the_exact_derivative(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Along a random direction in every tensor and at single entries, by complex step."""
    made, rows = Made(tmp_path / "m", **changes), random_rows([9, 4, 6], seed=3)
    found = flat(made.gradient([make_batch(rows)]))
    tensors = as_numpy(made.adapter.tensors())
    assert found.keys() == tensors.keys()
    assert len(found) == 28
    generator = np.random.default_rng(0)

    def loss(values: dict[str, np.ndarray]) -> Any:
        return made.expected(values, rows)

    for name, gradient in found.items():
        way = generator.choice([-1.0, 1.0], gradient.shape)
        exact = directional(loss, tensors, name, way)
        size = np.linalg.norm(gradient)
        assert abs((gradient * way).sum() - exact) < 2e-5 * size, name
    for name in sorted(found)[::3]:
        single = np.zeros_like(found[name])
        place = np.unravel_index(np.abs(found[name]).argmax(), single.shape)
        single[place] = 1.0
        exact = directional(loss, tensors, name, single)
        assert found[name][place] == pytest.approx(exact, rel=2e-5), name


def test_uneven_micro_batches_make_the_gradient_of_one_batch(made: Made) -> None:
    rows = random_rows([14, 3, 8, 2, 11, 6], learnt=0.4)
    whole = made.gradient([make_batch(rows)])
    parts = made.gradient([make_batch(rows[:1]), make_batch(rows[1:4]), make_batch(rows[4:])])
    assert parts.targets == whole.targets
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert parts.norm == pytest.approx(whole.norm, rel=1e-5)
    largest = max(np.abs(g).max() for g in flat(whole).values())
    differences = [np.abs(g - flat(whole)[n]).max() for n, g in flat(parts).items()]
    assert max(differences) < 1e-6 * max(1.0, largest)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen2", "qwen3", "phi3"])
def test_recomputed_layers_give_the_same_gradient(
    tmp_path: Path, family: str, dropout: float
) -> None:
    made = Made(tmp_path / "m", family=family)
    for module in made.adapter.modules.values():
        module.use_dropout(dropout, made.adapter.dropout_key)
    batches = [make_batch(random_rows([12, 9], seed=1)), make_batch(random_rows([5], seed=2))]
    before = as_numpy(made.adapter.tensors())
    plain = made.gradient(batches)
    recomputed = made.gradient(batches, checkpoint_layers=True)
    assert recomputed.loss == plain.loss
    assert furthest(flat(recomputed), flat(plain)) < 1e-7
    after = as_numpy(made.adapter.tensors())
    assert all(np.array_equal(after[name], before[name]) for name in before)
    if dropout:
        other = made.gradient(batches, step=2)
        assert furthest(flat(other), flat(plain)) > 0.1, "dropout has no effect here"


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen2", "qwen3", "phi3"])
def test_layers_are_really_recomputed(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qwen2 and a dozen more make a new list at every `model.layers`."""
    made, calls = Made(tmp_path / "m", family=family), []
    kind = type(made.model.layers[0])
    original = kind.__call__

    def counted(self: Any, *inputs: Any, **named: Any) -> Any:
        calls.append(self)
        return original(self, *inputs, **named)

    monkeypatch.setattr(kind, "__call__", counted)
    batch = make_batch(random_rows([9, 4]))
    made.gradient([batch])
    assert len(calls) == 2
    made.gradient([batch], checkpoint_layers=True)
    assert len(calls) == 2 + 4


class Sharing(nn.Module):
    """Two layers, the second shown a value of the first by name, as Gemma 4's are."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def __call__(self, x: Any, _: Any, shared: Any = None, offset: int = 0) -> Any:
            y = mx.tanh(self.linear(x))
            return (2 * y if shared is None else y * shared + offset), y, offset + 1

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(300, 8)
        self.layers = [Sharing.Layer(), Sharing.Layer()]

    def __call__(self, ids: mx.array) -> mx.array:
        x, shared, offset = self.embed(ids), None, 0
        for layer in self.layers:
            x, shared, offset = layer(x, None, shared=shared, offset=offset)
        return self.embed.as_linear(x)


def test_recomputed_layers_pass_the_gradient_of_named_inputs() -> None:
    mx.random.seed(0)
    model = Sharing()
    adapter = attach_adapter(model, rank=2)
    randomize_adapter(adapter)
    batch, key = make_batch(random_rows([9, 4])), adapter.dropout_key
    plain, recomputed = (
        flat(step_gradient(model, [batch], key=key, seed=0, step=1, checkpoint_layers=active))
        for active in (False, True)
    )
    assert furthest(recomputed, plain) < 1e-6


def test_a_packed_base_has_the_gradient_of_its_values(tmp_path: Path) -> None:
    folder, rows = tmp_path / "m", random_rows([9, 6])
    packed, plain = Made(folder), load_model(str(folder), "4").module
    packed.adapter.detach()
    quantize_model(packed.model, 4)
    adapters = [attach_adapter(model, rank=3) for model in (packed.model, plain)]
    found = []
    for model, adapter in zip((packed.model, plain), adapters, strict=True):
        randomize_adapter(adapter)
        key = adapter.dropout_key
        found.append(step_gradient(model, [make_batch(rows)], key=key, seed=0, step=1))
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)
    assert furthest(flat(found[0]), flat(found[1])) < 1e-4


def test_dropout_repeats_with_the_step_and_not_with_the_global_state(made: Made) -> None:
    for module in made.adapter.modules.values():
        module.use_dropout(0.3, made.adapter.dropout_key)
    batches = [make_batch(random_rows([12, 9], seed=1))] * 2
    first = flat(made.gradient(batches))
    mx.random.seed(4)
    again = flat(made.gradient(batches))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    for change in ({"seed": 2}, {"step": 2}):
        assert furthest(flat(made.gradient(batches, **change)), first) > 0.1
    # two equal micro-batches must not share a mask: their mean is not the gradient of one
    assert furthest(flat(made.gradient(batches[:1])), first) > 0.1


class Broken(nn.Module):
    """A layer that fails."""

    use_sliding = False

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ValueError("broken")


@pytest.mark.parametrize("active", [True, False])
def test_the_list_of_layers_is_put_back(made: Made, active: bool) -> None:
    layers = list(made.model.layers)
    names = [name for name, _ in made.model.named_modules()]
    batch = make_batch(random_rows([5]))
    made.gradient([batch], checkpoint_layers=active)
    assert [id(layer) for layer in made.model.layers] == [id(layer) for layer in layers]
    assert names == [name for name, _ in made.model.named_modules()]
    broken = Broken()
    made.model.layers[1] = broken
    with pytest.raises(ValueError, match="broken"):
        made.gradient([batch], checkpoint_layers=active)
    assert [id(layer) for layer in made.model.layers] == [id(layers[0]), id(broken)]
    made.model.layers[1] = layers[1]
    assert np.isfinite(made.gradient([batch], checkpoint_layers=active).loss)


def test_norm_and_clipping(made: Made) -> None:
    gradient = made.gradient([make_batch(random_rows(LENGTHS))])
    values = flat(gradient)
    norm = np.sqrt(sum((g**2).sum() for g in values.values()))
    assert gradient.norm == pytest.approx(norm, rel=1e-5)
    assert clipped(gradient, norm * 1.01) is gradient.tree
    half = as_numpy(dict(nn.utils.tree_flatten(clipped(gradient, norm / 2))))
    assert furthest(half, {name: g / 2 for name, g in values.items()}) < 1e-5
    length = np.sqrt(sum((g**2).sum() for g in half.values()))
    assert length == pytest.approx(norm / 2, rel=1e-5)


def test_the_base_gets_no_gradient(made: Made) -> None:
    found = flat(made.gradient([make_batch(random_rows([6]))]))
    assert found.keys() == made.adapter.tensors().keys()
