"""Every form of the engine's step against the exact derivative, on every family and kind of base.

`FORMS` is the one place to add a form to: all cases below then go through it. What a case is
compared with (complex-step derivatives of the NumPy reference) is computed once for all forms.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mlx.nn as nn
import msgspec
import numpy as np
import pytest
from models_made import (
    as_numpy,
    attach_adapter,
    lora_parts,
    make_model,
    random_rows,
    randomize_adapter,
)
from reference import directional
from reference_families import reference_loss, unpacked_weights
from trial import drain

from mlx_lora.data.batching import lay_out, make_batch
from mlx_lora.models.anatomy import take_apart
from mlx_lora.models.loading import load_model
from mlx_lora.models.quantize import quantize_model
from mlx_lora.training import head_loss
from mlx_lora.training.loss import Gradient, step_gradient
from mlx_lora.training.objective import Objective
from mlx_lora.training.packed import packing_axes
from mlx_lora.training.prefix import can_replay, fill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlx_lora.data.render import Rendered

    Form = Callable[[Any, Any, list[Rendered]], Gradient]

SCALE = 1.5
LENGTHS = [20, 11, 20, 4]  # the sliding window is 8


def plain(model: Any, adapter: Any, rows: list[Rendered]) -> Gradient:
    """Padded rows of one document, all logits, nothing recomputed."""
    return step_gradient(model, [make_batch(rows)], key=adapter.dropout_key, seed=1, step=1)


def formed(*, pack: bool = False, chunk: int = 0, recompute: int = 0, replay: bool = False) -> Form:
    """A form of the engine; pytest.skip where a model or an adapter does not allow it."""

    def run(model: Any, adapter: Any, rows: list[Rendered]) -> Gradient:
        anatomy = take_apart(model)
        assert anatomy is not None
        first = len(model.layers) - adapter.shape.layers
        if chunk and not anatomy.head.frozen:
            pytest.skip("the head has an adapter: its gradient needs all logits")
        if replay and not can_replay(model, anatomy, first):
            assert first == 0
            pytest.skip("every layer is adapted: nothing is frozen below")
        axes = packing_axes(model, anatomy)
        assert axes == (2 if model.model_type == "gemma2" else 1)
        objective = Objective(
            model, anatomy, chunked=bool(chunk), recompute=recompute, first=first, axes=axes
        )
        layout = [[0, 3], [1, 2]] if pack else [[number] for number in range(len(rows))]
        batch = lay_out([[rows[at] for at in row] for row in layout], 33 if pack else 19)
        given = None
        if replay:
            events = fill(anatomy, first, rows, 1 << 30)
            cache = drain(events)
            assert cache is not None
            given = cache.states(cache.gather(layout, 33 if pack else 19))
        batches = [msgspec.structs.replace(batch.on_device(), given=given)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(head_loss, "chunk_size", lambda _vocabulary: chunk)
            return step_gradient(
                model, batches, key=adapter.dropout_key, seed=1, step=1, objective=objective
            )

    return run


# model, adapter and rows to the gradient of one step over the rows
FORMS: dict[str, Form] = {
    "plain": plain,
    "every layer recomputed": formed(recompute=1),
    "every second layer recomputed": formed(recompute=2),
    "packed": formed(pack=True),
    "chunked, by 1": formed(chunk=1),
    "chunked, by 7": formed(chunk=7),
    "chunked, all at once": formed(chunk=1000),
    "frozen layers replayed": formed(replay=True),
    "all of it": formed(pack=True, chunk=5, recompute=1, replay=True),
    "all but the replay": formed(pack=True, chunk=5, recompute=2),
}
# hidden states go through 16 bits: what a form may differ by, relative
ROUGH = {"frozen layers replayed": 3e-3, "all of it": 3e-3}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama-untied": {"family": "llama", "tied": False},
    # hidden 96, so that the rounding of the embeddings' scale shows
    "gemma3": {"family": "gemma3_text", "hidden_size": 96},
    "gemma3-untied": {"family": "gemma3_text", "tied": False},
    "qwen3": {"family": "qwen3"},
    "qwen3-untied": {"family": "qwen3", "tied": False},
    # always tied; capped so tightly that the caps bend these small numbers too
    "gemma2": {
        "family": "gemma2",
        "attn_logit_softcapping": 4.0,
        "final_logit_softcapping": 6.0,
    },
    "gpt_oss-untied": {"family": "gpt_oss"},
}
# how the base is held: `--bits` as a CPU holds it (float32), or packed as Metal does
BASES = ("float", "4", "8", "4 packed", "8 packed")
WHOLE: dict[str, Any] = {}
LAST: dict[str, Any] = {"layers": 1}
HEAD: dict[str, Any] = {"targets": ("all", "lm_head")}
ADAPTERS = {"whole": WHOLE, "last": LAST, "head": HEAD}
FAST = {
    ("llama", "float", "last"),
    ("llama-untied", "float", "head"),
    ("gemma3", "8 packed", "last"),
    ("gemma3-untied", "4", "whole"),
    ("qwen3", "4 packed", "whole"),
    ("qwen3-untied", "8", "whole"),
    ("gemma2", "float", "whole"),
    ("gpt_oss-untied", "float", "whole"),
}
GRID = [
    (family, base, adapter)
    for family in FAMILIES
    for base in BASES
    for adapter in ADAPTERS
    if adapter != "head" or family.endswith("untied")
]


class Made:
    """A random model with a random adapter and rows, and what a step on them should find."""

    def __init__(self, folder: Path, family: str, base: str, adapter: str) -> None:
        make_model(folder, **FAMILIES[family])
        self.config = json.loads((folder / "config.json").read_text())
        bits, _, packed = base.partition(" ")
        self.model = load_model(str(folder), "keep" if base == "float" or packed else bits).module
        if packed:
            assert quantize_model(self.model, int(bits)) == []
        self.weights = unpacked_weights(self.model)
        self.adapter = attach_adapter(self.model, rank=3, alpha=3 * SCALE, **ADAPTERS[adapter])
        randomize_adapter(self.adapter)
        self.adapter.train(True)
        self.rows = random_rows(LENGTHS, seed=3)
        self.tensors = as_numpy(self.adapter.tensors())

    def loss(self, tensors: dict[str, np.ndarray]) -> Any:
        return reference_loss(self.config, self.weights, lora_parts(tensors, SCALE), self.rows)

    @cached_property
    def expected_loss(self) -> float:
        return float(self.loss(self.tensors))

    @cached_property
    def slopes(self) -> dict[str, tuple[np.ndarray, float]]:
        """By tensor: a random direction and the exact derivative along it."""
        generator = np.random.default_rng(0)
        ways = {n: generator.choice([-1.0, 1.0], t.shape) for n, t in self.tensors.items()}
        return {n: (w, directional(self.loss, self.tensors, n, w)) for n, w in ways.items()}

    @cached_property
    def alone(self) -> dict[str, np.ndarray]:
        """The gradient of the same step, every row a batch of its own: no padding, no packing."""
        batches = [make_batch([row]) for row in self.rows]
        key = self.adapter.dropout_key
        found = step_gradient(self.model, batches, key=key, seed=1, step=1)
        return as_numpy(dict(nn.utils.tree_flatten(found.tree)))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(case, marks=() if case in FAST else pytest.mark.slow, id="-".join(case))
        for case in GRID
    ],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("gradients") / "model", *request.param)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_finds_the_exact_loss_and_gradient(made: Made, form: str) -> None:
    gradient = FORMS[form](made.model, made.adapter, made.rows)
    assert gradient.targets == sum(row.targets for row in made.rows)
    rough = ROUGH.get(form, 0.0)
    assert gradient.loss == pytest.approx(made.expected_loss, rel=max(2e-6, rough))
    found = as_numpy(dict(nn.utils.tree_flatten(gradient.tree)))
    assert found.keys() == made.tensors.keys()
    norm = np.sqrt(sum((tensor**2).sum() for tensor in found.values()))
    assert gradient.norm == pytest.approx(norm, rel=1e-5)
    for name, (way, exact) in made.slopes.items():
        size = np.linalg.norm(found[name])
        assert abs((found[name] * way).sum() - exact) < max(2e-5, rough) * size, name
    after = as_numpy(made.adapter.tensors())
    assert all(np.array_equal(after[name], made.tensors[name]) for name in after)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ROUGH])
def test_a_form_finds_what_rows_alone_find(made: Made, form: str) -> None:
    """Tensor by tensor, against rows neither padded nor packed: 1e-5 of its length."""
    gradient = FORMS[form](made.model, made.adapter, made.rows)
    found = as_numpy(dict(nn.utils.tree_flatten(gradient.tree)))
    assert found.keys() == made.alone.keys()
    for name, exact in made.alone.items():
        distance, size = np.linalg.norm(found[name] - exact), np.linalg.norm(exact)
        assert distance < 1e-5 * size, f"{name}: {distance / size:.1e}"


def test_the_fast_cases_are_of_the_grid() -> None:
    assert set(GRID) >= FAST
    for at in range(3):
        assert {case[at] for case in FAST} == {case[at] for case in GRID}
