"""The project: what a person has chosen so far. The only state pages share.

Saved on every change, restored at start; `RunConfig` is made from it and from nothing else.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Signal

from mlx_lora.config import PRESETS, RunConfig, build_config, merge
from mlx_lora.errors import UserError
from mlx_lora.storage import remove_leftovers, storage_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIX = ".project.json"


class ModelChoice(msgspec.Struct, frozen=True):
    """The base that was chosen.

    Attributes:
        source: what `--model` takes.
        title: its name for people.
        note: a few words under the name, such as `4-bit` or `on this Mac`.
    """

    source: str
    title: str
    note: str = ""


class DataChoice(msgspec.Struct, frozen=True):
    """The data that was chosen.

    Attributes:
        source: what `--data` takes.
        title: its name for people.
        facts: what the worker's inspection said, empty until it did; `model` in it is the source
            of the model it was inspected for.
    """

    source: str
    title: str
    facts: dict[str, Any] = {}


class Vote(msgspec.Struct, frozen=True):
    """Which answer a person found better: base, adapted or tie."""

    prompt: str
    better: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """Everything chosen so far.

    Attributes:
        settings: differences from the preset, as a `--config` file holds them.
        run: name of the run this project trained last.
        recipe: `recipe_of` the project when that run was started.
        checkpoint: the step Compare and Export use; None for the kept adapter.
    """

    name: str = "Untitled"
    model: ModelChoice | None = None
    data: DataChoice | None = None
    preset: str = "balanced"
    settings: dict[str, dict[str, Any]] = {}
    run: str | None = None
    recipe: str = ""
    checkpoint: int | None = None
    prompt: str = ""
    votes: tuple[Vote, ...] = ()
    step: str = "model"


def build_run_config(project: Project) -> RunConfig:
    """The configuration of a run of this project.

    Raises:
        UserError: `bad_option`, naming the field.
    """
    return build_config(_tree(project))


def _tree(project: Project) -> dict[str, Any]:
    """The preset, what differs from it, and the sources, as plain values."""
    sources = {
        "model": {"source": project.model.source if project.model else ""},
        "data": {"source": project.data.source if project.data else ""},
    }
    return merge(merge(PRESETS[project.preset], project.settings), sources)


def recipe_of(project: Project) -> str:
    """A digest of everything that decides a run: another one means the run is of another recipe.

    Names for people do not count, nor which preset the same values came from.
    """
    parts: Any
    try:
        parts = build_run_config(project)
    except UserError:
        parts = _tree(project)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def is_blank(project: Project) -> bool:
    """Whether nothing was chosen in it yet."""
    return (project.model, project.data, project.run) == (None, None, None)


class ProjectStore(QObject):
    """The open project and its file; `changed` carries the project after each change."""

    changed = Signal(object)

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._folder = root / "projects"
        remove_leftovers(self._folder, of_the_dead=True)
        self._file = self._newest() or self._free()
        self.value = _read(self._file) or Project()

    @property
    def file(self) -> Path:
        """Where the open project is saved."""
        return self._file

    def update(self, **changes: Any) -> None:
        """Change some of it, save, and tell whoever shows it.

        Raises:
            UserError: `disk_full`, `no_permission` or `storage`; what is shown is changed anyway.
        """
        after = msgspec.structs.replace(self.value, **changes)
        if after == self.value:
            return
        self.value = after
        try:
            self._save(self._file, after)
        finally:
            self.changed.emit(after)

    def list(self) -> list[tuple[Path, Project]]:
        """Every saved project, the last changed first."""
        files = sorted(self._files(), key=_age)
        return [(file, project) for file in files if (project := _read(file)) is not None]

    def new(self, name: str = "Untitled", **choices: Any) -> None:
        """Start another project, with these choices; the one before stays as it is.

        One that holds no choice yet is not kept: the new one takes its place.
        """
        file = self._file if is_blank(self.value) else self._free()
        project = Project(name=name, **choices)
        self._save(file, project)
        self._open(file, project)

    def open(self, file: Path) -> None:
        """Go on with a saved project."""
        project = _read(file)
        if project is not None:
            self._open(file, project)

    def _save(self, file: Path, project: Project) -> None:
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        write_file(file, msgspec.json.format(msgspec.json.encode(project)))

    def _open(self, file: Path, project: Project) -> None:
        self._file, self.value = file, project
        with suppress(OSError):
            file.touch()  # the last one opened is the one restored
        self.changed.emit(project)

    def _files(self) -> Iterator[Path]:
        """Saved ones, and none that is half written."""
        return self._folder.glob(f"[!.]*{_SUFFIX}")

    def _newest(self) -> Path | None:
        found = self.list()
        return found[0][0] if found else None

    def _free(self) -> Path:
        found = (re.match(r"(\d+)\.", path.name) for path in self._files())
        numbers = [int(match[1]) for match in found if match]
        return self._folder / f"{max(numbers, default=0) + 1}{_SUFFIX}"


def _read(file: Path) -> Project | None:
    """A project, or None where its file is not there or holds something else."""
    try:
        project = msgspec.json.decode(file.read_bytes(), type=Project)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return project if project.preset in PRESETS else None


def _age(file: Path) -> int:
    """For sorting: the last changed first; one that was just deleted last."""
    try:
        return -file.stat().st_mtime_ns
    except OSError:
        return 0
