"""Runs: everything that was trained here, and the queue of what is still to be done."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication

from app.archive import Archive
from app.folders import SHOW, reveal
from app.models.queue_line import QueueLine
from app.models.run_row import RunRow
from app.models.runs_table import ORDERS, ROW, RunsFilter, RunsTable, words_of_loss
from app.pages.page import Page, Primary
from app.problems import problem_of
from app.recipes import command_of
from app.widgets.empty import EmptyView
from app.widgets.queue_list import QueueList
from app.widgets.run_details import RunFacts
from app.widgets.run_library import RunLibrary
from app.widgets.run_list import RunLine
from app.widgets.sheet import ask
from app.words import plural, size, state_of

if TYPE_CHECKING:
    from PySide6.QtWidgets import QMessageBox

    from app.desk import Desk
    from app.models.runs_table import Index
    from mlx_lora.errors import UserError

# states in which it matters how far it came
_CUT = {"stopped", "interrupted", "failed", "running", "paused"}
_DUPLICATE, _COPY, _DELETE = "Duplicate Settings", "Copy as Command", "Delete…"


class RunsPage(Page):
    """The library of runs, with the queue above it.

    Attributes:
        sample: the person wants to try it with what is bundled.
    """

    sample = Signal()
    key, title = "runs", "Runs"
    purpose = "Everything you trained on this computer, to compare, export or go on with."

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.archive, self.line = Archive(desk), QueueLine(desk.queue)
        self.table = RunsTable(desk.runs, desk.queue, desk.tasks)
        self.shown = RunsFilter(self.table)
        self.sheet: QMessageBox | None = None
        self.queue = QueueList()
        self.library = RunLibrary(
            self.shown, _line, ORDERS,
            (
                (_DUPLICATE, "copy", self.duplicate), (_COPY, "log", self.copy_command),
                (SHOW, "folder", self.show_folder), (_DELETE, "trash", self.ask_to_delete),
            ),
        )  # fmt: skip
        self.list, self.details = self.library.list, self.library.details
        self.body.addWidget(self.queue)
        self.body.addWidget(self.library, 1)
        self.empty.addWidget(
            EmptyView(
                "chart", "Nothing trained yet",
                "Every run is kept here, with its losses, its adapter and its exports.",
                ("Try with Sample", self.sample.emit),
                ("Choose a Model", lambda: self.leave.emit("model")),
            ),
            1,
        )  # fmt: skip
        self.queue.moved.connect(lambda move: self.line.move(move.key, move.by))
        self.queue.ended.connect(self.line.end)
        self.line.changed.connect(self._say_queue)
        self.library.searched.connect(self.shown.search)
        self.library.searched.connect(self._choose)
        self.library.ordered.connect(self.shown.order)
        self.list.chosen.connect(self._say)
        self.list.opened.connect(self.act)
        self.list.unwanted.connect(self.ask_to_delete)
        self.table.loaded.connect(self._loaded)
        self.table.dataChanged.connect(self._say)
        self._say_queue()

    # -- what the window asks

    def hint(self) -> str:
        """How much there is."""
        row = self.row
        if row is not None and row.status == "damaged":
            return "This run's files are damaged; it can only be looked at or deleted."
        rows, shown = self.table.rows, self.shown.rowCount()
        if shown != len(rows):
            return f"{shown} of {plural(len(rows), 'run')}"
        kept = size(sum(row.size for row in rows))
        return f"{plural(len(rows), 'run')}, {kept} on disk" if rows else ""

    def primary(self) -> Primary:
        """Open, and going on where that is possible."""
        row = self.row
        if not self.table.rows:
            return Primary("")
        if row is None or row.record is None:
            return Primary("Open Run", enabled=False)
        verb = "Start Training" if row.status == "new" else "Resume Training"
        return Primary("Open Run", shortcut=verb if row.resumable else "")

    def act(self) -> None:
        """Open the chosen run."""
        if self.row is not None:
            self.open(self.row)

    def act_shortcut(self) -> None:
        """Go on with it."""
        row = self.row
        if row is not None and row.resumable:
            self.archive.resume(row)

    def entered(self) -> None:
        """Read what is new."""
        if not self.table.ready:
            self.show_loading("Reading your runs…")
        self.table.refresh()

    @property
    def row(self) -> RunRow | None:
        """The chosen run."""
        found = self.list.currentIndex().data(ROW) if self.list.currentIndex().isValid() else None
        return found if isinstance(found, RunRow) else None

    # -- what can be done with a run

    def open(self, row: RunRow) -> None:
        """Make it the project's run and go where it stands."""
        done = row.status == "finished" and row.usable
        if row.record is not None:
            self.archive.open(row, lambda: self.leave.emit("compare" if done else "train"))

    def duplicate(self) -> None:
        """A new project with the same choices."""
        row = self.row
        if row is not None and row.record is not None:
            self.archive.duplicate(row)
            self.leave.emit("configure")

    def copy_command(self) -> None:
        """The command that makes this run again, on the clipboard."""
        row = self.row
        if row is not None and row.record is not None:
            file = str(row.run.folder / "config.toml")
            QGuiApplication.clipboard().setText(command_of(row.record.config, file))
            self.banner.say("The command is on the clipboard", tone="ok")

    def show_folder(self) -> None:
        """In the system's file browser."""
        if self.row is not None:
            reveal(self.row.run.folder)

    def ask_to_delete(self) -> None:
        """Ask, unless it is being worked on."""
        row = self.row
        if row is None:
            return
        if self.table.job_of(row) is not None:
            self.banner.say(
                "This run is being worked on",
                "Stop it, or take it out of the queue, before you delete it.", "warn",
            )  # fmt: skip
            return
        self.sheet = ask(
            self, f"Move “{row.title}” to the Trash?",
            f"Its adapter, checkpoints and samples ({size(row.size)}) go with it. Files exported "
            "elsewhere stay. You can take it back out of the Trash.",
            "Move to Trash", lambda: self._trash(row),
        )  # fmt: skip

    def _trash(self, row: RunRow) -> None:
        gone = partial(self._gone, f"“{row.title}” is in the Trash")
        self.archive.trash(row, gone, partial(self.refuse, row))

    def refuse(self, row: RunRow, error: UserError) -> None:
        """It could not be moved to the trash."""
        if error.code != "no_trash":
            self.show_error(problem_of(error), ("Try Again", lambda: self._trash(row)))
            return
        self.sheet = ask(
            self, f"Delete “{row.title}” for good?",
            "There is no Trash for this disk. What is deleted here cannot be taken back.",
            "Delete for Good", lambda: self._delete(row),
        )  # fmt: skip

    def _delete(self, row: RunRow) -> None:
        gone = partial(self._gone, f"“{row.title}” is deleted")
        again = ("Try Again", lambda: self._delete(row))
        self.archive.delete(row, gone, lambda error: self.show_error(problem_of(error), again))

    def _gone(self, words: str) -> None:
        self.show_state("ready")
        self.table.refresh()
        self.banner.say(words, tone="ok")
        self.list.setFocus()

    # -- what is shown

    def _loaded(self) -> None:
        """The folders were read: choose a run where none is chosen yet."""
        if not self.table.rows:
            self.show_state("empty")
            return
        if self.state in {"loading", "empty"}:
            self.show_state("ready")
        self._say_queue()
        self._choose()

    def _choose(self, _text: str = "") -> None:
        """Some run is always the chosen one, where one is shown."""
        if not self.list.currentIndex().isValid() and self.shown.rowCount():
            self.list.setCurrentIndex(self.shown.index(0, 0))
        self._say()

    def _say(self) -> None:
        """The run that is chosen, and what can be done with it."""
        row, words = self.row, self.library.search.text().strip()
        self.library.say_found(self.shown.rowCount() > 0, f"No run holds “{words}”.")
        self.details.setVisible(row is not None)
        if row is not None:
            self.details.say(_facts(row))
            for text in (_DUPLICATE, _COPY):
                self.details.buttons[text].setEnabled(row.record is not None)
        self.changed.emit()

    def _say_queue(self) -> None:
        entries = self.line.entries
        self.queue.say(entries)
        if self.state in {"ready", "running"}:
            self.state = "running" if entries else "ready"


def _line(index: Index) -> RunLine:
    """A run as the list shows it."""
    row: RunRow = index.data(ROW)
    word, tone, icon = state_of(row.status)
    at = f"{word} at step {row.step:,}" if row.status in _CUT and row.step else word
    caption = " · ".join(filter(None, (row.base, row.data, row.date))) or row.why
    return RunLine(row.title, caption, at, tone, icon, words_of_loss(row), row.points)


def _facts(row: RunRow) -> RunFacts:
    """A run in full."""
    why = f"{row.why[:1].upper()}{row.why[1:].rstrip('.')}." if row.why else ""
    steps = f"{row.step:,} of {row.steps:,}" if row.steps else ""
    facts = (
        ("Base", row.base), ("Data", row.data), ("Made", row.date), ("Steps", steps),
        ("Held-out loss", words_of_loss(row)), ("On disk", size(row.size)),
        ("Exported", ", ".join(row.exports)),
    )  # fmt: skip
    return RunFacts(row.title, row.name, state_of(row.status), row.points, facts, why, row.engine)
