"""The worker behind Compare: started when it is needed, told to leave when others need the room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QObject, Signal

from app.jobs import Job

if TYPE_CHECKING:
    import msgspec

    from mlx_lora import jobs


class TalkWorker(QObject):
    """At most one worker at work; those told to leave are kept until they are gone.

    Attributes:
        said: every event of the one at work.
        ended: its outcome, where nobody had told it to leave.
        silent: it has said nothing for too long, or is back.
        tail: the last lines the last one printed.
    """

    said = Signal(object)
    ended = Signal(object)
    silent = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.tail: list[str] = []
        self._job: Job | None = None
        self._leaving: list[Job] = []
        QCoreApplication.instance().aboutToQuit.connect(self.close)  # type: ignore[union-attr]

    @property
    def alive(self) -> bool:
        """Whether there is one to talk to."""
        return self._job is not None

    @property
    def pid(self) -> int:
        """Of the one at work, 0 where there is none."""
        return self._job.pid if self._job is not None else 0

    def start(self, what: jobs.TalkJob) -> None:
        """Start one."""
        job = Job(what, title="Compare")
        self._job, self.tail = job, []
        job.said.connect(self.said)
        job.silent.connect(self.silent)
        job.ended.connect(self._ended)
        job.start()

    def tell(self, message: msgspec.Struct) -> None:
        """Say something to it; it may still be loading."""
        if self._job is not None:
            self._job.send(message)

    def let_go(self) -> None:
        """Let it leave; it is not heard any more."""
        job, self._job = self._job, None
        if job is None:
            return
        job.said.disconnect(self.said)
        job.silent.disconnect(self.silent)
        job.ended.disconnect(self._ended)
        self._leaving.append(job)
        job.ended.connect(lambda _: self._leaving.remove(job))
        job.leave()

    def kill(self) -> None:
        """End one that does not answer."""
        if self._job is not None:
            self._job.kill()

    def close(self) -> None:
        """The app ends: none may outlive it, and none has anything to save."""
        self.let_go()
        for job in list(self._leaving):
            job.kill()
            job.wait(5)

    def _ended(self, outcome: object) -> None:
        job, self._job = self._job, None
        self.tail = list(job.tail) if job is not None else []
        self.ended.emit(outcome)
