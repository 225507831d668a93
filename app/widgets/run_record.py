"""What a run said and wrote, one at a time: samples, events, what was printed, how it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QStackedWidget

from app.widgets.button import Button, Segments
from app.widgets.card import Card
from app.widgets.engine_view import EngineView
from app.widgets.film_strip import FilmStrip
from app.widgets.log_view import LogView

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOW, _HIGH = 142, 168


class RunRecord(Card):
    """A card with four views; `turned` when another one is shown, `reveal` to see the folder."""

    turned = Signal(str)
    reveal = Signal()

    def __init__(self, show: str) -> None:
        super().__init__(spacing=6)
        self.setMinimumHeight(_LOW)
        self.setMaximumHeight(_HIGH)
        self.samples, self.log = FilmStrip(), LogView("Log of the run")
        self.output, self.engine = LogView("What the worker printed"), EngineView()
        self._views = {
            "samples": self.samples, "log": self.log, "output": self.output, "engine": self.engine,
        }  # fmt: skip
        names = {
            "samples": "Samples", "log": "Log", "output": "Output", "engine": "Engine",
        }  # fmt: skip
        self.tabs = Segments(names.items(), self.turn, name="Show")
        self.tabs.buttons["engine"].setToolTip("How it computes")
        self.folder = Button(show, self.reveal.emit, kind="link")
        self._stack = QStackedWidget()
        for view in self._views.values():
            self._stack.addWidget(view)
        self.head.addWidget(self.tabs)
        self.head.addSpacing(4)
        room = self.samples.head.sizePolicy()
        room.setRetainSizeWhenHidden(True)  # what is right of it stays where it is
        self.samples.head.setSizePolicy(room)
        self.head.addWidget(self.samples.head, 1)
        self.head.addSpacing(4)
        self.head.addWidget(self.folder)
        self.body.addLayout(self.head)
        self.body.addWidget(self._stack, 1)
        self.view = "samples"
        self.tabs.choose(self.view)
        self.say_engine(())

    def say_engine(self, sentences: Sequence[str]) -> None:
        """How the run computes; where nothing is known of it, there is no such view."""
        self.engine.show_sentences(sentences)
        self.tabs.buttons["engine"].setVisible(bool(sentences))
        if not sentences and self.view == "engine":
            self.turn("samples")

    def turn(self, view: str) -> None:
        """Show samples, log, output or engine."""
        self.view = view
        self.tabs.choose(view)
        self._stack.setCurrentWidget(self._views[view])
        self.samples.head.setVisible(view == "samples")
        self.turned.emit(view)
