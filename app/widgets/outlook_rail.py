"""What a configuration asks for, in cards: memory, time, and the run to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.models.recipe import written
from app.widgets.card import Card, Metric, Row
from app.widgets.label import Label
from app.widgets.memory_card import MemoryCard
from app.widgets.plan_curve import Course, PlanCurve
from app.words import MACHINE, count, duration, plural, size
from mlx_lora.training.schedule import learning_rate

if TYPE_CHECKING:
    from app.models.outlook import Outlook
    from app.models.probing import Measured
    from mlx_lora.config import RunConfig

_WIDTH, _POINTS = 300, 160
_VERDICTS = {
    "fits": ("Fits", "ok", "check"), "tight": ("Tight", "warn", "warn"),
    "large": ("Too Large", "bad", "warn"),
}  # fmt: skip
_SENTENCES = {
    "fits": "",
    "tight": "It will work; close other programs first. This makes room:",
    "large": "It would most likely end for lack of memory. This helps:",
}
_SPEEDS = {
    "probed": f"At the speed of the steps measured on this {MACHINE}.",
    "same": f"At the speed of your last run of this kind on this {MACHINE}.",
    "model": f"At the speed of your last run of this model on this {MACHINE}.",
    "assumed": f"A guess from the kind of this {MACHINE}; after the first run it is measured.",
}


class OutlookRail(QWidget):
    """The right side of Configure; `plan` has its place under the form."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.setFixedWidth(_WIDTH)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        self.memory, self.time, self.plan = MemoryCard(), Card("Time", spacing=8), PlanCard()
        self.seconds, self.steps, self.tokens = (
            Metric("until it is done"), Metric("steps"), Metric("tokens")
        )  # fmt: skip
        self.time.body.addWidget(self.seconds)
        self.time.body.addWidget(Row(self.steps, None, self.tokens, None))
        self.source = Label("", "caption", "text2", wrap=True)
        self.disk = Label("", "caption", "text2", wrap=True)
        self.time.body.addWidget(self.source)
        self.time.body.addWidget(self.disk)
        column.addWidget(self.memory)
        column.addWidget(self.time)

    def show_outlook(self, outlook: Outlook, config: RunConfig) -> None:
        """What is to be expected of a configuration."""
        self._show_memory(outlook)
        self._show_time(outlook)
        self.plan.show_plan(outlook, config)
        self.setEnabled(True)

    def show_measured(self, known: Measured | None, now: int, doing: str, trouble: str) -> None:
        """What was measured of this configuration, what is being measured, why it was not.

        `now` is the batch size that is set: it is not offered.
        """
        if doing:
            self.memory.measuring.say_doing(doing)
            return
        words, best = _found(known)
        self.memory.measuring.say_found(words, best if best != now else 0, trouble)

    def show_nothing(self) -> None:
        """It is not known yet."""
        self.memory.show_need("–", "estimating…", [], 1.0)
        self.memory.show_verdict(("Estimating", "plain", "clock"), "")
        self.memory.show_remedies([])
        for metric in (self.seconds, self.steps, self.tokens):
            metric.say("–")
        self.source.setText("")
        self.disk.setText("")
        self.plan.hide()

    def fade(self) -> None:
        """What is shown was of other values."""
        if self.plan.isHidden():
            self.memory.show_need("–", "", [], 1.0)
        self.memory.show_verdict(("Not Known", "plain", "info"), "One value needs to be changed.")
        self.memory.show_remedies([])

    def _show_memory(self, outlook: Outlook) -> None:
        memory = outlook.memory
        parts = [
            ("accent", "Model", memory.weights),
            ("violet", "Adapter and optimizer", memory.adapter),
            ("cyan", "Values between layers", memory.activations),
            ("ok", "Scores for every word", memory.logits),
            ("warn", "Frozen layers, kept", memory.cache),
            ("text3", "Engine", memory.runtime),
        ]
        self.memory.show_need(
            size(outlook.need),
            f"of {size(outlook.limit)}",
            [(tone, name, size(part), float(part)) for tone, name, part in parts if part],
            float(outlook.limit),
        )
        words = _SENTENCES[outlook.verdict] if outlook.fixes else ""
        self.memory.show_verdict(_VERDICTS[outlook.verdict], words)
        remedies = [(f"{fix.name} · {size(fix.need)}", fix.why) for fix in outlook.fixes]
        if outlook.verdict == "large":
            remedies.append(("Smaller Model…", "Go back and choose another model."))
        self.memory.show_remedies(remedies)

    def _show_time(self, outlook: Outlook) -> None:
        pace = outlook.pace
        self.disk.setText(f"Takes {size(outlook.disk)} on disk while it trains.")
        if pace is None:
            for metric in (self.seconds, self.steps, self.tokens):
                metric.say("–")
            self.source.setText("Known once the data was read.")
            return
        text = duration(pace.seconds)
        self.seconds.say(text[:1].upper() + text[1:] if text.startswith("under") else f"≈ {text}")
        self.steps.say(f"{'' if pace.exact else '≈ '}{pace.plan.steps:,}")
        self.tokens.say(count(pace.tokens))
        self.source.setText(_SPEEDS[outlook.speed.source])


def _found(known: Measured | None) -> tuple[str, int]:
    """(what was measured in words, the batch size to offer, 0 for none)."""
    if known is None:
        return "", 0
    own, best = known.own, known.best
    words = ""
    if own is not None:
        words = f"Measured: {own.why}." if not own.need else (
            f"Measured: {size(own.need)} at the peak, {own.report['seconds']:.3g} s a step."
        )  # fmt: skip
    if best == 0:
        return f"{words} Not even one row at a time fits.".strip(), 0
    if best:
        words = f"{words} The largest batch that fits: {best:,}.".strip()
    return words, best or 0


class PlanCard(Card):
    """The run to come."""

    def __init__(self) -> None:
        super().__init__("The Run", spacing=6)
        self.words = Label("", "caption", "text2", wrap=True)
        self.curve = PlanCurve()
        self.body.addWidget(self.words)
        self.body.addWidget(self.curve)

    def show_plan(self, outlook: Outlook, config: RunConfig) -> None:
        """The learning rate over its steps, epochs and measurements."""
        pace = outlook.pace
        self.setVisible(pace is not None)
        if pace is None:
            return
        steps, every = pace.plan.steps, pace.plan.eval_every
        looks = [step / steps for step in range(every, steps + 1, every)]
        if not looks or looks[-1] < 1.0:
            looks.append(1.0)
        points = max(2, min(_POINTS, steps))
        at = [1 + round(n * (steps - 1) / (points - 1)) for n in range(points)]
        epoch = pace.batches / config.training.grad_accumulation / steps
        epochs = [n * epoch for n in range(1, int(1 / epoch) + 1) if n * epoch < 1.0 - 1e-9]
        rate = config.training.learning_rate
        about, sign = ("", "") if pace.exact else ("about ", "≈ ")
        said = (
            f"The size of the steps rises and falls over {about}{plural(steps, 'step')}. Dots: "
            f"held-out rows are measured, {plural(len(looks), 'time')}; the best of them is kept."
        )
        if epochs:
            said += " Dashes: every row was seen."
        self.words.setText(said)
        rates = tuple(learning_rate(config.training, step, steps) for step in at)
        course = Course(
            rates,
            tuple(epochs),
            tuple(looks),
            f"learning rate {written(rate)}",
            f"{sign}{steps:,} steps",
        )
        self.curve.show_course(course, said)
