"""The bytes of one file of the hub: a thread asks for what is missing and appends it to a file."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from mlx_lora import __version__
from mlx_lora.errors import UserError
from mlx_lora.models.hub_errors import status
from mlx_lora.models.token import find_token

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.models.hub_layout import Place, Wanted

# seconds between two words on how far it is
PATIENCE = 0.25
# seconds without a byte after which a connection counts as gone
_SILENCE = 20.0
# seconds to wait after each failure without a byte; then it is given up
DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_LONGEST_WAIT = 60.0
# bytes after which the file is flushed to the disk, so that a power cut costs no more
_FLUSH = 32 << 20
_HOPS = 6
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_BEYOND, _PART, _CLOSED = 416, 206, 403


class Stream:
    """One file on its way; the owner asks `working` until it is not, then for the error.

    Attributes:
        arrived: bytes of the file that are here.
    """

    def __init__(self, place: Place, one: Wanted, partial: Path) -> None:
        import huggingface_hub

        self._library: Any = huggingface_hub.utils
        self._url = huggingface_hub.hf_hub_url(
            place.repository, one.name, repo_type=place.kind, revision=place.commit
        )
        self._size, self._tag, self._partial = one.size, one.sha256, partial
        self._where = f"{place.repository}/{one.name}"
        self._headers = self._library.build_hf_headers(
            token=False, library_name="understudy", library_version=__version__
        )
        self._token = find_token()
        self._session = self._library.get_session()
        self.arrived = partial.stat().st_size if partial.is_file() else 0
        self._error: Exception | None = None
        self._whole = False
        # held while bytes are written: after `stop` none is, whatever the thread still waits for
        self._writing, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def working(self) -> bool:
        """Whether it goes on; waits a moment for the end."""
        self._thread.join(PATIENCE)
        return self._thread.is_alive()

    def stop(self) -> None:
        """No byte is written any more."""
        with self._writing:
            self._stopped.set()

    def raise_error(self) -> None:
        """What it ended with, where the file is not whole."""
        if self._error is not None:
            raise self._error
        if not self._whole:
            raise OSError("the connection broke off")

    def _run(self) -> None:
        from huggingface_hub import errors

        try:
            self._whole = self._receive()
        except (OSError, UserError, errors.HTTPError) as error:  # type: ignore[attr-defined]
            self._error = error

    def _receive(self) -> bool:
        """Ask for the rest until nothing is missing, or nothing comes for too long."""
        from huggingface_hub import errors

        failures = 0
        while not self._stopped.is_set() and failures <= len(DELAYS):
            before, wait = self.arrived, 0.0
            try:
                if self._ask():
                    return True
            except errors.HTTPError as error:  # type: ignore[attr-defined]
                if not _is_passing(error, self._url) or failures == len(DELAYS):
                    raise
                wait = _asked_wait(error) or DELAYS[failures]
            failures = 0 if self.arrived > before else failures + 1
            self._stopped.wait(wait)
        return False

    def _ask(self) -> bool:
        """One request for what is missing; whether the file is whole then."""
        begin = self._partial.stat().st_size if self._partial.is_file() else 0
        if self._size and begin >= self._size:
            if begin == self._size:
                return True
            begin = 0
        response = self._open(begin)
        try:
            if response.status_code == _BEYOND:
                return self._is_over(response, begin)
            self._size = self._size or _full_size(response)
            self._write(response, begin if _begins_at(response, begin) else 0)
        finally:
            response.close()
        return not self._stopped.is_set() and self.arrived >= self._size

    def _is_over(self, response: Any, begin: int) -> bool:
        """The hub holds no more bytes than are here: all of them, or others than these."""
        total = response.headers.get("content-range", "").rpartition("/")[2]
        if total == str(begin):
            return True
        with self._writing:
            if not self._stopped.is_set():
                self._partial.unlink(missing_ok=True)
                self.arrived = 0
        return False

    def _write(self, response: Any, begin: int) -> None:
        """Append the body from `begin` on."""
        with self._partial.open("r+b" if self._partial.is_file() else "wb") as file:
            with self._writing:
                if self._stopped.is_set():
                    return
                file.truncate(begin)
            file.seek(begin)
            self.arrived, flushed = begin, begin
            for piece in response.iter_raw():
                with self._writing:
                    if self._stopped.is_set():
                        return
                    file.write(piece)
                    file.flush()
                self.arrived += len(piece)
                if self.arrived - flushed >= _FLUSH:
                    os.fsync(file.fileno())
                    flushed = self.arrived

    def _open(self, begin: int) -> Any:
        """The answer with the body, after the redirects; the token stays with the hub itself."""
        url = self._url
        for _ in range(_HOPS):
            headers = {**self._headers, "accept-encoding": "identity"}
            if begin:
                headers["range"] = f"bytes={begin}-"
            if self._token is not None and _origin(url) == _origin(self._url):
                headers["authorization"] = f"Bearer {self._token.value}"
            request = self._session.build_request("GET", url, headers=headers, timeout=_SILENCE)
            response = self._session.send(request, stream=True, follow_redirects=False)
            self._check_tag(response)
            if not response.has_redirect_location:
                break
            url = urljoin(url, response.headers["location"])
            response.close()
        if response.status_code >= 400 and response.status_code != _BEYOND:  # noqa: PLR2004
            response.read()
            response.close()
            self._library.hf_raise_for_status(response)
        return response

    def _check_tag(self, response: Any) -> None:
        """The hub still means the same content by this name."""
        tag = response.headers.get("x-linked-etag", "").strip('W/"')
        if self._tag and tag and tag != self._tag:
            response.close()
            why = "the hub holds another file by this name now"
            raise UserError("network", self._where, why, "try again")


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _begins_at(response: Any, begin: int) -> bool:
    """Whether the body is the part that was asked for; a server may send the whole instead."""
    said = str(response.headers.get("content-range", ""))
    return response.status_code == _PART and said.startswith(f"bytes {begin}-")


def _full_size(response: Any) -> int:
    """Bytes of the file as the answer tells, 0 where it does not."""
    total = response.headers.get("content-range", "").rpartition("/")[2]
    said = total or response.headers.get("content-length", "")
    return int(said) if said.isdigit() else 0


def _is_passing(error: Exception, url: str) -> bool:
    """Whether it may go better in a moment: no answer, a busy server, an address that ran out."""
    number = status(error)
    if number == _CLOSED:
        # the hub's own no is final; a store's is about its address, which is signed for a while
        asked = getattr(getattr(error, "response", None), "url", url)
        return _origin(str(asked)) != _origin(url)
    return number == 0 or number in _PASSING


def _asked_wait(error: Exception) -> float:
    """Seconds the hub asks to wait, within reason; 0 where it does not say."""
    said = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    return min(float(said), _LONGEST_WAIT) if said.isdigit() else 0.0
