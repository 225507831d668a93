"""The loss chart: raw, smoothed, held-out; values under the pointer or the arrow keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt, QTimer
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy

from app.theme import font, theme
from app.widgets.plot import Plot, draw_dot, place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtCore import QEvent

_LOW, _HIGH = 120, 180
_PAD, _LINE = 8.0, 16.0
_KEYS = {
    Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_PageUp: -10, Qt.Key.Key_PageDown: 10,
}  # fmt: skip


class LossChart(QLabel):
    """Shows a run's loss. Repaints cost the same for a hundred steps and a hundred thousand."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = Plot()
        self._at: int | None = None  # index of the raw point whose values are shown
        self._text = "The curve appears with the first step."
        self._more: Callable[[], None] | None = None
        self._rest = QTimer(self, singleShot=True, interval=0)
        self._rest.timeout.connect(self._read_more)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(_LOW)
        self.setAccessibleName("Loss chart")
        theme.changed.connect(self.update)
        self._describe()

    @property
    def step(self) -> int | None:
        """The step whose values are shown."""
        return None if self._at is None else self.plot.raw.steps[self._at]

    def show_run(
        self,
        losses: Sequence[tuple[int, float]],
        held_out: Sequence[tuple[int, float]] = (),
        *,
        steps: int = 0,
        best: int | None = None,
    ) -> None:
        """Other data; the whole lists each time, of which only what is new is read."""
        self.plot.show(losses, held_out, steps=steps, best=best)
        self._more = partial(self.show_run, losses, held_out, steps=steps, best=best)
        if self.plot.behind:
            self._rest.start()
        else:
            self._rest.stop()
        if self._at is not None and self._at >= len(self.plot.raw):
            self._at = None
        self._describe()
        self.update()

    def say_empty(self, text: str) -> None:
        """What stands here before there is a curve."""
        self._text = text
        self._describe()
        self.update()

    def set_log(self, log: bool) -> None:
        """Whether the loss axis is logarithmic."""
        self.plot.log = log
        self.update()

    def render_to(self, painter: QPainter, rect: QRectF) -> None:
        """The curve without focus and pointer, for PNG and SVG."""
        self.plot.render_to(painter, rect)

    def values(self) -> list[str]:
        """What is known of the step under the pointer, a line each."""
        plot, at = self.plot, self._at
        if at is None:
            return []
        step = plot.raw.steps[at]
        lines = [
            f"Step {step:,}",
            f"train {plot.raw.values[at]:.3f}",
            f"smoothed {plot.raw.smoothed[at]:.3f}",
        ]
        before = [(number, loss) for number, loss in plot.held_out if number <= step]
        if before:
            number, loss = before[-1]
            where = "" if number == step else f" (step {number:,})"
            lines.append(f"held-out {loss:.3f}{where}")
        return lines

    # -- Qt's side

    def sizeHint(self) -> QSize:
        """Wide, and as high as there is room."""
        return QSize(600, _HIGH)

    def minimumSizeHint(self) -> QSize:
        """Still readable."""
        return QSize(240, _LOW)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """The curve, the values at hand, the ring of the focus."""
        painter, box = QPainter(self), QRectF(self.rect())
        if self.plot.empty:
            painter.setFont(font("body"))
            painter.setPen(theme.tokens.color("text2"))
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, self._text)
        else:
            self.plot.render_to(painter, box)
            if self._at is not None:
                self._paint_values(painter, box)
        if self.hasFocus():
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(theme.tokens.color("accent"), 2))
            painter.drawRoundedRect(box.adjusted(1, 1, -1, -1), 6, 6)
        painter.end()

    def _paint_values(self, painter: QPainter, box: QRectF) -> None:
        """A line at the step, and a small card with what is known of it."""
        assert self._at is not None
        tokens, area, (across, up) = theme.tokens, self.plot.area(box), self.plot.axes()
        share = across.share(self.plot.raw.steps[self._at])
        point = place(area, share, up.share(self.plot.raw.smoothed[self._at]))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(QPen(tokens.color("strong"), 1))
        painter.drawLine(QLineF(point.x(), area.top(), point.x(), area.bottom()))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        draw_dot(painter, point, tokens.color("accent"))
        lines = self.values()
        painter.setFont(font("caption", tabular=True))
        width = max(painter.fontMetrics().horizontalAdvance(line) for line in lines) + 2 * _PAD
        card = QRectF(point.x() + 12, area.top() + 4, width, len(lines) * _LINE + 2 * _PAD - 4)
        if card.right() > box.right():
            card.moveRight(point.x() - 12)
        painter.setPen(QPen(tokens.color("border"), 1))
        painter.setBrush(tokens.color("card"))
        painter.drawRoundedRect(card, 6, 6)
        for number, line in enumerate(lines):
            painter.setPen(tokens.color("text2" if number else "text"))
            corner = QPointF(card.left() + _PAD, card.top() + _PAD - 2 + number * _LINE)
            row = QRectF(corner.x(), corner.y(), width, _LINE)
            painter.drawText(row, Qt.AlignmentFlag.AlignVCenter, line)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """The values of the step under the pointer."""
        area = self.plot.area(QRectF(self.rect()))
        inside = area.adjusted(-8, -8, 8, 8).contains(event.position())
        if not len(self.plot.raw) or not inside:
            self._choose(None)
            return
        share = (event.position().x() - area.left()) / area.width()
        self._choose(self.plot.raw.nearest(share * self.plot.axes()[0].high))

    def leaveEvent(self, event: QEvent) -> None:
        """The pointer went away."""
        super().leaveEvent(event)
        self._choose(None)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """So did the keyboard."""
        super().focusOutEvent(event)
        self._choose(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows go along the curve, with Shift one step at a time; Home, End, Escape."""
        count, key = len(self.plot.raw), Qt.Key(event.key())
        if key == Qt.Key.Key_Escape and self._at is not None:
            self._choose(None)
        elif count and key in _KEYS:
            fine = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            stride = _KEYS[key] * (1 if fine else max(1, count // 100))
            start = count if self._at is None and stride < 0 else (self._at or 0)
            self._choose(min(max(start + stride, 0), count - 1))
        elif count and key in {Qt.Key.Key_Home, Qt.Key.Key_End}:
            self._choose(0 if key == Qt.Key.Key_Home else count - 1)
        else:
            super().keyPressEvent(event)

    def _read_more(self) -> None:
        """The next part of a long run; the window stays awake between two of them."""
        if self._more is not None:
            self._more()

    def _choose(self, at: int | None) -> None:
        if at != self._at:
            self._at = at
            self._describe()
            self.update()

    def _describe(self) -> None:
        """For who cannot see it: the values at hand, else where the run stands."""
        plot = self.plot
        if plot.empty:
            words = self._text
        elif self._at is not None:
            words = ", ".join(self.values())
        elif not len(plot.raw):
            words = f"Held-out loss of the base {plot.held_out[-1][1]:.3f}"
        else:
            last = f"train loss {plot.raw.smoothed[-1]:.3f} at step {plot.raw.steps[-1]:,}"
            held = f", held-out {plot.held_out[-1][1]:.3f}" if plot.held_out else ""
            base = f", base {plot.base:.3f}" if plot.base is not None else ""
            words = f"{last} of {plot.steps:,}{held}{base}"
        self.setAccessibleDescription(words[:1].upper() + words[1:])
