"""All runs as a table: read off the window's thread, kept up to date while one trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    QTimer,
    Signal,
)

from app.models.run_row import RunRow, read_row, stamp_of, thin
from app.words import size, state_of
from mlx_lora import events, jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.jobs import Job, JobQueue
    from app.tasks import Tasks
    from mlx_lora.runs import RunStore

Index = QModelIndex | QPersistentModelIndex
ROW = int(Qt.ItemDataRole.UserRole)
_REPAINT, _LONGEST = 250, 400
Known = dict[str, tuple[tuple[int, ...], RunRow]]


class RunsTable(QAbstractTableModel):
    """A row a run, newest first; the `RunRow` is at `ROW` of every column.

    Attributes:
        loaded: the folders were read (again).
        rows: what is shown.
        ready: they were read at least once.
    """

    loaded = Signal()
    HEADINGS = (
        "Name", "Base", "Data", "Date", "State", "Step", "Held-Out Loss Before",
        "Held-Out Loss After", "Size", "Exports",
    )  # fmt: skip

    def __init__(self, store: RunStore, queue: JobQueue, tasks: Tasks) -> None:
        super().__init__()
        self._store, self._queue, self._tasks = store, queue, tasks
        self.rows: list[RunRow] = []
        self.ready = False
        self._known: Known = {}
        self._reading, self._again = False, False
        self._heard: tuple[Job, str] | None = None
        self._news: list[events.Event] = []
        self._timer = QTimer(self, singleShot=True, interval=_REPAINT)
        self._timer.timeout.connect(self._take)
        queue.changed.connect(self.refresh)

    # -- as Qt asks for it

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Runs."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Facts of each."""
        return 0 if parent.isValid() else len(self.HEADINGS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """The names of the facts."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.HEADINGS[section]
        return None

    def data(self, index: Index, role: int = 0) -> Any:
        """The words of a cell; the row itself at `ROW`."""
        if not index.isValid():
            return None
        row = self.rows[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return _cells(row)[index.column()]
            case Qt.ItemDataRole.AccessibleTextRole:
                return spoken(row)
            case _:
                return row if role == ROW else None

    def find(self, name: str) -> RunRow | None:
        """The row of a run."""
        return next((row for row in self.rows if row.name == name), None)

    # -- reading

    def refresh(self) -> None:
        """Read what changed on disk since it was last read; asked for while reading, once more."""
        self._follow()
        if self._reading:
            self._again = True
            return
        self._reading, known, store = True, self._known, self._store
        self._tasks.run(lambda: _read_all(store, known), self._adopt)

    def _adopt(self, known: Known) -> None:
        self._reading, self._known, self.ready = False, known, True
        rows = [self._with_queue(row) for _, row in known.values()]
        names = [row.name for row in rows]
        for at in reversed(range(len(self.rows))):
            if self.rows[at].name not in names:
                self.beginRemoveRows(QModelIndex(), at, at)
                del self.rows[at]
                self.endRemoveRows()
        for at, row in enumerate(rows):
            self._put(at, row)
        self.loaded.emit()
        if self._again:
            self._again = False
            self.refresh()

    def _put(self, at: int, row: RunRow) -> None:
        """Insert or replace one row, so that what is chosen stays chosen."""
        if at < len(self.rows) and self.rows[at].name == row.name:
            if self.rows[at] != row:
                self.rows[at] = row
                self.dataChanged.emit(self.index(at, 0), self.index(at, self.columnCount() - 1))
            return
        self.beginInsertRows(QModelIndex(), at, at)
        self.rows.insert(at, row)
        self.endInsertRows()

    def _with_queue(self, row: RunRow) -> RunRow:
        """A run waits or trains where its job does, whatever its folder says yet."""
        job = self.job_of(row)
        if job is None or job.state == "ended":
            return row
        status = "queued" if job.state == "waiting" else "running"
        return msgspec.structs.replace(row, status=status, why="")

    def job_of(self, row: RunRow) -> Job | None:
        """The job that trains a run, where it is in the queue."""
        folder = str(row.run.folder)
        return next(
            (
                j
                for j in self._queue.jobs
                if isinstance(j.what, jobs.TrainJob) and j.what.run == folder
            ),
            None,
        )

    # -- live

    def _follow(self) -> None:
        """Listen to the job that trains now."""
        job = self._queue.running
        what = job.what if job is not None else None
        if job is None or not isinstance(what, jobs.TrainJob):
            self._heard = None
            return
        if self._heard is None or self._heard[0] is not job:
            self._heard, self._news = (job, what.run), []
            job.said.connect(self._hear)

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.TrainStep | events.Validation):
            self._news.append(event)
            if not self._timer.isActive():
                self._timer.start()

    def _take(self) -> None:
        """Bring the row of the job up to what was heard."""
        news, self._news = self._news, []
        folder = self._heard[1] if self._heard else ""
        for at, row in enumerate(self.rows):
            if str(row.run.folder) == folder:
                self._put(at, _after(row, news))


ORDERS = (
    ("newest", "Newest First"), ("name", "By Name"), ("loss", "Lowest Loss First"),
    ("size", "Largest First"),
)  # fmt: skip


class RunsFilter(QSortFilterProxyModel):
    """The runs that hold some words, in an order."""

    def __init__(self, table: RunsTable) -> None:
        super().__init__()
        self._words, self._key = list[str](), "newest"
        self.setSourceModel(table)
        self.sort(0)

    def search(self, text: str) -> None:
        """Only runs in which every word is found."""
        self.beginFilterChange()
        self._words = text.lower().split()
        self.endFilterChange()

    def order(self, key: str) -> None:
        """Another order."""
        self._key = key
        self.invalidate()
        self.sort(0)

    def row(self, at: int) -> RunRow:
        """The run at a place."""
        row: RunRow = self.index(at, 0).data(ROW)
        return row

    def filterAcceptsRow(self, at: int, parent: Index) -> bool:
        """Whether every word is in it."""
        row = self.sourceModel().index(at, 0, parent).data(ROW)
        text = " ".join(_cells(row)).lower()
        return all(word in text for word in self._words)

    def lessThan(self, left: Index, right: Index) -> bool:
        """The order."""
        before, after = left.data(ROW), right.data(ROW)
        return bool(_ORDER[self._key](before) < _ORDER[self._key](after))


def spoken(row: RunRow) -> str:
    """A run in one sentence, for a screen reader."""
    state, loss = state_of(row.status)[0], words_of_loss(row)
    parts = (row.title, state, row.base, row.data, row.date, loss and f"held-out loss {loss}")
    return ", ".join(filter(None, parts))


def words_of_loss(row: RunRow) -> str:
    """Held-out loss before and after."""
    if row.before is None:
        return ""
    return f"{row.before:.3f}" + (f" → {row.after:.3f}" if row.after is not None else "")


def _folder(job: Job) -> str:
    return job.what.run if isinstance(job.what, jobs.TrainJob) else ""


def _cells(row: RunRow) -> tuple[str, ...]:
    step = f"{row.step:,} of {row.steps:,}" if row.steps else ""
    before, after = (f"{loss:.3f}" if loss is not None else "" for loss in (row.before, row.after))
    exports = ", ".join(row.exports)
    state = state_of(row.status)[0]
    return (
        row.title, row.base, row.data, row.date, state, step, before, after, size(row.size), exports
    )  # fmt: skip


def _loss(row: RunRow) -> float:
    found = row.after if row.after is not None else row.before
    return float("inf") if found is None else found


def _newest(row: RunRow) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in row.stamp.replace("-", "").ljust(14, "0"))


_ORDER: dict[str, Callable[[RunRow], Any]] = {
    "newest": _newest,
    "name": lambda row: (row.title, _newest(row)),
    "loss": lambda row: (_loss(row), _newest(row)),
    "size": lambda row: (-row.size, _newest(row)),
}


def _after(row: RunRow, news: list[events.Event]) -> RunRow:
    """A row and what was heard since."""
    steps = [e for e in news if isinstance(e, events.TrainStep) and e.step > row.step]
    held = [e.loss for e in news if isinstance(e, events.Validation)]
    last = {"step": steps[-1].step, "steps": steps[-1].steps} if steps else {}
    points = thin([*row.points, *(e.loss for e in steps)], _LONGEST)
    before = row.before if row.before is not None or not held else held.pop(0)
    after = held[-1] if held else row.after
    return msgspec.structs.replace(row, points=points, before=before, after=after, **last)


def _read_all(store: RunStore, known: Known) -> Known:
    """Every run, newest first; those that say nothing new are taken as they were read."""
    found: Known = {}
    for run in store.list():
        stamp, before = stamp_of(run), known.get(run.name)
        old = before is not None and before[0] == stamp and before[1].status != "running"
        found[run.name] = before if old and before else (stamp, read_row(run))
    return found
