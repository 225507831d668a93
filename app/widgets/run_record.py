"""What a run said and wrote: samples, events, and what libraries printed, one at a time."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QStackedWidget

from app.widgets.button import Button, Segments
from app.widgets.card import Card
from app.widgets.film_strip import FilmStrip
from app.widgets.log_view import LogView

_LOW, _HIGH = 142, 168


class RunRecord(Card):
    """A card with three views; `turned` when another one is shown, `reveal` to see the folder."""

    turned = Signal(str)
    reveal = Signal()

    def __init__(self, show: str) -> None:
        super().__init__(spacing=6)
        self.setMinimumHeight(_LOW)
        self.setMaximumHeight(_HIGH)
        self.samples, self.log = FilmStrip(), LogView("Log of the run")
        self.output = LogView("What the worker printed")
        self._views = {"samples": self.samples, "log": self.log, "output": self.output}
        names = {"samples": "Samples", "log": "Log", "output": "Output"}
        self.tabs = Segments(names.items(), self.turn, name="Show")
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

    def turn(self, view: str) -> None:
        """Show samples, log or output."""
        self.view = view
        self.tabs.choose(view)
        self._stack.setCurrentWidget(self._views[view])
        self.samples.head.setVisible(view == "samples")
        self.turned.emit(view)
