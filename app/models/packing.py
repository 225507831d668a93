"""A smaller copy of a model: packed by a job in the queue, measured against the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import QObject, QTimer, Signal

from app.jobs import Job
from mlx_lora import events, jobs
from mlx_lora.models.holdings import library_folder
from mlx_lora.models.library import model_name
from mlx_lora.models.packing import packed_name
from mlx_lora.storage import show

if TYPE_CHECKING:
    from pathlib import Path

    from app.desk import Desk

Bits = Literal[4, 6, 8]
WIDTHS: tuple[Bits, ...] = (4, 6, 8)
_REPAINT = 100
# a packed number: its bits, and 16-bit scale and bias every 64
_EXTRA = 32 / 64


class Packing(QObject):
    """One copy at a time; `changed` while it is made, then `done` with its folder, or `failed`.

    Attributes:
        source: the model it is made of; empty before the first.
        bits: what it is packed to.
        phase: how far the worker is.
        report: what it came to, of the worker's report `quantize`.
    """

    changed = Signal()
    done = Signal(str)
    failed = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.source, self.bits = "", 0
        self.phase = events.Phase("")
        self.report: dict[str, Any] = {}
        self.job: Job | None = None
        self._timer = QTimer(self, singleShot=True, interval=_REPAINT)
        self._timer.timeout.connect(self.changed)

    @property
    def waiting(self) -> bool:
        """Whether something else works before it."""
        return self.job is not None and self.job.state == "waiting"

    def place(self, source: str, bits: int) -> Path:
        """Where a copy goes."""
        return library_folder(self._desk.runs.root) / packed_name(model_name(source), bits)

    def start(self, source: str, bits: Bits) -> None:
        """Line one up."""
        self.source, self.bits, self.report = source, bits, {}
        self.phase, out = events.Phase(""), self.place(source, bits)
        what = jobs.QuantizeJob(
            model=source, bits=bits, out=str(out), root=str(self._desk.runs.root)
        )
        job = self.job = Job(what, title=out.name)
        job.said.connect(self._hear)
        job.ended.connect(lambda outcome: self._end(outcome, out))
        self._desk.queue.add(job)
        self.changed.emit()

    def stop(self) -> None:
        """Leave it; a copy that is written already stays, without its figures."""
        if self.job is not None:
            self._desk.queue.cancel(self.job)

    def _hear(self, event: events.Event) -> None:
        match event:
            case events.Phase():
                self.phase = event
            case events.Report(kind="quantize", data=data):
                self.report = data
            case _:
                return
        if not self._timer.isActive():
            self._timer.start()

    def _end(self, outcome: events.Finished | events.Failed, out: Path) -> None:
        self.job = None
        self._timer.stop()
        self.changed.emit()
        if isinstance(outcome, events.Failed):
            self.failed.emit(outcome)
        elif out.is_dir():
            self.done.emit(show(out))


def packed_bytes(parameters: int, bits: int) -> int:
    """About what a copy weighs."""
    return round(parameters * (bits + _EXTRA) / 8)
