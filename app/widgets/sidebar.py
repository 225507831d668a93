"""The sidebar: which project, which step, what the machine does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QMenu, QProgressBar, QVBoxLayout

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import ElidedLabel, Label
from app.widgets.stepper import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDTH = 228


class Sidebar(QFrame):
    """Project name with its menu, the steps, a strip at the bottom."""

    def __init__(self, titles: Sequence[tuple[str, str]], go: Callable[[str], object]) -> None:
        super().__init__()
        self.setProperty("role", "sidebar")
        self.setFixedWidth(_WIDTH)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 40, 8, 16)
        column.setSpacing(0)
        self.project, self.menu = ElidedLabel("", "headline"), QMenu(self)
        self.switch = Button(icon="updown", kind="quiet", name="Projects")
        self.switch.setMenu(self.menu)
        head = Row(self.project, self.switch)
        head.items.setContentsMargins(12, 0, 0, 0)
        column.addWidget(head)
        self.kind = Label("Fine-tuning project", "caption", "text2")
        self.kind.setContentsMargins(12, 0, 0, 12)
        column.addWidget(self.kind)
        self.stepper = Stepper(list(titles))
        for key, step in self.stepper.steps.items():
            step.clicked.connect(lambda _=False, key=key: go(key))
        column.addWidget(self.stepper)
        column.addStretch(1)
        self.library = Button("Runs", lambda: go("runs"), kind="quiet", icon="list")
        self.settings = Button("Settings", lambda: go("settings"), kind="quiet", icon="settings")
        column.addWidget(Row(self.library, self.settings, None))
        column.addSpacing(10)
        self.work, self._share = ElidedLabel("", "caption", "text2"), Label("", "caption")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        strip = Row(self.work, self._share)
        strip.items.setContentsMargins(12, 0, 12, 6)
        self.work.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        column.addWidget(strip)
        bar = Row(self._bar)
        bar.items.setContentsMargins(12, 0, 12, 0)
        column.addWidget(bar)
        self._bar.setAccessibleName("Progress of the work at hand")
        self.say_work("", 0, 0)

    def say_work(self, text: str, done: int, total: int) -> None:
        """What is at work, and how far."""
        self.work.setText(text or "Nothing is running")
        self._share.setText(f"{done / total:.0%}" if text and total else "")
        self._bar.setRange(0, max(total, 1))
        self._bar.setValue(done)
        self._bar.setVisible(bool(text))
