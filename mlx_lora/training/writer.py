"""Checkpoints written in a thread while the engine computes: complete or absent as ever.

The thread has files in hand and never MLX: what it writes was made on the computing thread
(`resume.take_snapshot`). One checkpoint is written at a time, in the order they were taken.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlx_lora.checkpoints import Checkpoint, Snapshot, prune, save_snapshot

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class CheckpointWriter:
    """Writes the checkpoints of one run into `folder` and keeps the last `keep` and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: Future[Checkpoint] | None = None
        # the thread takes it from here, so that the last to hold MLX's arrays is not the thread
        self._held: Snapshot | None = None
        self._done: list[Checkpoint] = []

    def __enter__(self) -> CheckpointWriter:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what is being written; whoever wants to hear of its failure waits before."""
        self._pool.shutdown(wait=True)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writing is not None and not self._writing.done()

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write a snapshot, as soon as the one before is on disk.

        Raises:
            UserError: why the one before could not be written; then this one is not begun.
        """
        self._settle()
        self._held = snapshot
        self._writing = self._pool.submit(self._write)

    def poll(self) -> list[Checkpoint]:
        """The checkpoints that came to be on disk since this was asked last; does not wait.

        Raises:
            UserError: `disk_full`, `no_permission` or `storage`, once.
        """
        if not self.busy:
            self._settle()
        done, self._done = self._done, []
        return done

    def wait(self) -> list[Checkpoint]:
        """As `poll`, after what is being written is on disk."""
        self._settle()
        return self.poll()

    def _settle(self) -> None:
        """Wait for what is being written, take note of it and let go of its snapshot."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            self._done.append(writing.result())
        finally:
            self._held = None

    def _write(self) -> Checkpoint:
        assert self._held is not None
        checkpoint = save_snapshot(self._folder, self._held)
        prune(self._folder, self._keep)
        return checkpoint
