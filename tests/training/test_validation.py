"""Measured loss and accuracy against unpadded rows in NumPy float64."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models_made import (
    as_numpy,
    attach_adapter,
    lora_parts,
    make_model,
    random_rows,
    random_weights,
    randomize_adapter,
)
from reference import Llama, log_softmax

from mlx_lora.data.render import Rendered
from mlx_lora.models.loading import load_model
from mlx_lora.training.objective import Objective
from mlx_lora.training.validation import Measured, measure

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def result(steps: Generator[Any, None, Measured]) -> Measured:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("validation") / "m")


def right_guesses(model: Llama, parts: dict[str, Any], rows: list[Rendered]) -> list[Rendered]:
    """Rows whose every second target is what the model would say, so that accuracy is not 0."""
    made = []
    for row in rows:
        tokens = list(row.tokens)
        for at in range(1, len(tokens), 2):
            tokens[at] = int(model.logits(np.array([tokens[:at]]), parts)[0, -1].argmax())
        made.append(Rendered(row.row, tokens, row.mask))
    return made


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_loss_and_accuracy_do_not_depend_on_batches(folder: Path, batch_size: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    model = load_model(str(folder)).module
    adapter = attach_adapter(model, rank=2, alpha=4.0)
    randomize_adapter(adapter)
    adapter.train(False)
    parts = lora_parts(as_numpy(adapter.tensors()), 2.0)
    reference = Llama(config, random_weights(config, 0))
    rows = right_guesses(reference, parts, random_rows([11, 4, 8, 2, 15, 3, 6], learnt=0.5))
    loss, hits, count = 0.0, 0, 0
    for row in rows:
        ids, mask = np.array(row.tokens), np.array(row.mask[1:])
        scores = log_softmax(reference.logits(ids[None, :-1], parts))[0]
        loss -= (scores[np.arange(len(mask)), ids[1:]] * mask).sum()
        hits += int(((scores.argmax(-1) == ids[1:]) * mask).sum())
        count += int(mask.sum())
    found = result(measure(Objective(model), rows, batch_size))
    assert 0 < hits < count
    assert found.targets == count
    assert found.rows == 7
    assert found.accuracy == pytest.approx(hits / count, abs=1e-12)
    assert found.loss == pytest.approx(loss / count, rel=2e-6)


def test_measuring_leaves_dropout_and_weights_alone(folder: Path) -> None:
    model = load_model(str(folder)).module
    adapter = attach_adapter(model, rank=2, dropout=0.5)
    randomize_adapter(adapter)
    adapter.train(False)
    before, rows = as_numpy(adapter.tensors()), random_rows([9, 5])
    first = result(measure(Objective(model), rows, 2))
    adapter.dropout_key.set(5, 6, 7)
    assert result(measure(Objective(model), rows, 2)) == first
    assert all(np.array_equal(t, before[n]) for n, t in as_numpy(adapter.tensors()).items())


def test_the_order_of_rows_does_not_matter(folder: Path) -> None:
    model, rows = load_model(str(folder)).module, random_rows([9, 5, 7, 5, 3])
    assert result(measure(Objective(model), rows, 2)) == result(
        measure(Objective(model), rows[::-1], 2)
    )
