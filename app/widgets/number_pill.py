"""A setting as a pill that says its value; pressed, it opens a small form to change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QSignalBlocker, Qt
from PySide6.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QFrame, QSlider, QVBoxLayout

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import Label

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QHideEvent

_WIDTH, _STEPS = 260, 100


class NumberPill(Button):
    """One number.

    Args:
        title: its name on the pill and in the form.
        text: what the number means, in a sentence.
        limits: lowest and highest.
        decimals: 0 for whole numbers.
        words: how a value is said on the pill, the number itself where it has no words.
        change: gets every new value.
    """

    def __init__(
        self,
        title: str,
        text: str,
        *,
        limits: tuple[float, float],
        decimals: int,
        change: Callable[[float], object],
        words: Callable[[float], str] = lambda _: "",
        slides: bool = True,
    ) -> None:
        super().__init__(title, self.open, kind="pill")
        self.setToolTip(text)
        self._title, self._decimals, self._words, self._change = title, decimals, words, change
        self.form = _Form(self)
        self.number = _spin_box(title, limits, decimals)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setAccessibleName(f"{title} slider")
        self.form.body.addWidget(Row(Label(title, "strong"), None, self.number))
        self.form.body.addWidget(Label(text, "callout", "text2", wrap=True))
        self.form.body.addWidget(self.slider)
        # not before it has its place: shown without one it would be a window
        self.slider.setVisible(slides)
        self._limits = limits
        self.number.valueChanged.connect(self._changed)
        self.slider.valueChanged.connect(self._slid)

    def set_value(self, value: float) -> None:
        """Show a value; tells nobody."""
        with QSignalBlocker(self.number):
            self.number.setValue(value)
        self._show(value)

    def open(self) -> None:
        """Show the form under the pill."""
        self.setChecked(True)
        self.form.adjustSize()
        self.form.move(self.mapToGlobal(QPoint(0, self.height() + 4)))
        self.form.show()
        self.number.setFocus()
        self.number.selectAll()

    def _changed(self, value: float) -> None:
        self._show(value)
        self._change(value)

    def _slid(self, at: int) -> None:
        low, high = self._limits
        self.number.setValue(round(low + (high - low) * at / _STEPS, self._decimals))

    def _show(self, value: float) -> None:
        low, high = self._limits
        with QSignalBlocker(self.slider):
            self.slider.setValue(round((value - low) / (high - low) * _STEPS))
        self.say(f"{self._title} {self._words(value) or self._plain(value)}")

    def _plain(self, value: float) -> str:
        return f"{value:,.0f}" if not self._decimals else f"{value:g}"


class _Form(QFrame):
    """Opens above everything, closes by itself."""

    def __init__(self, pill: NumberPill) -> None:
        super().__init__(pill, Qt.WindowType.Popup)
        self._pill = pill
        self.setProperty("role", "popover")
        self.setAccessibleName(pill.text())
        self.setFixedWidth(_WIDTH)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(14, 12, 14, 12)

    def hideEvent(self, event: QHideEvent) -> None:
        """The pill is up again."""
        super().hideEvent(event)
        self._pill.setChecked(False)


def _spin_box(title: str, limits: tuple[float, float], decimals: int) -> QDoubleSpinBox:
    made = QDoubleSpinBox()
    made.setAccessibleName(title)
    made.setDecimals(decimals)
    made.setRange(*limits)
    made.setSingleStep(10**-decimals * (5 if decimals > 1 else 1))
    made.setGroupSeparatorShown(True)
    made.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    made.setFixedWidth(86)
    return made
