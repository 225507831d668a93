"""The one training loop: a run folder in, events out.

    prepare -> (resume from the newest checkpoint) -> validate all -> steps -> best weights ->
    validate all -> adapter/

Everything random is a pure function of (seed, step), and checkpoints are made at step boundaries
only, so a run that is killed anywhere and resumed repeats exactly what the uninterrupted one does.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from mlx_lora import checkpoints
from mlx_lora.events import (
    Event,
    Finished,
    Notice,
    Phase,
)
from mlx_lora.memory_limits import engine_limits
from mlx_lora.storage import remove_leftovers
from mlx_lora.training.engine import Engine, read_engine, write_engine
from mlx_lora.training.links import PeerLeftError, PeerLostError
from mlx_lora.training.peers import Peers
from mlx_lora.training.resume import Progress, load_state, share_state
from mlx_lora.training.session import Session, prepare
from mlx_lora.training.trainer import Trainer, heeding

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mlx_lora.control import Control
    from mlx_lora.runs import Run


def train(
    run: Run, root: Path, control: Control, peers: Peers | None = None
) -> Generator[Event, None, None]:
    """Train a run to its end, or as far as `control` lets it; picks up at the newest checkpoint.

    Of several `peers` rank 0 measures and writes; the others compute their share of the steps.

    Raises:
        UserError: for everything a person can put right; what was saved is named in it.
    """
    peers = peers or Peers()
    work = prepare(run.record(), root, _begun_with(run), peers)
    session = yield from heeding(work, control)
    if session is None:
        yield Finished(reason="stopped")
        return
    if read_engine(run.folder) != session.engine:
        write_engine(run.folder, session.engine)
    progress, saved = yield from _pick_up(session, run)
    progress = share_state(session, progress)
    with engine_limits() as tidier:
        trainer = Trainer(session, run, progress, saved, tidier)
        ended = yield from _to_the_end(trainer, control)
    if not ended:
        result = {"step": progress.step, "steps": session.plan.steps}
        yield Finished(reason="stopped", result=result)


def _to_the_end(trainer: Trainer, control: Control) -> Generator[Event, None, bool]:
    """Measure, step, measure and write the adapter; False where the owner said stop first."""
    session, progress = trainer.session, trainer.progress
    peers = session.peers
    if trainer.new and peers.rank == 0:
        progress.base = yield from heeding(trainer.measure_all(0), control)
    with closing(trainer.feed), trainer.writer:
        try:
            reason = yield from trainer.steps(control)
        except (PeerLostError, PeerLeftError):
            # the step that broke off has changed nothing
            session.adapter.train(False)
            yield from trainer.save()
            yield from trainer.saved()
            raise
    peers.leave()
    if reason == "stopped" or peers.rank:
        return False
    return (yield from trainer.finish(reason, control))


def _begun_with(run: Run) -> Engine | None:
    """The engine a run goes on with; None where it has not begun."""
    kept = read_engine(run.folder)
    if kept is None and checkpoints.scan(run.checkpoints):
        training = run.record().config.training
        recompute = 1 if training.grad_checkpoint else 0
        return Engine(recompute=recompute, source="begun before")
    return kept


def _pick_up(session: Session, run: Run) -> Generator[Event, None, tuple[Progress, int | None]]:
    remove_leftovers(run.folder)
    for error in checkpoints.drop_damaged(run.checkpoints):
        text = f"{error.where} is damaged, so this goes on from an older checkpoint or without it."
        yield Notice(level="warning", code="damaged_checkpoint", text=text)
    checkpoints.prune(run.checkpoints, session.config.training.keep)
    found = checkpoints.scan(run.checkpoints)
    if not found:
        if run.state().validations or run.state().losses:
            yield Phase("resumed", 0, session.plan.steps)
        return Progress(), None
    progress, notices = load_state(session, found[-1])
    yield from notices
    yield Phase("resumed", progress.step, session.plan.steps)
    return progress, progress.step
