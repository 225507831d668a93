"""The moving parts of one run: steps, measurements, samples, checkpoints, the adapter."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx

from mlx_lora import checkpoints
from mlx_lora.errors import UserError
from mlx_lora.events import (
    CheckpointSaved,
    Event,
    Finished,
    Notice,
    Phase,
    TrainStep,
    Validation,
)
from mlx_lora.footprint import footprint
from mlx_lora.lora.store import save_adapter
from mlx_lora.training.feed import Feed
from mlx_lora.training.loss import Differentiation
from mlx_lora.training.resume import Progress, take_snapshot
from mlx_lora.training.samples import Sampler
from mlx_lora.training.schedule import learning_rate
from mlx_lora.training.step import Pending, Stepper
from mlx_lora.training.validation import Measured, measure
from mlx_lora.training.writer import CheckpointWriter

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.control import Control
    from mlx_lora.memory_limits import Tidier
    from mlx_lora.runs import Run
    from mlx_lora.training.session import Session

# steps in a row whose loss stands far above the base's before a run counts as diverged
_LOST = 10

Result = TypeVar("Result")


def heeding(
    work: Generator[Event, None, Result], control: Control
) -> Generator[Event, None, Result | None]:
    """Long work that changes nothing on disk, left at once when the owner says stop."""
    while not control.stopping:
        try:
            yield next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
    work.close()
    return None


class Trainer:
    """The moving parts of one run."""

    def __init__(
        self,
        session: Session,
        run: Run,
        progress: Progress,
        saved: int | None,
        tidier: Tidier,
    ) -> None:
        self.session, self.run, self.progress, self._saved = session, run, progress, saved
        self.new = saved is None
        self._tidier = tidier
        self.writer = CheckpointWriter(run.checkpoints, session.config.training.keep)
        # a run resumed at its last step measures without having made one: no dropout there either
        session.adapter.train(False)
        self.feed = Feed(session.lay_out, session.plan.steps)
        differentiation = Differentiation(
            session.objective, session.adapter.dropout_key, compiled=session.engine.compiled
        )
        training = session.config.training
        self._stepper = Stepper(
            differentiation,
            session.optimizer,
            clip=training.clip,
            seed=training.seed,
            peers=session.peers,
        )
        self._pending: Pending | None = None
        self._best: dict[int, bool] = {}
        self._sampler = Sampler(session)
        self._seconds: list[float] = []

    def steps(self, control: Control) -> Generator[Event, None, str]:
        """Step until plan, patience or owner end it: done, early_stop or stopped."""
        progress, plan = self.progress, self.session.plan
        peers = self.session.peers
        yield Phase("training", progress.step, plan.steps)
        while self._launched < plan.steps:
            yield from self._pause(control)
            over, stopping = peers.agree(self._patience_is_over(), control.stopping)
            if over:
                break
            if stopping:
                yield from self._settle()
                yield from self.save()
                yield from self.saved()
                return "stopped"
            yield from self._step()
            step = self._launched
            wanted = control.take_save()
            due = [step % every == 0 for every in (plan.eval_every, plan.sample_every)]
            if wanted or any(due) or step % plan.save_every == 0 or step == plan.steps:
                yield from self._settle()
                yield from self._look_and_save(wanted)
            self._tidier.tidy()
        yield from self.saved()
        return "early_stop" if progress.step < plan.steps else "done"

    def _look_and_save(self, wanted: bool) -> Generator[Event, None, None]:
        """Whatever is due after this step: measure, sample, save."""
        if self.session.peers.rank:
            return
        plan, step, best = self.session.plan, self.progress.step, False
        last = step == plan.steps
        if self.session.dataset.validation and (step % plan.eval_every == 0 or last):
            best = yield from self._validate()
        if step % plan.sample_every == 0 or last:
            yield from self._sampler.continue_all(step, plan.steps)
        if best or wanted or step % plan.save_every == 0 or last:
            yield from self.save()

    def finish(self, reason: str, control: Control) -> Generator[Event, None, bool]:
        """Write the adapter of the best step, measured; False where the owner said stop first."""
        best = checkpoints.best(checkpoints.scan(self.run.checkpoints))
        if best is None:
            raise UserError("internal", self.run.name, "no checkpoint was made", "resume the run")
        step = best.manifest.step
        if step != self.progress.step:
            weights = mx.load(str(best.file(checkpoints.WEIGHTS)), format="safetensors")
            self.session.adapter.load(weights)
        after = yield from heeding(self.measure_all(step), control)
        if after is None and control.stopping:
            return False
        if not self.run.adapter.is_dir():
            adapter = self.session.adapter
            save_adapter(
                self.run.adapter, adapter.tensors(), adapter.shape, self.session.facts(step)
            )
        yield from self._judge(after)
        yield Finished(
            reason=reason, result=_result(step, self.progress.step, self.progress.base, after)
        )
        return True

    def measure_all(self, step: int) -> Generator[Event, None, Measured | None]:
        """Loss over every held-out row, as `step` has it."""
        rows = self.session.dataset.validation
        if not rows:
            return None
        measured = yield from self._measure(rows)
        yield Validation(
            step=step, loss=measured.loss, accuracy=measured.accuracy, rows=measured.rows
        )
        return measured

    def save(self) -> Generator[Event, None, None]:
        """A checkpoint of this step, unless there is one."""
        progress = self.progress
        if progress.step in {0, self._saved} or self.session.peers.rank:
            return
        self._best[progress.step] = progress.best_step in {0, progress.step}
        self.writer.save(take_snapshot(self.session, progress))
        self._saved = progress.step
        yield from self._say_saved(self.writer.poll())

    def saved(self) -> Generator[Event, None, None]:
        """Wait until everything that was to be saved is on disk."""
        yield from self._say_saved(self.writer.wait())

    def _say_saved(self, written: list[checkpoints.Checkpoint]) -> Generator[Event, None, None]:
        for checkpoint in written:
            path = f"{self.run.checkpoints.name}/{checkpoint.folder.name}"
            step = checkpoint.manifest.step
            yield CheckpointSaved(step=step, path=path, best=self._best.pop(step))

    @property
    def _launched(self) -> int:
        """The last step handed to the engine; its result is read one step late."""
        return self._pending.step if self._pending is not None else self.progress.step

    def _step(self) -> Generator[Event, None, None]:
        """Hand the next step over, then say what the one before came to."""
        session, step = self.session, self._launched + 1
        batches = session.on_device(self.feed.take(step))
        session.adapter.train(True)
        rate = learning_rate(session.config.training, step, session.plan.steps)
        targets = session.targets(step) if session.peers.size > 1 else None
        if self._pending is not None:
            # a step is not told before the checkpoint in front of it is on disk, nor is the next
            # begun: the weights and moments being written would lie beside what it takes
            yield from self.saved()
        launched = self._stepper.launch(step, batches, rate, targets)
        before, self._pending = self._pending, launched
        session.adapter.train(False)
        if before is not None:
            yield self._report(before, launched.began)
        if session.peers.size > 1:  # its sum was waited for, so nothing is left to be late for
            yield from self._settle()

    def _settle(self) -> Generator[Event, None, None]:
        """Wait for the step in hand, so that weights and progress are of the same step."""
        pending, self._pending = self._pending, None
        if pending is not None:
            mx.eval(pending.loss)
            yield from self.saved()
            yield self._report(pending, time.perf_counter())

    def _report(self, pending: Pending, end: float) -> TrainStep:
        """What a step came to; it took until `end`, when the next was handed over."""
        loss, norm, moved = pending.loss.item(), pending.norm.item(), pending.moved.item()
        seconds = end - pending.began
        self._seconds = [*self._seconds[-19:], seconds]
        self._check(pending.step, loss, norm, moved=moved)
        progress, plan = self.progress, self.session.plan
        self._count(pending)
        batches = pending.step * self.session.config.training.grad_accumulation
        return TrainStep(
            step=pending.step,
            steps=plan.steps,
            epoch=batches / self.session.order.batches_per_epoch,
            loss=loss,
            learning_rate=pending.rate,
            grad_norm=norm,
            tokens=progress.tokens,
            tokens_per_second=pending.targets / seconds,
            peak_memory=mx.get_peak_memory(),
            footprint=footprint(),
            eta=statistics.median(self._seconds) * (plan.steps - pending.step),
        )

    def _count(self, pending: Pending) -> None:
        self.progress.step, self.progress.validation_loss = pending.step, None
        self.progress.tokens += pending.targets

    def _check(self, step: int, loss: float, norm: float, *, moved: bool) -> None:
        """Stop at a number that is not finite, and at a loss far above the base's."""
        if not moved:
            why = "the adapter's weights would be no numbers any more"
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.feed.close()
                rows = ", ".join(map(str, self.session.rows(step)[:8]))
                why = f"the loss is no number any more (rows {rows})"
            # the step handed over since has changed nothing either
            self._pending = None
            raise self._diverged(step, why)
        if self.session.peers.rank:
            return
        progress = self.progress
        start = progress.base.loss if progress.base else (*progress.recent, loss)[0]
        progress.recent = [*progress.recent[-_LOST + 1 :], loss]
        if len(progress.recent) == _LOST and min(progress.recent) > 1.3 * start + 0.5:
            why = f"the loss rose from {start:.2f} to {loss:.2f} and stays there"
            raise self._diverged(step, why)

    def _diverged(self, step: int, why: str) -> UserError:
        ahead, self._pending = self._pending, None
        if ahead is not None and ahead.moved.item():
            self._count(ahead)
        for _ in (*self.save(), *self.saved()):
            pass
        rate = self.session.config.training.learning_rate
        kept = (
            f"the state after step {self._saved}"
            if self._saved
            else "nothing yet; the base is untouched"
        )
        fix = f"start again with a lower learning rate, such as {rate / 5:.1g}"
        return UserError("diverged", f"step {step}", why, fix, kept)

    def _validate(self) -> Generator[Event, None, bool]:
        """Measure the fixed sample of held-out rows; returns whether it is the best so far."""
        measured = yield from self._measure(self.session.validation_sample())
        progress = self.progress
        progress.validation_loss = measured.loss
        yield Validation(
            step=progress.step, loss=measured.loss, accuracy=measured.accuracy, rows=measured.rows
        )
        if measured.loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.stale = measured.loss, progress.step, 0
            return True
        progress.stale += 1
        return False

    def _measure(self, rows: list[Any]) -> Generator[Event, None, Measured]:
        measured = yield from measure(
            self.session.objective, rows, self.session.config.training.batch_size
        )
        if not math.isfinite(measured.loss):
            if self.progress.step == 0:
                why, fix = (
                    "the model itself gives no numbers; its weights are damaged",
                    "download the model again",
                )
                raise UserError("bad_model", self.session.base.name, why, fix)
            raise self._diverged(self.progress.step, "the validation loss is no number any more")
        return measured

    def _pause(self, control: Control) -> Generator[Event, None, None]:
        if not control.paused:
            return
        yield from self._settle()
        yield from self.save()
        yield from self.saved()
        while control.paused and not control.stopping:
            yield Phase("paused", self.progress.step, self.session.plan.steps)
            control.wait(2.0)
        yield Phase("training", self.progress.step, self.session.plan.steps)

    def _patience_is_over(self) -> bool:
        patience = self.session.config.training.patience
        return patience is not None and self.progress.stale >= patience

    def _judge(self, after: Measured | None) -> Generator[Event, None, None]:
        base = self.progress.base
        if base and after and after.loss >= base.loss:
            text = (
                "On the held-out rows the adapter is no better than the base: "
                "try more data, or a lower learning rate."
            )
            yield Notice(level="warning", code="no_gain", text=text)


def _result(step: int, last: int, base: Measured | None, after: Measured | None) -> dict[str, Any]:
    result: dict[str, Any] = {"adapter": "adapter", "step": step, "last_step": last}
    if base and after:
        result["base"] = {
            "loss": base.loss,
            "perplexity": math.exp(min(base.loss, 700.0)),
            "accuracy": base.accuracy,
        }
        result["adapted"] = {
            "loss": after.loss,
            "perplexity": math.exp(min(after.loss, 700.0)),
            "accuracy": after.accuracy,
        }
        result["rows"] = after.rows
    return result
