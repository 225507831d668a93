"""Runs: a run is a folder, its state the fold of its events.

<run>/config.toml        exact input, versions, hash of the data, fingerprint of the base
<run>/events.jsonl       everything that was said, appended before it was sent
<run>/checkpoints/       complete-or-absent, see checkpoints.py
<run>/adapter/           mlx-lm's own format, appears once when the run ends
<run>/worker.log         what libraries printed
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import tomllib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import msgspec
import platformdirs
import tomli_w

from mlx_lora import checkpoints, events
from mlx_lora.config import RunConfig, build_config
from mlx_lora.errors import UserError
from mlx_lora.storage import (
    TEMPORARY,
    expanded,
    new_folder,
    remove_folder,
    remove_leftovers,
    show,
    storage_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `config.toml` holds.

    Attributes:
        created: the day (YYYY-MM-DD), which some chat templates write into every row: a run that
            is resumed tomorrow renders the rows it began with.
    """

    config: RunConfig
    versions: dict[str, str]
    data_sha256: str
    base_fingerprint: str
    model_name: str
    created: str = ""


class RunState(msgspec.Struct, kw_only=True):
    """What the events of a run add up to."""

    status: str = "new"
    phase: str = ""
    step: int = 0
    steps: int = 0
    first_validation: events.Validation | None = None
    last_validation: events.Validation | None = None
    best_step: int | None = None
    losses: list[tuple[int, float]] = []
    validations: list[events.Validation] = []
    samples: list[events.Sample] = []
    exports: list[dict[str, Any]] = []
    fuse_loss: dict[str, Any] = {}
    failure: events.Failed | None = None


class Run:
    """One run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Where its adapter is once it ended."""
        return self.folder / "adapter"

    def saved(self) -> str:
        """What of this run is on disk, in words; empty where nothing is."""
        try:
            found = checkpoints.scan(self.checkpoints)
        except UserError:
            return ""
        step = found[-1].manifest.step if found else 0
        return f"the state after step {step} (understudy resume {self.name})" if found else ""

    def record(self) -> RunRecord:
        """The input this run was made from.

        Raises:
            UserError: `damaged_run`.
        """
        path = self.folder / "config.toml"
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
            config = tree.pop("config")
            return RunRecord(config=build_config(config), **tree)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            fix = "start a new run, or bring the folder back from a backup"
            raise UserError(
                "damaged_run", show(path), f"it cannot be read ({error})", fix
            ) from error

    def events(self) -> Iterator[events.Event]:
        """Every event of the run that can be read, oldest first."""
        path = self.folder / "events.jsonl"
        if not path.is_file():
            return
        with path.open("rb") as file:
            for line in file:
                event = events.decode(line)
                if event is not None:
                    yield event

    def state(self) -> RunState:
        """The fold of the events; `interrupted` where nobody works on it and it never ended."""
        state = RunState()
        for event in self.events():
            fold(state, event)
        if state.status == "running" and not self.is_locked():
            state.status = "interrupted"
        return state

    @contextmanager
    def append_log(self) -> Iterator[BinaryIO]:
        """`events.jsonl`, open at its end; a line torn by a crash is closed first."""
        path = self.folder / "events.jsonl"
        with storage_errors(path):
            torn = path.is_file() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
            file = path.open("ab", buffering=0)
        with file:
            if torn:
                with storage_errors(path):
                    file.write(b"\n")
            yield file

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this run; the lock is gone with the process, however it ends.

        Raises:
            UserError: `busy`.
        """
        with _locked(self.folder / ".lock", f"run {self.name}"):
            yield

    def is_locked(self) -> bool:
        """Whether some process works on this run now."""
        try:
            with (self.folder / ".lock").open("a") as file:
                return not _take(file, 0.0)
        except OSError:  # a folder nobody may write to is worked on by nobody
            return False


def fold(state: RunState, event: events.Event) -> None:
    """Bring a run's state up to date with one more event."""
    match event:
        case events.Hello():
            state.status, state.failure = "running", None
        case events.Phase(name="resumed", done=step):
            _forget_after(state, step)
        case events.Phase(name=name):
            state.phase = name
        case events.TrainStep():
            state.step, state.steps = event.step, event.steps
            state.losses.append((event.step, event.loss))
        case events.Validation():
            state.first_validation = state.first_validation or event
            state.last_validation = event
            state.validations.append(event)
        case events.Sample() | events.Report():
            _collect(state, event)
        case events.CheckpointSaved(best=True, step=step):
            state.best_step = step
        case events.Finished(reason=reason, result=result):
            state.status = "finished" if reason in {"done", "early_stop"} else reason
            # a kill between a save and its event leaves the best step unsaid until here
            state.best_step = result.get("step") if "adapter" in result else state.best_step
        case events.Failed():
            state.status, state.failure = "failed", event
        case _:
            pass


