"""The loss chart on its card: what the lines are, log scale, export."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QMenu

from app.widgets.button import Button
from app.widgets.card import Card
from app.widgets.chart import LossChart
from app.widgets.legend import LegendItem

# file type -> what the menu says
EXPORTS = {"png": "Image (PNG)…", "svg": "Drawing (SVG)…", "csv": "Numbers (CSV)…"}


class LossCard(Card):
    """The chart and what is around it; `export` carries png, svg or csv."""

    export = Signal(str)

    def __init__(self) -> None:
        super().__init__("Loss", spacing=4)
        self.chart = LossChart()
        dashed, dotted = Qt.PenStyle.DashLine, Qt.PenStyle.DotLine
        self.head.addSpacing(8)
        for item in (
            LegendItem("train", "accent"),
            LegendItem("held-out", "violet", dashed),
            LegendItem("base", "text2", dotted, 1.5),
        ):
            self.head.addWidget(item)
            self.head.addSpacing(4)
        self.head.addStretch(1)
        self.log = Button("Log Scale", self._set_log, kind="pill")
        self.save, self.menu = Button("Export…", icon="export"), QMenu(self)
        for kind, text in EXPORTS.items():
            self.menu.addAction(text).triggered.connect(partial(self._chosen, kind))
        self.save.setMenu(self.menu)
        self.head.addWidget(self.log)
        self.head.addWidget(self.save)
        self.body.addWidget(self.chart, 1)

    def _set_log(self) -> None:
        self.chart.set_log(self.log.isChecked())

    def _chosen(self, kind: str, _checked: bool = False) -> None:
        self.export.emit(kind)
