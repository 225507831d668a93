"""What pages work with; handed to each of them, so that none has to reach for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.jobs import JobQueue
from app.models.downloads import Downloads
from app.models.inspection import Inspection
from app.models.run_progress import RunProgress
from app.project import ProjectStore
from app.settings import SettingsStore
from app.tasks import Tasks
from app.training import Training
from mlx_lora.machine import Machine
from mlx_lora.runs import RunStore

if TYPE_CHECKING:
    from app.project import Project


class Desk(msgspec.Struct, frozen=True):
    """The things on the desk.

    Attributes:
        project: what is chosen so far, and its file.
        progress: the project's run as it stands, live while it trains.
        training: starts, pauses and stops it.
        inspection: what the chosen data is to the chosen model.
        downloads: models on their way, whichever page is shown.
        machine: what this machine has.
    """

    project: ProjectStore
    settings: SettingsStore
    runs: RunStore
    queue: JobQueue
    progress: RunProgress
    training: Training
    inspection: Inspection
    downloads: Downloads
    tasks: Tasks
    machine: Machine

    @property
    def memory_limit(self) -> int:
        """Bytes training may use: the machine's, times the share set in Settings."""
        return round(self.machine.usable * self.settings.value.memory_share)

    @property
    def chosen(self) -> Project:
        """The open project."""
        return self.project.value
