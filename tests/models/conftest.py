"""A hub on this machine that every test of models may ask."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hub_server import Hub, Repository, point_at, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hub]]:
    """Starts the server with repositories by name; this process asks only it."""
    with ExitStack() as stack:

        def start(repositories: dict[str, Repository]) -> Hub:
            server = stack.enter_context(serve(repositories, "models"))
            point_at(server, tmp_path / "cache", monkeypatch)
            return server

        yield start
