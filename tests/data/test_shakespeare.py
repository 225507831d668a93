"""Tiny Shakespeare by name: found without a connection, else fetched and checked."""

from __future__ import annotations

import http.server
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mlx_lora.config import DataConfig
from mlx_lora.data import shakespeare
from mlx_lora.data.shakespeare import SHA256, find_shakespeare
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.storage import digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def play(shared: Path) -> bytes:
    return (shared / "tinyshakespeare.txt").read_bytes()


@contextmanager
def serve(content: bytes, status: int = 200, *, cut: int = 0) -> Iterator[tuple[str, list[str]]]:
    """(address, what was asked for) of a server on this machine; `cut` bytes are never sent."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - cut])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/input.txt", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/input.txt"


def refused(root: Path, home: str) -> UserError:
    with pytest.raises(UserError) as caught:
        find_shakespeare(root, home)
    assert caught.value.code == "network"
    assert not list(root.rglob("*.*"))
    return caught.value


def test_it_is_fetched_once(tmp_path: Path, play: bytes) -> None:
    with serve(play) as (home, asked):
        first = find_shakespeare(tmp_path / "root", home)
        again = find_shakespeare(tmp_path / "root", home)
    assert first == again == tmp_path / "root" / "datasets" / "tiny-shakespeare.txt"
    assert first.read_bytes() == play
    assert digest(first) == SHA256
    assert asked == ["/input.txt"]
    assert [path.name for path in first.parent.iterdir()] == [first.name]


@pytest.mark.parametrize("cut", [0, 5])
def test_other_bytes_are_refused(tmp_path: Path, cut: int) -> None:
    with serve(b"<html>a page</html>", cut=cut) as (home, _):
        assert "SHA-256" in refused(tmp_path / "root", home).why


def test_a_cut_download_is_refused(tmp_path: Path, play: bytes) -> None:
    with serve(play, cut=1000) as (home, _):
        refused(tmp_path / "root", home)


def test_a_kept_file_that_was_changed_is_fetched_again(tmp_path: Path, play: bytes) -> None:
    kept = tmp_path / "root" / "datasets" / "tiny-shakespeare.txt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(play[:-1] + b"!")
    with serve(play) as (home, asked):
        assert find_shakespeare(tmp_path / "root", home).read_bytes() == play
    assert len(asked) == 1


def test_offline_is_said_plainly(tmp_path: Path) -> None:
    error = refused(tmp_path / "root", closed_port())
    assert "cannot be downloaded" in error.why
    assert "--data demo" in error.fix


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusing_server_is_no_crash(tmp_path: Path, status: int) -> None:
    with serve(b"no", status) as (home, _):
        refused(tmp_path / "root", home)


def test_a_server_of_another_kind_is_no_crash(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail here, not web\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        refused(tmp_path / "root", f"http://127.0.0.1:{listener.getsockname()[1]}/x")
        thread.join()


def test_a_root_that_cannot_be_made_is_said(tmp_path: Path, play: bytes) -> None:
    (tmp_path / "root").write_text("a file")
    with serve(play) as (home, _), pytest.raises(UserError) as caught:
        find_shakespeare(tmp_path / "root", home)
    assert caught.value.code in {"storage", "no_permission"}


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(shakespeare, "_download", refuse)


@pytest.mark.usefixtures("no_connection")
def test_it_is_found_in_the_data_root(tmp_path: Path, play: bytes) -> None:
    kept = tmp_path / "datasets" / "tiny-shakespeare.txt"
    kept.parent.mkdir()
    kept.write_bytes(play)
    source = find_source(DataConfig(source="tiny-shakespeare"), tmp_path)
    assert (source.name, source.files) == ("tiny-shakespeare", {"train": (kept,)})


@pytest.mark.usefixtures("no_connection")
def test_it_is_found_in_the_hub_cache(
    tmp_path: Path, play: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "elsewhere" / "hub"
    for name, content in (("karpathy--tiny_shakespeare", play), ("x--tinyshakespeare", b"no")):
        kept = hub / f"datasets--{name}" / "snapshots" / "0123abcd" / "input.txt"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(hub.parent))
    found = find_shakespeare(tmp_path / "root")
    assert found.is_relative_to(hub)
    assert found.read_bytes() == play
    assert not (tmp_path / "root").exists()
