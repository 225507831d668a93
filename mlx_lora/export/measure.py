"""What packing a merged model would cost, measured and written down; no model is written."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_lora.events import Event, Finished, Phase, Pulse, Report, encode
from mlx_lora.export.fuse_loss import WIDTHS, FuseLoss
from mlx_lora.export.reference import make_reference
from mlx_lora.export.source import Source
from mlx_lora.runs import Run
from mlx_lora.storage import TEMPORARY, remove_leftovers, storage_errors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.control import Control
    from mlx_lora.export.reference import Reference
    from mlx_lora.jobs import MeasureJob
    from mlx_lora.models.loading import LoadedModel


def measure(job: MeasureJob, control: Control) -> Generator[Event, None, None]:
    """Merge into 16, 8, 6 and 4 bit in memory and compare each with the adapter on its base.

    Raises:
        UserError: whatever is wrong with model, adapter or disk.
    """
    yield Phase("planning")
    source = Source(job.model.source, job.model.bits, Path(job.adapter))
    meter = FuseLoss(source, source.half_type())
    with _scratch(Path(job.root)) as folder:
        for event in _measured(job, meter, folder):
            yield event
            if control.stopping:
                yield Finished(reason="stopped")
                return
    yield _told(job, meter, source.facts.step if source.facts else None)
    yield Finished(reason="done", result={"chosen": meter.choice()})


def _measured(job: MeasureJob, meter: FuseLoss, folder: Path) -> Generator[Event, None, None]:
    """Fill the meter; says which width is in work, and how far it is."""
    seen: list[tuple[LoadedModel, Reference]] = []
    yield from make_reference(job, folder, lambda *found: seen.append(found))
    base, reference = seen.pop()
    yield Phase("weighing")
    meter.gather(base, reference)
    pulse = Pulse()
    for bits in WIDTHS:
        yield Phase(f"measuring_{bits}")
        for done, total in meter.measure_width(bits, base, reference):
            if pulse.due():
                yield Phase(f"measuring_{bits}", done, total)


def _told(job: MeasureJob, meter: FuseLoss, step: int | None) -> Report:
    """The table, kept in the run's own log; `step` says which of its adapters it is of."""
    told = Report(kind="fuse_loss", data={**meter.table(meter.choice()), "step": step})
    if job.run is not None:
        with Run(Path(job.run)).append_log() as log:
            log.write(encode(told))
    return told


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder for what is only needed while it is measured."""
    folder = root / f"{TEMPORARY}{os.getpid()}-measure"
    with storage_errors(folder):
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root, of_the_dead=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
