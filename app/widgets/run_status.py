"""Where a run stands: pill, bar, numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QProgressBar

from app.widgets.card import Card, Metric, Row
from app.widgets.label import ElidedLabel, Label
from app.widgets.pill import Pill

if TYPE_CHECKING:
    from collections.abc import Mapping

# key -> what the number is
METRICS = {
    "train": "train loss, smoothed",
    "held_out": "held-out loss",
    "speed": "tokens a second",
    "memory": "peak memory",
    "time": "time left",
}


class RunStatus(Card):
    """A card with everything a glance is for."""

    def __init__(self) -> None:
        super().__init__(spacing=10)
        self.pill, self.words = Pill(), ElidedLabel(role="strong")
        self.share = Label(role="strong", tone="text2")
        self.body.addWidget(Row(self.pill, self.words, self.share))
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Training progress")
        self.body.addWidget(self.bar)
        self.metrics = {key: Metric(what) for key, what in METRICS.items()}
        row = Row(spacing=24)
        for metric in self.metrics.values():
            row.items.addWidget(metric, 1)
        self.body.addWidget(row)

    def say(self, word: str, tone: str, icon: str, text: str) -> None:
        """The stage of the run; the bar takes its colour."""
        self.pill.say(word, tone, icon)
        self.words.setText(text)
        if self.bar.property("tone") != tone:
            self.bar.setProperty("tone", tone)
            self.bar.style().unpolish(self.bar)
            self.bar.style().polish(self.bar)

    def say_share(self, done: int, total: int) -> None:
        """How far it is."""
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(min(done, total))
        self.share.setText(f"{done / total:.0%}".replace("%", " %") if total else "")

    def say_numbers(self, values: Mapping[str, str], captions: Mapping[str, str]) -> None:
        """The numbers, and what stands under them where that is more than their name."""
        for key, metric in self.metrics.items():
            metric.say(values.get(key, "–"))
            metric.caption.setText(captions.get(key, METRICS[key]))
