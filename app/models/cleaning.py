"""A cleaned copy of the data: made by a worker, beside the source, which stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Signal

from app.jobs import Job
from mlx_lora import events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlx_lora import jobs

_ENDINGS = (".gz", ".txt", ".md", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


class Cleaned(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        rows: how many it holds.
        source: where, as `--data` takes it: a file, or a folder of files.
        removed: by code of a finding, how many rows are not in it or were changed.
    """

    source: str
    rows: int
    removed: dict[str, int]


class Cleaning(QObject):
    """One copy at a time; `changed` while it is made, then `done` (a `Cleaned`) or `failed`.

    Attributes:
        phase: how far the worker is.
        worker: makes the job of a question.
    """

    changed = Signal()
    done = Signal(object)
    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.worker: Callable[[Any], Job] = Job
        self.job: Job | None = None
        self.phase = events.Phase("")
        self._made: Cleaned | None = None

    def start(self, what: jobs.CleanJob) -> None:
        """Write a copy."""
        self.cancel()
        self.phase, self._made = events.Phase(""), None
        job = self.job = self.worker(what)
        job.said.connect(self._hear)
        job.ended.connect(lambda outcome: self._end(job, outcome))
        job.start()
        self.changed.emit()

    def cancel(self) -> None:
        """Leave it; nothing half written stays."""
        job, self.job = self.job, None
        if job is not None and job.state == "running":
            job.stop()
            self.changed.emit()

    def leave(self) -> None:
        """The owner goes."""
        job, self.job = self.job, None
        if job is not None and job.state == "running":
            job.leave()
            job.wait(2)

    def _hear(self, event: events.Event) -> None:
        match event:
            case events.Phase():
                self.phase = event
                self.changed.emit()
            case events.Report(kind="clean", data=data):
                self._made = Cleaned(data["path"], data["rows"], data["removed"])
            case _:
                pass

    def _end(self, job: Job, outcome: events.Finished | events.Failed) -> None:
        job.deleteLater()
        if job is not self.job:
            return
        self.job = None
        self.changed.emit()
        if isinstance(outcome, events.Failed):
            self.failed.emit(outcome)
        elif self._made is not None:
            self.done.emit(self._made)


def copy_path(root: Path, title: str, facts: Mapping[str, Any]) -> Path:
    """Where a copy of the data called `title` goes: a place where nothing is yet.

    Data in several splits becomes a folder of files.
    """
    splits = {part.partition(":")[0] for part in str(facts.get("stamp", "")).split()}
    ending = ".txt" if "document" in facts.get("formats", {}) else ".jsonl"
    ending = "" if len(splits) > 1 else ending
    stem = title.replace("/", " ")
    for known in _ENDINGS:
        stem = stem[: -len(known)] if stem.lower().endswith(known) else stem
    stem, number = stem.removesuffix(" cleaned") or "Data", 2
    path = root / "datasets" / f"{stem} cleaned{ending}"
    while path.exists():
        path, number = path.with_name(f"{stem} cleaned {number}{ending}"), number + 1
    return path