def _collect(state: RunState, event: events.Sample | events.Report) -> None:
    """Keep what a person looks at later."""
    if isinstance(event, events.Sample):
        state.samples.append(event)
    elif event.kind == "export":
        state.exports.append(event.data)
    elif event.kind == "fuse_loss":
        state.fuse_loss = event.data


def _forget_after(state: RunState, step: int) -> None:
    """Drop what is about to be made again."""
    state.step = step
    state.losses = [point for point in state.losses if point[0] <= step]
    state.validations = [v for v in state.validations if v.step <= step and step > 0]
    state.samples = [s for s in state.samples if s.step <= step]
    if state.best_step is not None and state.best_step > step:
        state.best_step = None


class RunStore:
    """All runs below one data root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def runs(self) -> Path:
        """The folder that holds the runs."""
        return self.root / "runs"

    def create(self, record: RunRecord, name: str, folder: Path | None = None) -> Run:
        """A new run folder with its `config.toml`.

        Raises:
            UserError: `exists`, `no_permission`, `disk_full` or `storage`.
        """
        remove_leftovers(self.runs, of_the_dead=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = folder or self._free_name(f"{stamp}-{_plain(name)}")
        with new_folder(target) as temporary:
            content = tomli_w.dumps(_without_none(msgspec.to_builtins(record)))
            (temporary / "config.toml").write_text(content, encoding="utf-8")
        return Run(target)

    def list(self) -> list[Run]:
        """Every run, newest first."""
        found = [p.parent for p in self.runs.glob("*/config.toml")]
        folders = [folder for folder in found if not folder.name.startswith(TEMPORARY)]
        return [Run(folder) for folder in sorted(folders, reverse=True)]

    def find(self, name: str) -> Run:
        """A run by folder path or by name.

        Raises:
            UserError: `no_such_run`.
        """
        for folder in (expanded(name), self.runs / name):
            if (folder / "config.toml").is_file():
                return Run(folder.absolute())
        known = ", ".join(run.name for run in self.list()[:3]) or "none yet"
        raise UserError(
            "no_such_run",
            name or "RUN_DIR",
            "this is no run folder and no run of that name",
            f"the newest are: {known}",
        )

    def delete(self, run: Run) -> None:
        """Remove a run and all it holds.

        Outside this store a folder must read as a run's: a `config.toml` may be anybody's.

        Raises:
            UserError: `busy` while it is being worked on, `damaged_run`.
        """
        if run.folder.parent.resolve() != self.runs.resolve():
            run.record()
        with run.lock(), storage_errors(run.folder):
            remove_folder(run.folder)

    @contextmanager
    def engine(self) -> Iterator[None]:
        """The right to run a heavy job: one at a time for window and command line together.

        Raises:
            UserError: `busy`.
        """
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        # a worker whose owner is gone may still be saving: give it a moment
        with _locked(self.root / "engine.lock", "this Mac's training engine", patience=10.0):
            yield

    def _free_name(self, name: str) -> Path:
        candidates = [name, *(f"{name}-{number}" for number in range(2, 1000))]
        return next(self.runs / c for c in candidates if not (self.runs / c).exists())


def default_root() -> Path:
    """The data root: `UNDERSTUDY_HOME`, or the user's own data folder."""
    chosen = os.environ.get("UNDERSTUDY_HOME")
    return expanded(chosen) if chosen else platformdirs.user_data_path("Understudy", False)


@contextmanager
def _locked(path: Path, what: str, patience: float = 0.2) -> Iterator[None]:
    with storage_errors(path):
        file = path.open("a")
    with file:
        if not _take(file, patience):
            fix = "wait until it is done, or stop it"
            raise UserError("busy", what, "another Understudy is working with it", fix)
        yield


def _take(file: IO[str], patience: float) -> bool:
    """Lock a file, trying for a while: whoever only asks holds it an instant too."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "run"


def _without_none(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    return tree
