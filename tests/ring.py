"""Places in MLX's ring on this machine, for the tests of several processes."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on just now."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        try:
            one.bind(("127.0.0.1", 0))
        except OSError as error:
            pytest.skip(f"no port of this machine can be taken: {error}")
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def places(folder: Path, size: int) -> list[dict[str, str]]:
    """What MLX's launcher adds to the environment of each process."""
    hosts = folder / "hosts.json"
    if not hosts.exists():
        hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)]))
    return [{"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)} for rank in range(size)]
