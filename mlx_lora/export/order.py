"""What is ordered from the worker: an export, or only its figures. For window and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlx_lora.jobs import ExportJob, MeasureJob

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.runs import Run
    from mlx_lora.trained import Trained


def export_job(
    root: Path,
    trained: Trained,
    run: Run | None,
    *,
    form: tuple[str, str],
    out: Path,
    overwrite: bool = False,
) -> ExportJob:
    """Write what was trained as `form` (format, precision) to `out`."""
    common = _common(root, trained, run)
    return ExportJob(format=form[0], quant=form[1], out=str(out), overwrite=overwrite, **common)


def measure_job(root: Path, trained: Trained, run: Run | None) -> MeasureJob:
    """Measure what packing it costs, and write nothing but the figures."""
    return MeasureJob(**_common(root, trained, run))


def _common(root: Path, trained: Trained, run: Run | None) -> dict[str, Any]:
    record = trained.record
    return {
        "model": trained.model,
        "adapter": trained.adapter,
        "root": str(root),
        "run": str(run.folder) if run else None,
        "data": record.config.data if record else None,
        "seed": record.config.training.seed if record else 0,
        "today": record.created if record else "",
    }
