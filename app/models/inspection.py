"""What the chosen data is to the chosen model: asked of a worker, again whenever either changes.

Made with the application, so that facts are there whichever page is open. It runs beside the queue:
no weight is read, and it takes well under a second.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.jobs import Job
from app.models.cleaning import Cleaning
from app.steps import data_fits
from mlx_lora import events, jobs
from mlx_lora.config import PRESETS, build_config, merge
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.project import ProjectStore
    from app.tasks import Tasks

State = Literal["none", "waiting", "reading", "ready", "failed"]
Piece = tuple[str, str]
# a slider that is dragged asks once
_PATIENCE = 150
_KEPT_ROWS = 300
# of so many rows the worker says the text by itself
_SAID = 50


class Found(msgspec.Struct):
    """What a worker said.

    Attributes:
        facts: the figures; the keys of `mlx_lora.data.inspect`'s report.
        rows: the first rows as the person wrote them.
        pieces: by row, its text in pieces with their states, as far as they were asked for.
        tokens: by row, how many tokens it has.
        mapping: the columns of its rows, with what each may be; also where no row is understood.
    """

    facts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    pieces: dict[int, list[Piece]] = {}
    tokens: dict[int, int] = {}
    mapping: dict[str, Any] = {}

    def take(self, event: events.Event) -> None:
        """Fold one more event in."""
        match event:
            case events.Report(kind="inspect", data=data):
                self.facts, self.mapping = data, data.get("mapping", {})
            case events.Report(kind="columns", data=data):
                self.mapping = data
            case events.Report(kind="preview", data=data):
                self.rows += data["rows"]
            case events.Report(kind="pieces", data=data):
                row = data["row"]
                self.pieces.setdefault(row, []).extend(
                    (text, state) for text, state in data["pieces"]
                )
                if data["start"] == 0:  # a long row may come in several windows
                    self.tokens[row] = self.tokens.get(row, 0) + data["tokens"]
            case _:
                pass


class Inspection(QObject):
    """Follows the project; `changed` when there is something else to show.

    Attributes:
        row_shown: a row that was asked for is in `found` now, or is not there (`missing`).
        state: none (no data), waiting (for a model), reading, ready or failed.
        found: the last answer that holds for the chosen data, also while it is asked again; rows
            are those of the question asked now as soon as it told them.
        phase: how far the worker is.
        failure: why it failed.
        missing: rows that the data does not have or that are left out, with the reason.
        worker: makes the job of a question.
        cleaning: writes a cleaned copy of the data.
    """

    changed = Signal()
    row_shown = Signal(int)

    def __init__(self, project: ProjectStore, root: Path, tasks: Tasks) -> None:
        super().__init__()
        self._project, self._root, self._tasks = project, root, tasks
        self.worker: Callable[[jobs.InspectJob], Job] = Job
        self.state: State = "none"
        self.found, self.phase = Found(), events.Phase("")
        self.failure: events.Failed | None = None
        self.missing: dict[int, str] = {}
        self.job: Job | None = None
        self._row_job: Job | None = None
        self._key, self._source, self._next = "", "", Found()
        self.cleaning = Cleaning()
        self._dying: set[Job] = set()
        self._awaited = 0
        self._timer = QTimer(self, singleShot=True, interval=_PATIENCE)
        self._timer.timeout.connect(self.refresh)
        project.changed.connect(self._look)

    def begin(self) -> None:
        """Look at the project as it is."""
        self._look()

    def ensure(self) -> None:
        """The rows are wanted: read them, and read again what was written to since."""
        if self.state != "ready" or self._timer.isActive():
            return
        if not self.found.rows:
            self.refresh()
            return
        source, root, before = self._source, self._root, self.found.facts.get("stamp")
        what = self.question()
        if source != "tiny-shakespeare" and what is not None:
            self._tasks.run(
                lambda: find_source(what.data, root).stamp(),
                lambda now: self._compare(source, before, now),
                lambda _error: self.refresh(),
            )

    def refresh(self) -> None:
        """Ask a worker now."""
        self._timer.stop()
        self._drop()
        what = self.question()
        if what is None:
            return
        self._key, self._next, self.phase = self._key_of(what), Found(), events.Phase("")
        self.missing, self.failure = {}, None
        job = self.job = self.worker(what)
        job.said.connect(self._hear)
        job.ended.connect(lambda outcome: self._end(job, outcome))
        self.state = "reading"
        job.start()
        self.changed.emit()

    def cancel(self) -> None:
        """The person does not want to wait: the data is not chosen any more."""
        self._drop()
        self._project.update(data=None)

    def show_row(self, row: int) -> None:
        """Have one row in `found.pieces`; `row_shown` tells when it is."""
        what = self.question()
        if row in self.found.pieces or row in self.missing or what is None:
            self.row_shown.emit(row)
            return
        if self._is_coming(row):
            self._awaited = row
            return
        self._awaited = 0
        self._kill(self._row_job)
        answer = Found()
        job = self._row_job = self.worker(msgspec.structs.replace(what, row=row))
        job.said.connect(answer.take)
        job.ended.connect(lambda outcome: self._end_row(job, row, answer, outcome))
        job.start()

    def leave(self) -> None:
        """The owner goes."""
        self._timer.stop()
        self.cleaning.leave()
        self._drop()
        for job in tuple(self._dying):
            job.wait(2)

    def _look(self) -> None:
        """The project changed: whether what is known still holds."""
        project = self._project.value
        source = project.data.source if project.data else ""
        if source != self._source:
            self._drop()
            self._source, self._key, self.found, self.missing = source, "", Found(), {}
        if project.data is None or project.model is None:
            self._rest("waiting" if project.data else "none")
            return
        what = self.question()
        if what is None or self._key_of(what) == self._key:
            return
        key = self._key_of(what)
        facts = project.data.facts
        if data_fits(project) and facts.get("key", key) == key:
            self._key = key
            self.found = Found(facts=dict(facts), mapping=facts.get("mapping", {}))
            self._rest("ready")
            return
        self._key = key
        self._drop()
        self.state = "reading"
        self._timer.start()
        self.changed.emit()

    def _rest(self, state: State) -> None:
        """Nothing to ask."""
        self._timer.stop()
        self._drop()
        if state != "ready":
            self._key = ""
        if state != self.state or state == "ready":
            self.state = state
            self.changed.emit()

    def question(self) -> jobs.InspectJob | None:
        """What is asked of a worker, None where something for it is missing."""
        project = self._project.value
        if project.model is None or project.data is None:
            return None
        chosen = merge(PRESETS[project.preset], project.settings)
        tree = {
            "model": {"source": project.model.source},
            "data": {**chosen.get("data", {}), "source": project.data.source},
        }
        try:
            config = build_config(tree)
        except UserError:  # a field of Configure holds no value yet: what is known stays
            return None
        root, seed = str(self._root), chosen.get("training", {}).get("seed", 0)
        return jobs.InspectJob(model=config.model, data=config.data, seed=seed, root=root)

    def _key_of(self, what: jobs.InspectJob) -> str:
        parts = msgspec.json.encode((what.model.source, what.data, what.seed))
        return hashlib.sha256(parts).hexdigest()[:16]

    def _hear(self, event: events.Event) -> None:
        self._next.take(event)
        match event:
            case events.Phase():
                self.phase = event
                self.changed.emit()
            case events.Report(kind="preview"):
                self._show_first()
                self.changed.emit()
            case events.Report(kind="pieces", data={"row": int(row)}):
                self.row_shown.emit(row)
            case _:
                pass
        if self._awaited and not self._is_coming(self._awaited):
            self.show_row(self._awaited)

    def _show_first(self) -> None:
        """The rows of the question asked now; its figures come when everything was read."""
        new = self._next
        if self.found.rows is not new.rows:
            old = self.found
            self.found = Found(old.facts, new.rows, new.pieces, new.tokens, old.mapping)

    def _is_coming(self, row: int) -> bool:
        """Whether the worker is about to say the text of a row by itself.

        Texts follow the rows at once, so that whatever else it says ends the wait.
        """
        if self.job is None or row > _SAID:
            return False
        return self.phase.name != "checking" and not self._next.facts

    def _end(self, job: Job, outcome: events.Finished | events.Failed) -> None:
        job.deleteLater()
        if job is not self.job:
            self._dying.discard(job)
            return
        self.job = None
        project = self._project.value
        if isinstance(outcome, events.Failed):
            self.state, self.failure = "failed", outcome
            asked = self._next if self._next.mapping else Found()
            self.found = Found(rows=asked.rows, mapping=asked.mapping)
            facts: dict[str, Any] = {}
        else:
            self.state, self.found = "ready", self._next
            source = project.model.source if project.model else ""
            facts = {"model": source, "key": self._key, **self.found.facts}
        self.changed.emit()
        if self._awaited:
            self.show_row(self._awaited)
        if project.data is not None and project.data.facts != facts:
            self._project.update(data=msgspec.structs.replace(project.data, facts=facts))

    def _end_row(
        self, job: Job, row: int, answer: Found, outcome: events.Finished | events.Failed
    ) -> None:
        job.deleteLater()
        if job is not self._row_job:
            self._dying.discard(job)
            return
        self._row_job = None
        if isinstance(outcome, events.Failed):
            self.missing[row] = outcome.why
        elif row not in answer.pieces:
            why = answer.rows[0].get("why") if answer.rows else None
            self.missing[row] = why or "it is left out: it holds no text or no answer"
        while len(self.found.pieces) > _KEPT_ROWS:
            self.found.pieces.pop(next(iter(self.found.pieces)))
        self.found.pieces.update(answer.pieces)
        self.found.tokens.update(answer.tokens)
        self.row_shown.emit(row)

    def _compare(self, source: str, before: object, now: str) -> None:
        if source == self._source and before != now and self.job is None:
            self.refresh()

    def _drop(self) -> None:
        self._kill(self.job)
        self._kill(self._row_job)
        self.job = self._row_job = None
        self._awaited = 0

    def _kill(self, job: Job | None) -> None:
        """Whoever reads and writes nothing may be ended at once."""
        if job is not None and job.state == "running":
            self._dying.add(job)
            job.kill()
