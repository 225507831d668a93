"""A session to a checkpoint and back, bit for bit.

State that is no tensor: step, best loss, how many validations brought nothing, target tokens seen,
and MLX's global random state (our own draws never use it; it is kept for libraries that might).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import msgspec

from mlx_lora import environment
from mlx_lora.checkpoints import OPTIMIZER, WEIGHTS, Checkpoint, Snapshot
from mlx_lora.errors import UserError
from mlx_lora.events import Notice
from mlx_lora.lora.store import adapter_files
from mlx_lora.models.tensor_pieces import tensor_pieces
from mlx_lora.storage import show
from mlx_lora.training.validation import Measured

if TYPE_CHECKING:
    from mlx_lora.training.session import Session


class Progress(msgspec.Struct, kw_only=True):
    """Where a run is.

    Attributes:
        step: optimizer steps done.
        best_loss, best_step: of the validations so far; 0 where there was none.
        stale: validations since the best one.
        tokens: targets learnt from so far.
        validation_loss: of this very step, where it was validated.
        base: the base on every held-out row, measured before the first step.
        recent: the last losses, to see a run that is lost.
    """

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0
    tokens: int = 0
    validation_loss: float | None = None
    base: Measured | None = None
    recent: list[float] = []


def take_snapshot(session: Session, progress: Progress) -> Snapshot:
    """The session as it is, for the computing thread to take and any thread to write.

    It waits for what is being computed and copies nothing: the next step makes new arrays.
    """
    adapter = session.adapter
    state = msgspec.to_builtins(progress)
    state["best_loss"] = progress.best_loss if progress.best_step else None
    state["random"] = mx.random.state[0].tolist()
    facts = session.facts(progress.step)
    return Snapshot(
        step=progress.step,
        files={
            **adapter_files(adapter.tensors(), adapter.shape, facts, WEIGHTS),
            OPTIMIZER: tensor_pieces(session.optimizer.tensors(), {}),
        },
        state=state,
        environment=session.environment,
        base_fingerprint=session.base.fingerprint,
        validation_loss=progress.validation_loss,
    )


def load_state(session: Session, checkpoint: Checkpoint) -> tuple[Progress, list[Notice]]:
    """Put a session where a checkpoint was; returns the progress and what is not as it was then.

    Raises:
        UserError: `damaged_checkpoint` or `wrong_checkpoint`.
    """
    manifest = checkpoint.manifest
    if manifest.base_fingerprint != session.base.fingerprint:
        raise _wrong(checkpoint, "it belongs to another base")
    weights = mx.load(str(checkpoint.file(WEIGHTS)), format="safetensors")
    wanted = {name: tensor.shape for name, tensor in session.adapter.tensors().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != wanted:
        raise _wrong(checkpoint, "its trainable tensors are not those of this run")
    session.adapter.load(weights)
    moments = mx.load(str(checkpoint.file(OPTIMIZER)), format="safetensors")
    try:
        session.optimizer.load(moments)
    except ValueError as error:
        raise _wrong(checkpoint, str(error)) from error
    state = dict(manifest.state)
    try:
        high, low = state.pop("random")
        mx.random.seed((high << 32) | low)
        if state["best_loss"] is None:
            state["best_loss"] = float("inf")
        progress = msgspec.convert(state, Progress)
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(checkpoint, f"its state is not of this version ({error})") from error
    changed = environment.differences(manifest.environment, session.environment)
    if not changed:
        return progress, []
    text = (
        f"This run was begun with another set-up ({'; '.join(changed)}), "
        "so its numbers may differ slightly from here."
    )
    return progress, [Notice(level="warning", code="environment", text=text)]


def share_state(session: Session, progress: Progress) -> Progress:
    """Bring every rank's session to where rank 0's is, bit for bit; returns its progress."""
    peers = session.peers
    if peers.size == 1:
        return progress
    session.adapter.load(peers.first_tensors(session.adapter.tensors()))
    session.optimizer.load(peers.first_tensors(session.optimizer.tensors()))
    return msgspec.convert(peers.first(msgspec.to_builtins(progress)), Progress)


def _wrong(checkpoint: Checkpoint, why: str) -> UserError:
    return UserError("wrong_checkpoint", show(checkpoint.folder), why, "start a new run")
