"""Tokens no training text held: told by rows that are zero or the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlx_lora import jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.inspect import inspect
from mlx_lora.models.library import check_model
from mlx_lora.models.tensors import TensorInfo
from mlx_lora.models.untrained import is_untrained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def matrix(tmp_path: Path, rows: Any, kind: str, name: str = "lm_head.weight") -> Any:
    """A matrix as a safetensors file has it, behind a few bytes of something else."""
    values = rows.astype(np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2") if kind == "BF16" else values
    data = values.astype("<f2") if kind == "F16" else data
    path = tmp_path / name
    path.write_bytes(b"12345" + data.tobytes())
    return {f"model.{name}": TensorInfo(path, kind, rows.shape, 5, 5 + data.nbytes)}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("vocabulary", [40, 256, 300, 512, 2000])
def test_rows_that_are_zero_or_the_same(tmp_path: Path, kind: str, vocabulary: int) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(vocabulary, 64))
    rows[[3, 5, vocabulary - 1]] = rows[3] + 1e-3 * draw.normal(size=(3, 64))
    rows[7] = 0
    rows[[11, 12]] = rows[11]
    tensors = matrix(tmp_path, rows, kind)
    found = [token for token in range(vocabulary) if is_untrained(tensors, token)]
    assert found == [3, 5, 7, vocabulary - 1]
    assert not is_untrained(tensors, -1)
    assert not is_untrained(tensors, vocabulary)


def test_the_matrix_that_gives_probabilities_is_looked_at(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    same = rows.copy()
    same[:4] = same[0]
    tied = matrix(tmp_path, same, "F32", "embed_tokens.weight")
    assert is_untrained(tied, 2)
    assert not is_untrained({**tied, **matrix(tmp_path, rows, "F32")}, 2)
    packed = {name: TensorInfo(i.path, "U32", i.shape, i.start, i.end) for name, i in tied.items()}
    assert not is_untrained(packed, 2)
    assert not is_untrained({}, 2)


def test_real_models(stories: Path, demo_model: Path) -> None:
    for folder, expected in ((stories, True), (demo_model, False)):
        _, description, tensors = check_model(str(folder))
        ends = description["stop_token_ids"]
        assert ends
        assert {is_untrained(tensors, end) for end in ends} == {expected}


@pytest.mark.parametrize("own", [True, False])
def test_a_check_says_so(own: bool, stories: Path, write_rows: Callable[..., Path]) -> None:
    rows = [{"prompt": f"Who is {n}?", "completion": f"Number {n}."} for n in range(30)]
    job = jobs.InspectJob(
        model=ModelConfig(source=str(stories) if own else "demo"), seed=0, root="",
        data=DataConfig(source=str(write_rows(rows))),
    )  # fmt: skip
    (facts,) = (e.data for e in inspect(job, Control()) if getattr(e, "kind", "") == "inspect")
    found = [one for one in facts["issues"] if one["code"] == "untrained_stop"]
    assert [one["count"] for one in found] == [facts["training_rows"]] * own
    assert all(one["level"] == "warning" for one in found)
