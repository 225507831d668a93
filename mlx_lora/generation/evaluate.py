"""Base against adapted on rows neither was trained on: loss, perplexity, next-token accuracy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.dataset import Dataset, build_dataset
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Report
from mlx_lora.lora.store import as_trained, load_adapter, read_facts
from mlx_lora.models.anatomy import take_apart
from mlx_lora.models.loading import LoadedModel, load_model
from mlx_lora.training.objective import Objective
from mlx_lora.training.validation import Measured, measure

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.jobs import EvaluateJob

_BATCH = 8


def evaluate(job: EvaluateJob) -> Generator[Event, None, None]:
    """Measure the base, and the adapter where one is named.

    Raises:
        UserError: anything wrong with model, adapter or data.
    """
    fraction = 0.0 if job.whole else job.data.val_fraction
    base, dataset = yield from _open(job, fraction)
    rows = dataset.training if job.whole else dataset.validation
    if not rows:
        fix = "name held-out rows with --data"
        raise UserError("bad_data", dataset.facts["name"], "no row was held out", fix)
    data: dict[str, Any] = {
        "rows": len(rows),
        "targets": sum(row.targets for row in rows),
        "data": dataset.facts["name"],
    }
    objective = Objective(base.module, take_apart(base.module), chunked=True)
    measured = yield from measure(objective, rows, _BATCH, "base")
    data["base"] = figures(measured)
    if job.adapter is not None:
        load_adapter(Path(job.adapter), base).train(False)
        objective = Objective(base.module, take_apart(base.module), chunked=True)
        measured = yield from measure(objective, rows, _BATCH, "adapted")
        data["adapted"] = figures(measured)
    yield Report(kind="evaluate", data=data)
    yield Finished(reason="done", result={"rows": len(rows)})


def _open(job: EvaluateJob, fraction: float) -> Generator[Event, None, tuple[LoadedModel, Dataset]]:
    """The model of a job and its data as that model sees it."""
    yield Phase("loading_model")
    base = load_model(job.model.source, job.model.bits)
    facts = read_facts(Path(job.adapter)) if job.adapter is not None else None
    data = msgspec.structs.replace(job.data, val_fraction=fraction)
    dataset = yield from build_dataset(
        find_source(data, Path(job.root)),
        as_trained(base.tokenizer, facts),
        data,
        context=base.context,
        seed=job.seed,
        today=job.today,
    )
    return base, dataset


def figures(measured: Measured) -> dict[str, float]:
    """Loss (nats a token), perplexity and accuracy.

    Raises:
        UserError: `bad_model` where the model gives no numbers.
    """
    if not math.isfinite(measured.loss):
        why, fix = "it gives no numbers; its weights are damaged", "download it again"
        raise UserError("bad_model", "the model", why, fix)
    perplexity = math.exp(min(measured.loss, 700.0))
    return {"loss": measured.loss, "perplexity": perplexity, "accuracy": measured.accuracy}
