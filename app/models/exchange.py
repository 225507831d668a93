"""A question and its two answers, and the questions asked of a run so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.generation.settings import Sampling
from mlx_lora.storage import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from app.tasks import Tasks
    from mlx_lora.runs import Run

Better = Literal["", "base", "adapted", "tie"]
FILE = "compare.jsonl"
_KEPT = 200


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """What one voice said.

    Attributes:
        stop: `stop` where the model ended it, `length`, `stopped`, `failed`; empty while it speaks.
        seconds, tokens_per_second, first_token_seconds: of its own computing, the other's not
            counted.
        error: code, where, why, fix where it failed.
    """

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    first_token_seconds: float = 0.0
    stop: str = ""
    error: dict[str, str] = {}


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One question.

    Attributes:
        step: the checkpoint that was asked, None for the kept adapter.
        truth: how the held-out row of this prompt goes on; empty where there is none.
        better: which answer a person found better.
    """

    prompt: str
    sampling: Sampling = Sampling()
    step: int | None = None
    truth: str = ""
    base: Spoken = Spoken()
    adapted: Spoken = Spoken()
    better: Better = ""


def spoken_of(report: dict[str, Any], row: int) -> Spoken:
    """A voice's part of an answer's report; what is wrong with the question is wrong with both."""
    voices = report.get("voices", ())
    found = next((voice for voice in voices if voice.get("row") == row), None)
    if found is None:
        found = {"stop": "failed", "error": report.get("error", {})}
    return msgspec.convert(found, Spoken)


class Exchanges:
    """The questions asked of one run, oldest first; kept in its folder, on this machine only.

    Written as a whole each time, so that a vote changes its question; one write at a time.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._run: Run | None = None
        self._saving, self._again = False, False
        self.items: list[Exchange] = []

    def open(self, run: Run | None, then: Any) -> None:
        """Read what was asked of this run before; `then` is called when it is there."""
        self._run, self.items = run, []
        if run is not None:
            self._tasks.run(lambda: _read(run.folder / FILE), lambda found: self._adopt(run, found))
            self._then = then

    def add(self, exchange: Exchange) -> None:
        """One more."""
        self.items = [*self.items, exchange][-_KEPT:]
        self._save()

    def replace(self, before: Exchange, after: Exchange) -> None:
        """The same question, judged."""
        self.items = [after if item is before else item for item in self.items]
        self._save()

    def _adopt(self, run: Run, found: list[Exchange]) -> None:
        if run is self._run:
            self.items = [*found, *self.items][-_KEPT:]
            self._then()

    def _save(self) -> None:
        if self._run is None or not self._run.folder.is_dir():
            return
        if self._saving:
            self._again = True
            return
        self._saving = True
        path, items = self._run.folder / FILE, self.items
        self._tasks.run(
            lambda: write_file(path, b"".join(msgspec.json.encode(i) + b"\n" for i in items)),
            lambda _: self._saved(),
            lambda _: self._saved(),  # a full disk takes no answer away from who reads it now
        )

    def _saved(self) -> None:
        self._saving = False
        if self._again:
            self._again = False
            self._save()


def _read(path: Path) -> list[Exchange]:
    """The questions in a file; lines that are torn or of another version are skipped."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=Exchange))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return found
