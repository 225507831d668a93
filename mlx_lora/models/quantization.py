"""The job that packs a full-precision model into the library and measures what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mlx_lora import __version__
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Notice, Phase, Pulse, Report
from mlx_lora.footprint import peak_footprint
from mlx_lora.models.anatomy import FAULTS
from mlx_lora.models.library import model_name
from mlx_lora.models.origin import Origin, write_origin
from mlx_lora.models.packed_copy import PackedCopy
from mlx_lora.models.packing_loss import measure_loss
from mlx_lora.storage import (
    check_space,
    new_folder,
    remove_leftovers,
    scratch_folder,
    show,
    storage_errors,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.control import Control
    from mlx_lora.jobs import QuantizeJob
    from mlx_lora.models.packing_loss import Steps

T = TypeVar("T")


def quantize(job: QuantizeJob, control: Control) -> Generator[Event, None, None]:
    """Write the packed model, complete or not at all; then compare it with the original.

    Told to stop while it writes, it leaves nothing; told so while it measures, it keeps the model.

    Raises:
        UserError: `bad_option` for a model that is packed already, `exists`, `disk_full`, whatever
            is wrong with model or disk.
    """
    yield Phase("planning")
    out = Path(job.out)
    copy = PackedCopy(job.model, job.bits)
    _check_place(out, copy.folder)
    check_space(out, copy.nbytes)
    origin = Origin(
        made_from=model_name(job.model),
        bits=job.bits,
        understudy=__version__,
        left_plain=tuple(copy.left_plain),
    )
    try:
        yield from _written(copy, origin, out, control)
    except _StoppedError:
        yield Finished(reason="stopped")
        return
    if origin.left_plain:
        yield _plain_notice(origin)
    if job.measure:
        origin = yield from _measured(job, origin, out, control)
    yield Report(kind="quantize", data=_facts(origin, copy, out))
    reason = "stopped" if control.stopping else "done"
    yield Finished(reason=reason, result={"out": show(out), "words": origin.words()})


class _StoppedError(Exception):
    """The end was asked for; takes what is half-written with it."""


def _written(
    copy: PackedCopy, origin: Origin, out: Path, control: Control
) -> Generator[Event, None, None]:
    """Put the packed model in place."""
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out.parent, of_the_dead=True)
    with new_folder(out) as folder:
        yield from _phases(copy.write(folder), control)
        write_origin(folder, origin)


def _measured(
    job: QuantizeJob, origin: Origin, out: Path, control: Control
) -> Generator[Event, None, Origin]:
    """Compare both and note it beside the model; a family that cannot be taken apart is said."""
    with scratch_folder(out) as folder:
        try:
            found = yield from _phases(measure_loss(job.model, str(out), folder), control)
        except _StoppedError:
            return origin
        except FAULTS as error:
            text = f"The model is complete. What packing it cost could not be measured ({error})."
            yield Notice(level="warning", code="not_measured", text=text)
            return origin
    figures = {"kl": found.kl, "top1": found.top1, "positions": found.positions}
    origin = msgspec.structs.replace(origin, **figures)
    write_origin(out, origin)
    return origin


def _phases(work: Generator[Steps, None, T], control: Control) -> Generator[Event, None, T]:
    """A piece of work as events: each new phase, then about one a second."""
    pulse, last = Pulse(), ""
    while True:
        try:
            what, done, total = next(work)
        except StopIteration as end:
            made: T = end.value
            return made
        if what != last or pulse.due():
            yield Phase(what, done, total)
        last = what
        if control.stopping:
            work.close()
            raise _StoppedError


def _check_place(out: Path, source: Path) -> None:
    """Not in the model itself, and not where something is already."""
    if out.resolve().is_relative_to(source.resolve()):
        why, fix = "this is in the folder of the model itself", "choose a folder beside it"
        raise UserError("bad_option", f"--out {show(out)}", why, fix)
    if out.exists() or out.is_symlink():
        raise UserError("exists", show(out), "it is already there", "choose another name")


def _plain_notice(origin: Origin) -> Notice:
    count, first = len(origin.left_plain), origin.left_plain[0]
    what = "1 matrix stays" if count == 1 else f"{count} matrices stay"
    text = f"{what} as in the original: no group of 32 or 64 fits the width ({first})."
    return Notice(level="info", code="left_plain", text=text)


def _facts(origin: Origin, copy: PackedCopy, out: Path) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(origin),
        "out": show(out),
        "bytes": copy.nbytes,
        "original_bytes": copy.read,
        "peak_memory": peak_footprint(),
        "words": origin.words(),
    }
