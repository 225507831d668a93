"""One export: planned, written under a temporary name, checked, put in place."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from mlx_lora import __version__
from mlx_lora.events import Event, Finished, Phase, Report, encode
from mlx_lora.export.card import CARD, write_card
from mlx_lora.export.folder import TEMPLATE, write_json
from mlx_lora.export.formats import FACTS, FORMATS, beside, check_family, check_target
from mlx_lora.export.reference import make_reference
from mlx_lora.export.source import Source
from mlx_lora.export.verdict import Verdict, facts
from mlx_lora.export.writers import Work, writer_for
from mlx_lora.runs import Run
from mlx_lora.storage import (
    check_space,
    new_folder,
    remove_leftovers,
    scratch_folder,
    show,
    storage_errors,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.control import Control
    from mlx_lora.jobs import ExportJob


def export(job: ExportJob, control: Control) -> Generator[Event, None, None]:
    """Write an export and say what came of checking it.

    Raises:
        UserError: `cannot_export` before anything is written; `broken_export` after what was
        written is gone again; whatever is wrong with model, adapter or disk.
    """
    work = _export(job, control)
    try:
        for event in work:
            yield event
            if control.stopping and not _is_in_place(event):
                work.close()  # takes what is half-written with it
                yield Finished(reason="stopped")
                return
    except _StoppedError:
        yield Finished(reason="stopped")


class _StoppedError(Exception):
    """The end was asked for while nothing was said; takes what is half-written with it."""


def _export(job: ExportJob, control: Control) -> Generator[Event, None, None]:
    yield Phase("planning")
    source = Source(job.model.source, job.model.bits, Path(job.adapter))
    check_family(FORMATS[job.format], source.family)
    out = Path(job.out)
    check_target(out, overwrite=job.overwrite, keep=(source.folder, Path(job.adapter)))
    writer = writer_for(job, source)
    with _scratch(out, writer.nbytes) as scratch:
        single = out.suffix == ".gguf"
        place = scratch / "single" if single else out
        with new_folder(place, overwrite=job.overwrite and not single) as folder:
            reference = None
            if job.verify or writer.needs_reference:
                reference = yield from make_reference(job, scratch, writer.visit)
                mx.clear_cache()
            yield from writer.reports()
            work = Work(folder, scratch, reference)
            yield from writer.write(work)
            found = (yield from writer.check(work)) if job.verify else Verdict(by="nobody")
            content = _content(job, writer.quant, found, folder)
            write_json(folder / FACTS, content)
            write_card(folder, job, source, writer.quant, found)
            if control.stopping:  # the last moment before it is in place
                raise _StoppedError
        if single:
            _as_file(place, out)
    _remember(job, content)
    yield Report(kind="export", data={**content, "out": show(out)})
    yield Finished(reason="done", result={"out": show(out), "verdict": content["words"]})


def _is_in_place(event: Event) -> bool:
    """Whether it is too late to stop: the export is there."""
    return isinstance(event, Finished) or (isinstance(event, Report) and event.kind == "export")


def _content(job: ExportJob, quant: str, found: Verdict, folder: Path) -> dict[str, Any]:
    """What `export.json` says: no path, no name of a person."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "format": job.format,
        "quant": quant,
        "understudy": __version__,
        "files": {path.name: path.stat().st_size for path in files},
        **facts(found),
    }


def _remember(job: ExportJob, content: dict[str, Any]) -> None:
    """Keep the verdict in the run's own log."""
    if job.run is None:
        return
    with Run(Path(job.run)).append_log() as log:
        log.write(encode(Report(kind="export", data=content)))


@contextmanager
def _scratch(out: Path, nbytes: int) -> Iterator[Path]:
    """A folder beside the export for what is only needed while it is made.

    Raises:
        UserError: `disk_full` before anything is written.
    """
    check_space(out, nbytes)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out.parent, of_the_dead=True)
    with scratch_folder(out) as folder:
        yield folder


def _as_file(folder: Path, out: Path) -> None:
    """The one GGUF file of a folder under the name asked for, its card and facts beside it.

    The file comes last: where it is, it is whole, and so is what is said of it.
    """
    with storage_errors(out):
        for name in (FACTS, CARD):
            (folder / name).replace(beside(out, name))
        template = beside(out, TEMPLATE)
        if (folder / template.name).is_file():
            (folder / template.name).replace(template)
        (folder / out.name).replace(out)
        sync(out.parent)
