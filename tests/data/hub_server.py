"""A server on 127.0.0.1 that speaks as much of the Hugging Face hub's API as its library asks for.

https://huggingface.co/docs/hub/api: repository info with the sizes of files, and `resolve` with
HEAD, GET, Range, redirects of large files and the headers the library reads.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 4096


class Repository:
    """Files of one repository; those of `LARGE` bytes and more are kept as the hub's LFS does.

    Attributes:
        status: answered in place of everything, where it is not 0.
        gated: answered with 403 until the right token comes.
        cut: bytes after which the body of a large file breaks off, this many times.
        wrong: so many large files arrive with a byte changed.
        halt: a large file stops after so many bytes, and the connection stays open.
    """

    def __init__(self, files: dict[str, bytes], card: dict[str, Any] | None = None) -> None:
        self.files = {".gitattributes": b"*.parquet filter=lfs", "README.md": b"# card", **files}
        self.card = card or {}
        self.branches: dict[str, dict[str, bytes]] = {}
        self.status, self.gated, self.token = 0, False, "hf_right"
        self.cut: list[int] = []
        self.wrong, self.halt = 0, 0

    def commit(self, revision: str) -> str:
        content = self.tree(revision)
        named = "".join(f"{k}{hashlib.sha256(v).hexdigest()}" for k, v in sorted(content.items()))
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


class Hub(ThreadingHTTPServer):
    """The server; `asked` lists method, path and the token of every request."""

    daemon_threads = True

    def __init__(self, repositories: dict[str, Repository], kind: str = "datasets") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.kind = repositories, kind
        self.asked: list[tuple[str, str, str]] = []
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
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
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
        if parts == ["api", kind]:
            wanted = parse_qs(urlsplit(self.path).query).get("search", [""])[0]
            found = [{"id": name} for name in self.server.repositories if wanted[:4] in name]
            self._say(200, {"Content-Type": "application/json"}, json.dumps(found).encode())
        elif parts[:2] == ["api", kind]:
            self._info("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        elif parts[:1] == [kind] and parts[3:4] == ["resolve"]:
            self._resolve("/".join(parts[1:3]), parts[4], unquote("/".join(parts[5:])), body=body)
        elif parts[:1] == ["lfs"]:
            self._large("/".join(parts[1:3]), parts[3], unquote("/".join(parts[4:])), body=body)
        else:
            self._say(404, {"X-Error-Code": "RepoNotFound"})

    def _repository(self, name: str) -> Repository | None:
        """The repository, where the person may see it; else the refusal is sent."""
        found = self.server.repositories.get(name)
        if found is None:
            self._say(401, {"X-Error-Code": "RepoNotFound"})
        elif found.status:
            said = {"X-Error-Message": "Invalid credentials in Authorization header"}
            self._say(found.status, said if found.status == 401 else {})
        elif found.gated and self.headers.get("Authorization") != f"Bearer {found.token}":
            self._say(403, {"X-Error-Code": "GatedRepo"})
        else:
            return found
        return None

    def _info(self, name: str, revision: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        if not repository.knows(revision):
            self._say(404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = repository.tree(revision)
        siblings = []
        for path, content in files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(content)}
            entry["blobId"] = hashlib.sha1(
                b"blob %d\0" % len(content) + content, usedforsecurity=False
            ).hexdigest()
            if len(content) >= LARGE:
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        answer = {
            "id": name, "_id": "1", "sha": repository.commit(revision), "private": False,
            "gated": False, "disabled": False, "downloads": 1, "likes": 0, "tags": [],
            "siblings": siblings, "cardData": repository.card,
        }  # fmt: skip
        self._say(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _resolve(self, name: str, revision: str, path: str, *, body: bool) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        content = repository.named(revision).get(path)
        if content is None:
            self._say(404, {"X-Error-Code": "EntryNotFound"})
            return
        sha = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": revision, "ETag": f'"{sha[:40]}"'}
        if len(content) < LARGE:
            self._say(200, headers, content, body=body)
            return
        linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(content))}
        # another host, as large files have: the library reads the headers of this answer then
        where = f"http://localhost:{self.server.server_port}/lfs/{name}/{revision}/{path}"
        self._say(302, {**headers, **linked, "Location": where})

    def _large(self, name: str, revision: str, path: str, *, body: bool) -> None:
        repository = self.server.repositories[name]
        content = repository.named(revision)[path]
        if body and repository.wrong:
            repository.wrong -= 1
            content = b"?" + content[1:]
        begin = 0
        if (wanted := self.headers.get("Range")) is not None:
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        part = content[begin:]
        headers = {"ETag": '"l"', "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        cut = repository.cut.pop(0) if body and repository.cut else None
        if body and repository.halt:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: repository.halt])
            self.wfile.flush()
            self.server.over.wait(30)
            self.close_connection = True
            return
        self._say(206 if begin else 200, headers, part, body=body, cut=cut)

    def _say(
        self,
        status: int,
        headers: dict[str, str],
        content: bytes = b"",
        *,
        body: bool = True,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True
