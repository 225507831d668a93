"""Exports of the project's run: what can be made, and what was chosen.

Sizes and refusals are read off the window's thread.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Signal

from app.models.export_words import GROUPS
from app.models.makings import Making, Makings
from app.problems import problem_of
from mlx_lora.export.formats import FACTS, target
from mlx_lora.export.order import export_job
from mlx_lora.export.plan import ExportPlan, plan_exports
from mlx_lora.storage import expanded, storage_errors
from mlx_lora.trained import Trained, trained_run

if TYPE_CHECKING:
    from app.desk import Desk
    from app.problems import Problem
    from mlx_lora.errors import UserError
    from mlx_lora.runs import Run

# in the order of the cards
_ORDER = tuple(form for _, forms in GROUPS for form in forms)
# what is to be had at first: one file most programs take
_FIRST = "gguf"


class Found(msgspec.Struct, frozen=True):
    """What is read of a run.

    Attributes:
        free: bytes free where exports go.
        present: what an earlier export in that place says of itself, by its folder.
    """

    plan: ExportPlan
    trained: Trained | None
    free: int
    present: dict[Path, dict[str, Any]] = {}


class Needed(msgspec.Struct, frozen=True):
    """What everything that is chosen takes: bytes, bytes beside them while they are made, time."""

    nbytes: int = 0
    scratch: int = 0
    seconds: float = 0.0


class Exports(QObject):
    """Follows the run of the project; `changed` after every change.

    Attributes:
        found: what can be made of the run, None until it is read.
        problem: why it cannot be read.
        quants: the precision chosen for each format.
        chosen: the formats that are wanted.
        makings: what was ordered.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.found: Found | None = None
        self.problem: Problem | None = None
        self.quants: dict[str, str] = {}
        self.chosen: set[str] = set()
        self.makings = Makings(desk)
        self._of: tuple[object, ...] = ()

    @property
    def plan(self) -> ExportPlan | None:
        """What can be made of the run."""
        return self.found.plan if self.found else None

    @property
    def needed(self) -> Needed:
        """What everything that is chosen takes."""
        if self.plan is None:
            return Needed()
        choices = [self.plan.formats[form].choice(self.quants[form]) for form in self.chosen]
        return Needed(
            sum(choice.nbytes for choice in choices),
            max((choice.scratch for choice in choices), default=0),
            sum(choice.seconds for choice in choices),
        )

    @property
    def missing(self) -> int:
        """Bytes that are needed and not free."""
        needed = self.needed
        return max(0, needed.nbytes + needed.scratch - self.found.free) if self.found else 0

    def look(self, *, again: bool = False) -> None:
        """Read what can be made, unless it is known of this run as it is now."""
        progress, step = self._desk.progress, self._desk.chosen.checkpoint
        run, state = progress.run, progress.state
        of = (
            run.folder if run else None, step, progress.usable, state.best_step,
            state.status == "finished", self._desk.settings.value.exports_folder,
            self.makings.ended,
        )  # fmt: skip
        if of == self._of and not again:
            return
        if of[:2] != self._of[:2]:
            self.found = None
        self._of, self.problem = of, None
        if run is not None and progress.usable:
            place = self.folder()
            self._desk.tasks.run(
                lambda: _read(run, step, place),
                lambda found: self.show(found) if of == self._of else None,
                lambda error: self._refuse(of, error),
            )
        self.changed.emit()

    def choose(self, form: str, *, wanted: bool) -> None:
        """Take a format, or leave it."""
        (self.chosen.add if wanted else self.chosen.discard)(form)
        self.changed.emit()

    def set_quant(self, form: str, quant: str) -> None:
        """Another precision."""
        self.quants[form] = quant
        self.changed.emit()

    def folder(self) -> Path:
        """Where exports of this run go."""
        run = self._desk.progress.run
        own = self._desk.settings.value.exports_folder
        assert run is not None
        return expanded(own) / run.name if own else run.folder / "exports"

    def place(self, form: str, quant: str) -> Path:
        """Where one of them goes; a checkpoint's has its step in its name."""
        run, step = self._desk.progress.run, self._desk.chosen.checkpoint
        assert run is not None
        name = target(None, run.folder, form, quant).name
        return self.folder() / (name if step is None else f"{name}-step-{step}")

    def places(self) -> list[Path]:
        """Where everything that is chosen goes, in the order of the cards."""
        return [self.place(form, self.quants[form]) for form in _ORDER if form in self.chosen]

    def there(self) -> list[Path]:
        """Places of what is chosen that are taken already."""
        return [place for place in self.places() if place.exists()]

    def start(self, *, overwrite: bool = False) -> None:
        """Order everything that is chosen, in the order of the cards."""
        run, found = self._desk.progress.run, self.found
        assert run is not None
        assert found is not None
        assert found.trained is not None
        self.makings.clear()
        for form in filter(self.chosen.__contains__, _ORDER):
            quant = self.quants[form]
            out = self.place(form, quant)
            made = Making(
                run=run.name, form=form, quant=quant, out=out, step=self._desk.chosen.checkpoint,
                seconds=found.plan.formats[form].choice(quant).seconds,
            )  # fmt: skip
            what = export_job(
                self._desk.runs.root, found.trained, run, form=(form, quant), out=out,
                overwrite=overwrite,
            )  # fmt: skip
            self.makings.start(made, what)
        self.changed.emit()

    def show(self, found: Found) -> None:
        """What can be made is known: at first, the recommended file is chosen."""
        able, first = found.plan.instead(), not self.quants
        self.found = found
        self.quants = {
            form: self.quants.get(form) or found.plan.formats[form].recommended for form in able
        }
        kept = self.chosen.intersection(able)
        if first or (self.chosen and not kept):
            kept = {_FIRST if _FIRST in able else able[0]} if able else set()
        self.chosen = kept
        self.changed.emit()

    def _refuse(self, of: tuple[object, ...], error: UserError) -> None:
        if of == self._of:
            self.problem = problem_of(error)
            self.changed.emit()


def _read(run: Run, step: int | None, place: Path) -> Found:
    """What can be made of a run, and what there is in the place it goes to."""
    trained = trained_run(run, step)
    plan = plan_exports(trained, Path(trained.adapter))
    with storage_errors(place):  # another disk may be gone, or closed to us
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        return Found(plan, trained, shutil.disk_usage(there).free, _earlier(place))


def _earlier(place: Path) -> dict[Path, dict[str, Any]]:
    """What every export in a folder says of itself."""
    found: dict[Path, dict[str, Any]] = {}
    for file in sorted(place.glob(f"*/{FACTS}")):
        try:
            found[file.parent] = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found
