"""Moving a run to the trash, where it can be taken back from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.storage import show

if TYPE_CHECKING:
    from mlx_lora.runs import Run


def move_to_trash(run: Run) -> None:
    """Put a run's folder into the system's trash.

    Raises:
        UserError: `busy` while it is being worked on, `no_trash` where there is no trash to use.
    """
    from send2trash import send2trash  # type: ignore[import-untyped]

    with run.lock():
        try:
            send2trash(run.folder)
        except OSError as error:
            why = "there is no trash for this disk, or it cannot be used"
            fix = "delete it for good instead"
            raise UserError("no_trash", show(run.folder), why, fix) from error
