"""Files of the hub into the cache all tools share: ranged, resumed, checked, stoppable.

The hub's own library begins anew after a crash; here what has arrived stays in a file of a fixed
name and the next process asks for the rest (RFC 9110, 14.2). Every file is then read once and
compared with the hash the hub names it by. Xet, the hub's other way to send large files, is left
alone: it has no part of a file that another process could go on with.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.events import Phase
from mlx_lora.models.hub_errors import hub_errors
from mlx_lora.models.hub_layout import Place, Wanted, link, locked, remove_orphans
from mlx_lora.models.proofs import Proofs, hashed
from mlx_lora.models.stream import PATIENCE, Stream
from mlx_lora.storage import check_space, storage_errors, sync

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from mlx_lora.control import Control

# seconds of the past that a speed is told from
_WINDOW = 8.0
# bytes that take a moment to read and hash
_LONG = 64 << 20


class _Progress:
    """Bytes of all files that are here, and how fast they come."""

    def __init__(self, total: int) -> None:
        self._total, self._before, self._done = total, 0, 0
        self._seen: deque[tuple[float, int]] = deque()

    def finish(self, one: Wanted, *, arrived: bool) -> None:
        """A file is whole; one that was here before says nothing of the speed."""
        self._before += one.size
        if not arrived:
            self._seen.clear()

    def phase(self, arrived: int) -> Phase:
        """How far it is with so many bytes of the present file."""
        self._done = self._before + arrived
        now = time.monotonic()
        if self._seen and self._done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, self._done))
        while self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()
        begun, at = self._seen[0]
        rate = (self._done - at) / (now - begun) if now > begun else 0.0
        left = (self._total - self._done) / rate if rate else 0.0
        return Phase("downloading", self._done, self._total, rate=rate, eta=max(0.0, left))

    def paused(self) -> Phase:
        """It stands still; the speed begins anew afterwards."""
        self._seen.clear()
        return Phase("paused", self._done, self._total)


def fetch_files(
    place: Place, wanted: Sequence[Wanted], root: Path, control: Control | None = None
) -> Generator[Phase, None, bool]:
    """Bring what is missing or damaged of these files; returns whether all of them are here.

    They are not where `control` was told to stop: then the next call goes on from there. Phases
    are `downloading` and `checking`, in bytes, and `paused`.

    Raises:
        UserError: `disk_full` before anything is brought, `no_access`, `network` (also where the
        content is not what the hub says, twice), or what the storage refuses.
    """
    place.check(wanted)
    wanted = [_identified(place, one) for one in wanted]
    place.check(wanted)
    proofs = Proofs(root)
    remove_orphans(place, wanted)
    check_space(place.folder, missing_bytes(place, wanted))
    progress = _Progress(sum(one.size for one in wanted))
    for one in wanted:
        if control is not None and control.stopping:
            return False
        came = yield from _bring(place, one, proofs, progress, control)
        if came is None:
            return False
        progress.finish(one, arrived=came)
        yield progress.phase(0)
    return True


def missing_bytes(place: Place, wanted: Iterable[Wanted]) -> int:
    """How much of these files is still to come."""

    def here(one: Wanted) -> int:
        if _existing(place, one) is not None:
            return one.size
        partial = place.partial(one)
        return min(one.size, partial.stat().st_size) if partial.is_file() else 0

    return sum(one.size - here(one) for one in wanted)


def _bring(
    place: Place, one: Wanted, proofs: Proofs, progress: _Progress, control: Control | None
) -> Generator[Phase, None, bool | None]:
    """Have one file in place: whether it had to be brought, or None where it was told to stop."""
    came = False
    with ExitStack() as stack:
        yield from _lock(place, one, progress, stack)
        while True:
            with closing(_attempt(place, one, proofs, progress)) as attempt:
                while (phase := next(attempt, None)) is not None:
                    came = came or phase.name == "downloading"
                    yield phase
                    if control is not None and (control.stopping or control.paused):
                        break
            if phase is None:
                return came
            yield from _wait(control, progress)
            if control is not None and control.stopping:
                return None


def _wait(control: Control | None, progress: _Progress) -> Iterator[Phase]:
    """Stand still while paused; the connection is given up, and the file goes on where it was."""
    while control is not None and control.paused and not control.stopping:
        yield progress.paused()
        control.wait(1.0)


def _lock(place: Place, one: Wanted, progress: _Progress, stack: ExitStack) -> Iterator[Phase]:
    """Wait for another process that is bringing the same file, saying how far it is."""
    from filelock import Timeout

    while True:
        try:
            stack.enter_context(locked(place.blob(one), PATIENCE))
        except Timeout:
            partial = place.partial(one)
            yield progress.phase(partial.stat().st_size if partial.is_file() else 0)
        else:
            return


def _attempt(
    place: Place, one: Wanted, proofs: Proofs, progress: _Progress
) -> Generator[Phase, None, None]:
    """Use what is here where it is right, else bring it; a second time where it arrives damaged."""
    here = _existing(place, one)
    if here is not None:
        if (yield from _is_right(here, one, proofs)):
            _settle(place, one, proofs)
            return
        _remove(here)
    partial, good = place.partial(one), False
    for _ in range(2):
        yield from _receive(place, one, progress)
        good = yield from _is_right(partial, one, proofs)
        if good:
            break
        _remove(partial)
    if not good:
        why = "what arrived is not what the hub holds (its checksum differs)"
        raise UserError("network", f"{place.repository}/{one.name}", why, "try again")
    blob = place.blob(one)
    with storage_errors(blob):
        sync(partial)
        partial.replace(blob)
        sync(blob.parent)
    _settle(place, one, proofs)


def _receive(place: Place, one: Wanted, progress: _Progress) -> Iterator[Phase]:
    """Bytes from the network to the partial file, read beside so that a stop is heeded at once."""
    partial = place.partial(one)
    with storage_errors(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
    with hub_errors(place.repository, place.kind):
        stream = Stream(place, one, partial)
    try:
        while stream.working():
            yield progress.phase(min(stream.arrived, one.size))
    finally:
        stream.stop()
    with hub_errors(place.repository, place.kind):
        stream.raise_error()


def _is_right(path: Path, one: Wanted, proofs: Proofs) -> Generator[Phase, None, bool]:
    """Whether a file is what the hub says; a large one that was read before is not read again."""
    if one.size and path.stat().st_size != one.size:
        return False
    if not one.digest or (one.sha256 and proofs.known(path) == one.sha256):
        return True
    reading = hashed(path, one.digest)
    while True:
        try:
            done = next(reading)
        except StopIteration as end:
            return bool(end.value == one.digest)
        if one.size >= _LONG:  # others take no time worth a word
            yield Phase("checking", done, one.size)


def _existing(place: Place, one: Wanted) -> Path | None:
    """The file as another download of whichever tool left it, whole or not."""
    for path in (place.pointer(one), place.blob(one)):
        if one.digest and path.is_file():
            return path
    return None


def _settle(place: Place, one: Wanted, proofs: Proofs) -> None:
    """A file that is right: found by its version, and known."""
    if place.blob(one).is_file():
        link(place.blob(one), place.pointer(one))
    if one.sha256 and proofs.known(place.pointer(one)) != one.sha256:
        proofs.remember(place.pointer(one), one.sha256)


def _remove(path: Path) -> None:
    """A damaged file: its link and its content."""
    with storage_errors(path):
        content = path.resolve()
        path.unlink(missing_ok=True)
        content.unlink(missing_ok=True)


def _identified(place: Place, one: Wanted) -> Wanted:
    """Its hash and size, asked of the hub where its list of files has them not (a mirror)."""
    if one.digest:
        return one
    import huggingface_hub

    from mlx_lora.models.token import find_token

    token = find_token()
    url = huggingface_hub.hf_hub_url(
        place.repository, one.name, repo_type=place.kind, revision=place.commit
    )
    with hub_errors(place.repository, place.kind):
        found = huggingface_hub.get_hf_file_metadata(url, token=token.value if token else False)
    tag, size = found.etag or "", int(found.size or one.size)
    large = len(tag) == 64  # noqa: PLR2004
    return Wanted(one.name, size, tag if large else "", "" if large else tag)
