"""A run in the company of MLX's launcher: rank 0 leads it, the others follow.

Followers have no run folder, no checkpoints and no lock; everything they know but model and data
comes from rank 0. They end with it, quietly where it ended in good order, whatever it said.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora import __version__
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Notice
from mlx_lora.runs import RunRecord, RunStore
from mlx_lora.training.links import PeerLeftError
from mlx_lora.training.loop import train
from mlx_lora.training.peers import Peers, join
from mlx_lora.training.trainer import heeding

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.control import Control
    from mlx_lora.runs import Run


def lead(run: Run, root: Path, control: Control) -> Generator[Event, None, None]:
    """Train a run, alone or at the head of those the launcher started beside it.

    Raises:
        UserError: as `train`, and `peer_lost`.
    """
    peers = yield from heeding(join(), control)
    if peers is None:
        yield Finished(reason="stopped")
        return
    try:
        if peers.size > 1:
            peers.first({"record": msgspec.to_builtins(run.record()), **_versions()})
            text = f"{peers.size} processes share every step of this run."
            yield Notice(level="info", code="shared", text=text)
        yield from train(run, root, control, peers)
    except PeerLeftError as left:
        where = f"process {left.rank + 1} of {peers.size}"
        fix = "put that right, or go on without it: understudy resume"
        raise UserError("peer_lost", where, left.words or "it was ended", fix) from left
    finally:
        peers.leave()


def follow(root: Path, control: Control) -> Generator[Event, None, None]:
    """Compute a share of every step of the run that rank 0 leads.

    Raises:
        UserError: what keeps this process from it; `peer_lost`.
    """
    peers = yield from heeding(join(), control)
    if peers is None:
        yield Finished(reason="stopped")
        return
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-peer-") as folder:
            run = RunStore(Path(folder)).create(_record(peers), "peer")
            yield from train(run, root, control, peers)
    except PeerLeftError:
        yield Finished(reason="stopped")
    except UserError as error:
        # every process sees by itself that a run went astray; rank 0 says so
        if error.code != "diverged":
            found = _on_this_machine(error)
            peers.leave(f"{found.where}: {found.why}")
            raise found from error
        yield Finished(reason="stopped")
    except (RuntimeError, MemoryError) as error:
        peers.leave(f"its engine failed ({' '.join(str(error).split())[:200]})")
        raise
    finally:
        peers.leave()


def _on_this_machine(error: UserError) -> UserError:
    """A run never changed what it began with where the first machine still has it."""
    kinds = {"data_changed": "data", "model_changed": "model"}
    if error.code not in kinds:
        return error
    why = f"the {kinds[error.code]} of this machine is not that of the first"
    fix = "bring it here from there, to the same place"
    return UserError(error.code, error.where, why, fix)


def _record(peers: Peers) -> RunRecord:
    """What rank 0 trains, if this process computes with the same code."""
    given: dict[str, Any] = peers.first(None)
    record = msgspec.convert(given.pop("record"), RunRecord)
    mine = _versions()
    if given != mine:
        differing = ", ".join(f"{n} {mine[n]} and {given.get(n)}" for n in mine)
        where = f"process {peers.rank + 1} of {peers.size}"
        fix = "install the same versions on all machines"
        raise UserError(
            "bad_option", where, f"its versions differ from the first's ({differing})", fix
        )
    return record


def _versions() -> dict[str, str]:
    return {"understudy": __version__, "mlx": importlib.metadata.version("mlx")}
