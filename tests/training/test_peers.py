"""Real processes on this machine in MLX's ring: sums, shares, what rank 0 has, and who is lost.

Everything talks to 127.0.0.1 and ends by itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from ring import free_ports, places

from mlx_lora.errors import UserError
from mlx_lora.training.links import Place, launched
from mlx_lora.training.peers import Peers, join

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# what every process of a test runs before its own lines; `say` prints one JSON line
_START = """
import json, os, signal, sys, time
from mlx_lora import blas
blas.prepare()
import mlx.core as mx
from mlx_lora.errors import UserError
from mlx_lora.training import links, peers as module
def say(value): print(json.dumps(value), flush=True)
def joined():
    work = module.join()
    while True:
        try: next(work)
        except StopIteration as end: return end.value
peers = joined()
say("joined")
"""


class Processes:
    """Python processes that MLX's launcher might have started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def start(self, lines: str, size: int = 2, only: tuple[int, ...] | None = None) -> None:
        """Start `size` processes, or only some of their ranks."""
        given = places(self._folder, size)
        for rank in range(size) if only is None else only:
            environment = {**os.environ, **given[rank]}
            process = subprocess.Popen(
                [sys.executable, "-c", _START + lines],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            self.running.append(process)

    def said(self, at: int, timeout: float = 60) -> list[Any]:
        """What a process printed, once it ended."""
        out, err = self.running[at].communicate(timeout=timeout)
        lines = [json.loads(line) for line in out.splitlines()]
        if not lines and "bind" in err:
            pytest.skip(f"no port of this machine can be taken: {err.splitlines()[-1]}")
        assert lines, err
        return lines

    def wait_for_line(self, at: int) -> Any:
        """The next line of a process that runs."""
        out = self.running[at].stdout
        assert out is not None
        line = out.readline()
        if not line:
            assert self.running[at].stderr is not None
            pytest.fail(self.running[at].stderr.read())
        return json.loads(line)

    def end(self) -> None:
        """End what still runs."""
        for process in self.running:
            process.kill()
            process.communicate()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


def test_alone_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_RANK", raising=False)
    with pytest.raises(StopIteration) as end:
        next(join())
    peers = end.value.value
    assert peers == Peers()
    assert (peers.rank, peers.size) == (0, 1)
    flat, tensors = mx.ones(3), {"a": mx.ones(2)}
    assert peers.sum(flat) is flat
    assert peers.first_tensors(tensors) is tensors
    assert peers.agree(True, False) == (True, False)
    assert peers.first("x") == "x"
    assert peers.share([3, 1]) == [0, 1]
    peers.leave()


def test_what_the_launcher_says(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"

    def given(text: str, rank: int = 1) -> Place | None:
        hosts.write_text(text)
        return launched({"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)})

    assert launched({}) is None
    place = given('[["10.0.0.1:5000", "10.0.0.1:5001"], ["10.0.0.2:5002"], ["10.0.0.3:5003"]]')
    assert place == Place(1, (("10.0.0.1", 5000), ("10.0.0.2", 5002), ("10.0.0.3", 5003)))
    assert (place.left, place.right, place.size) == (0, 2, 3)
    # one process: the launcher leaves the file empty, on which MLX itself would fail
    assert given("\n", 0) is None
    for broken in ("[[]]", "{", '["x"]', '[["10.0.0.1"]]'):
        with pytest.raises(UserError, match="MLX_HOSTFILE"):
            given(broken)
    with pytest.raises(UserError, match="MLX_RANK"):
        given('[["10.0.0.1:5000"], ["10.0.0.2:5002"]]', 2)
    with pytest.raises(UserError, match="ring"):
        launched({"MLX_RANK": "0", "MLX_JACCL_COORDINATOR": "10.0.0.1:5000"})


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_row_is_some_ranks(size: int) -> None:
    chooser = random.Random(size)
    for _ in range(50):
        costs = [chooser.randrange(1, 512) for _ in range(chooser.randrange(9))]
        shares = [Peers(rank, size).share(costs) for rank in range(size)]
        assert sorted(at for share in shares for at in share) == list(range(len(costs)))
        loads = [sum(costs[at] for at in share) for share in shares]
        assert max(loads) <= sum(costs) / size + max(costs, default=0)


def test_sums_agreements_and_what_rank_0_has(processes: Processes) -> None:
    processes.start("""
rank = peers.rank
made = mx.random.normal((1000,), key=mx.random.key(rank))
total = peers.sum(made)
other = mx.random.normal((1000,), key=mx.random.key(1 - rank))
say([mx.abs(total - (made + other)).max().item(), total[:50].tolist(), peers.sum(made[:1]).size])
say([peers.agree(rank == 1, False, rank == 0), peers.first({"words": f"of {rank}"})])
odd = mx.array([-0.0, float("nan"), 1e-40, 3.0]) if rank == 0 else mx.ones(4)
tree = {"b": odd, "a": mx.array([rank + 7], mx.uint32), "c": (odd * 2).astype(mx.bfloat16)}
found = peers.first_tensors(tree)
say({n: [str(t.dtype), t.view(mx.uint8).tolist()] for n, t in found.items()})
peers.leave()
""")
    first, second = processes.said(0), processes.said(1)
    assert first[1][0] < 1e-6
    assert first[1][1] == second[1][1]
    assert first[1][2] == 1
    assert first[2] == second[2] == [[True, False, True], {"words": "of 0"}]
    odd = mx.array([-0.0, float("nan"), 1e-40, 3.0])
    tree = {"b": odd, "a": mx.array([7], mx.uint32), "c": (odd * 2).astype(mx.bfloat16)}
    wanted = {n: [str(t.dtype), t.view(mx.uint8).tolist()] for n, t in tree.items()}
    assert first[3] == second[3] == wanted


@pytest.mark.slow
def test_the_first_waits_for_the_others(processes: Processes) -> None:
    processes.start("say(peers.agree(False))", only=(1,))
    time.sleep(1.5)
    processes.start("say(peers.agree(True)); peers.leave()", only=(0,))
    assert processes.said(1)[-1] == processes.said(0)[-1] == [True]


_ENDING = """
try:
    for step in range(10**9):
        peers.agree(False)
        peers.sum(mx.ones(200_000))
        if step == 20: say("going")
except UserError as error:
    say([error.code, error.where, error.why, error.fix])
    sum = mx.square(mx.arange(5)).sum().item()
    say(sum)
except links.PeerLeftError as error:
    say(["left", error.rank, error.words])
"""


def test_a_killed_peer_ends_the_others_at_once(processes: Processes) -> None:
    processes.start(_ENDING, size=3)
    for at in range(3):
        assert [processes.wait_for_line(at) for _ in range(2)] == ["joined", "going"]
    processes.running[1].send_signal(signal.SIGKILL)
    for at in (0, 2):
        (code, where, why, fix), work = processes.said(at, timeout=20)
        assert (code, where) == ("peer_lost", "process 2 of 3")
        assert "its process ended" in why
        assert "understudy resume" in fix
        # the engine still works: what was learnt so far can be saved
        assert work == 30
        assert processes.running[at].returncode == 0


@pytest.mark.slow
def test_a_silent_peer_is_lost(processes: Processes) -> None:
    processes.start(f"links._SILENCE = 3.0\n{_ENDING}")
    for at in range(2):
        assert [processes.wait_for_line(at) for _ in range(2)] == ["joined", "going"]
    processes.running[1].send_signal(signal.SIGSTOP)
    (code, where, why, _), _ = processes.said(0, timeout=30)
    assert (code, where) == ("peer_lost", "process 2 of 2")
    assert "nothing was heard" in why


@pytest.mark.slow
def test_a_ring_that_stands_still_is_left(processes: Processes) -> None:
    """All have said that they enter; one never does, as in MLX's own deadlocks."""
    processes.start("""
if peers.rank == 1:
    peers.links.exchange(None)
    time.sleep(30)
else:
    module._SUM = 1.0
    try: peers.sum(mx.ones(300_000))
    except UserError as error: say([error.code, error.why])
os._exit(0)
""")
    code, why = processes.said(0, timeout=20)[-1]
    assert code == "peer_lost"
    assert "stands still" in why


@pytest.mark.slow
def test_a_slow_peer_is_not_lost(processes: Processes) -> None:
    processes.start("""
links._SILENCE = 3.0
module._SUM = 1.0
if peers.rank: time.sleep(6)
say(peers.sum(mx.ones(4)).tolist())
peers.leave()
""")
    assert processes.said(0)[-1] == processes.said(1)[-1] == [2.0] * 4


def test_a_goodbye_is_no_loss(processes: Processes) -> None:
    processes.start("""
if peers.rank == 1:
    peers.leave("there is no such file")
else:
    try: peers.sum(mx.ones(4))
    except links.PeerLeftError as error: say([error.rank, error.words])
    peers.leave()
""")
    assert processes.said(0)[-1] == [1, "there is no such file"]


def test_a_taken_port_is_said(processes: Processes, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        other = free_ports(1)[0]
        hosts = [[f"127.0.0.1:{port}"], [f"127.0.0.1:{other}"]]
        (tmp_path / "hosts.json").write_text(json.dumps(hosts))
        processes.start("", only=(0,))
        _, err = processes.running[0].communicate(timeout=30)
    assert f"port {port}" in err
    assert "--starting-port" in err
