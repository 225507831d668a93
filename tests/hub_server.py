"""A server on 127.0.0.1 that speaks as much of the Hugging Face hub's API as its library asks for.

https://huggingface.co/docs/hub/api: search, repository info with the sizes of files, and `resolve`
with HEAD, GET, Range, redirects of large files and the headers the library reads. It also answers
as a proxy: a request line with a whole address is read like one without.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[1]
LARGE = 4096
_PIECE = 32768


@functools.lru_cache(maxsize=64)
def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache(maxsize=256)
def git_name(content: bytes) -> str:
    """SHA-1 as git names a file, which is the ETag of a small one."""
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


class Repository:
    """Files of one repository; those of `LARGE` bytes and more are kept as the hub's LFS does.

    Attributes:
        status: answered in place of everything, where it is not 0.
        gated: files are answered with 401 or 403 until the right token comes; the info is open.
        cut: bytes after which the body of a large file breaks off, this many times.
        wrong: so many large files arrive with a byte changed.
        halt: a large file stops after so many bytes, and the connection stays open.
        refusals: statuses answered in place of large files, one after the other.
        rate: bytes a second of large files; 0 as fast as it goes.
        plain: a mirror that names neither hashes nor sizes in its info.
        no_range: large files are always sent whole.
        extra: more of what the info and the search say, such as `config` and `tags`.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        card: dict[str, Any] | None = None,
        **extra: Any,
    ) -> None:
        self.files = {".gitattributes": b"*.parquet filter=lfs", "README.md": b"# card", **files}
        self.card, self.extra = card or {}, extra
        self.branches: dict[str, dict[str, bytes]] = {}
        self.status, self.gated, self.token = 0, False, "hf_right"
        self.cut: list[int] = []
        self.refusals: list[int] = []
        self.wrong, self.halt, self.rate = 0, 0, 0
        self.plain = self.no_range = False

    def commit(self, revision: str) -> str:
        content = self.tree(revision)
        named = "".join(f"{k}{sha256(v)}" for k, v in sorted(content.items()))
        return hashlib.sha1(named.encode(), usedforsecurity=False).hexdigest()

    def tree(self, revision: str) -> dict[str, bytes]:
        return self.branches.get(unquote(revision), self.files)

    def knows(self, revision: str) -> bool:
        names = ["main", *self.branches]
        return unquote(revision) in {*names, *(self.commit(name) for name in names)}

    def named(self, revision: str) -> dict[str, bytes]:
        """The files of a branch or commit."""
        found = [b for b in self.branches if self.commit(b) == revision or b == unquote(revision)]
        return self.branches[found[0]] if found else self.files

    def siblings(self, revision: str) -> list[dict[str, Any]]:
        """The files as the info lists them."""
        listed = []
        for path, content in self.tree(revision).items():
            entry: dict[str, Any] = {"rfilename": path}
            if not self.plain:
                entry |= {"size": len(content), "blobId": git_name(content)}
            if len(content) >= LARGE and not self.plain:
                lfs = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
                entry["lfs"] = lfs
            listed.append(entry)
        return listed


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        asked: method, path and token of every request.
        ranges: where each body of a large file began.
        sent: bytes of large files that were sent.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, Repository], kind: str = "datasets") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.kind = repositories, kind
        self.asked: list[tuple[str, str, str]] = []
        self.ranges: list[int] = []
        self.sent = 0
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what is tested here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(repositories: dict[str, Repository], kind: str = "datasets") -> Iterator[Hub]:
    """The hub, until the block ends."""
    hub = Hub(repositories, kind)
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        hub.shutdown()
        hub.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization", "")
        self.server.asked.append((self.command, path, token))
        parts = path.strip("/").split("/")
        kind = self.server.kind
        if kind == "datasets" and parts[:1] == [kind]:
            parts = parts[1:]
        if parts == ["api", kind]:
            self._search(parse_qs(urlsplit(self.path).query))
        elif parts[:2] == ["api", kind]:
            self._info("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], unquote("/".join(parts[4:])), body=body)
        elif parts[:1] == ["lfs"]:
            self._large("/".join(parts[1:3]), parts[3], unquote("/".join(parts[4:])), body=body)
        else:
            self._say(404, {"X-Error-Code": "RepoNotFound"})

    def _search(self, query: dict[str, list[str]]) -> None:
        """Repositories whose name begins alike or holds the words, most downloads first."""
        wanted = query.get("search", [""])[0].lower()
        known = self.server.repositories.items()
        found = {n: r for n, r in known if wanted in n.lower() or wanted[:4] in n}
        for one in found.values():
            if one.status:
                self._say(one.status, {})
                return
        for tag in query.get("filter", []):
            found = {n: r for n, r in found.items() if tag in r.extra.get("tags", ())}
        entries = [
            {"id": name, "_id": "1", "downloads": 1, "gated": made.gated, **made.extra}
            for name, made in found.items()
        ]
        if query.get("sort") == ["downloads"]:
            entries.sort(key=lambda entry: -entry["downloads"])
        limit = int(query.get("limit", ["1000"])[0])
        self._say(200, {"Content-Type": "application/json"}, json.dumps(entries[:limit]).encode())

    def _repository(self, name: str, *, files: bool) -> Repository | None:
        """The repository, where the person may see it; else the refusal is sent."""
        found = self.server.repositories.get(name)
        token = self.headers.get("Authorization")
        if found is None:
            self._say(401, {"X-Error-Code": "RepoNotFound"})
        elif found.status:
            said = {"X-Error-Message": "Invalid credentials in Authorization header"}
            self._say(found.status, said if found.status == 401 else {})
        elif files and found.gated and token != f"Bearer {found.token}":
            self._say(403 if token else 401, {"X-Error-Code": "GatedRepo"})
        else:
            return found
        return None

    def _info(self, name: str, revision: str) -> None:
        repository = self._repository(name, files=False)
        if repository is None:
            return
        if not repository.knows(revision):
            self._say(404, {"X-Error-Code": "RevisionNotFound"})
            return
        answer = {
            "id": name, "_id": "1", "sha": repository.commit(revision), "private": False,
            "gated": "manual" if repository.gated else False, "disabled": False, "downloads": 1,
            "likes": 0, "tags": [], "siblings": repository.siblings(revision),
            "cardData": repository.card, **repository.extra,
        }  # fmt: skip
        self._say(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _resolve(self, name: str, revision: str, path: str, *, body: bool) -> None:
        repository = self._repository(name, files=True)
        if repository is None:
            return
        content = repository.named(revision).get(path)
        if content is None:
            self._say(404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": revision, "ETag": f'"{git_name(content)}"'}
        if len(content) < LARGE:
            self._say(200, headers, content, body=body)
            return
        linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        # another host, as large files have: the library reads the headers of this answer then
        where = f"http://localhost:{self.server.server_port}/lfs/{name}/{revision}/{path}"
        self._say(302, {**headers, **linked, "Location": where})

    def _large(self, name: str, revision: str, path: str, *, body: bool) -> None:
        repository = self.server.repositories[name]
        content = repository.named(revision)[path]
        if body and repository.refusals:
            self._say(repository.refusals.pop(0), {"Retry-After": "0"})
            return
        if body and repository.wrong:
            repository.wrong -= 1
            content = b"?" + content[1:]
        begin = 0
        if (wanted := self.headers.get("Range")) is not None and not repository.no_range:
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        if begin >= len(content):
            self._say(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"ETag": '"l"', "Accept-Ranges": "bytes", "Content-Length": str(len(content))}
        if begin:
            headers["Content-Length"] = str(len(content) - begin)
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._say(206 if begin else 200, headers)
        if body:
            self.server.ranges.append(begin)
            self._send(repository, content, begin)

    def _send(self, repository: Repository, content: bytes, begin: int) -> None:
        """The body, as fast and as far as the repository says."""
        end = len(content)
        if repository.cut:
            end = begin + repository.cut.pop(0)
        elif repository.halt:
            end = begin + repository.halt
        # little of it on the way, so that what was sent is nearly what was received
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
        start = time.monotonic()
        for at in range(begin, min(end, len(content)), _PIECE):
            piece = content[at : min(at + _PIECE, end)]
            if repository.rate:
                late = start + (at - begin) / repository.rate - time.monotonic()
                self.server.over.wait(max(0.0, late))
            self.wfile.write(piece)
            self.server.sent += len(piece)
        self.wfile.flush()
        if end < len(content):
            if repository.halt:
                self.server.over.wait(30)
            self.close_connection = True

    def _say(
        self, status: int, headers: dict[str, str], content: bytes = b"", *, body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content)


def point_at(server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's library in this process ask this server alone, without a token."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http  # type: ignore[attr-defined]

    connect = socket.socket.connect

    def here_only(self: socket.socket, address: Any) -> None:
        assert address[0] in {"127.0.0.1", "::1"}, f"{address} was asked"
        connect(self, address)

    _http.close_session()
    monkeypatch.setattr(socket.socket, "connect", here_only)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache.with_name("no-token")))
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def environment(url: str, folder: Path, **more: str) -> dict[str, str]:
    """What a process needs to ask this hub, keeping everything below `folder`."""
    cleared = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"}
    return {
        **{name: value for name, value in os.environ.items() if name not in cleared},
        "HF_ENDPOINT": url, "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "no-token"), "UNDERSTUDY_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more,
    }  # fmt: skip
