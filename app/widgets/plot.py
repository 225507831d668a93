"""The loss curve as drawing: the same for the screen, for PNG and for SVG."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QLinearGradient, QPainter, QPen, QPolygonF

from app.theme import font, theme
from app.widgets.series import Series, horizon_of
from app.widgets.ticks import Axis, loss_axis, step_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 14.0, 10.0, 24.0
_SEGMENTS, _DOTS = 300, 200
# points read in one go: about 20 ms
SLICE = 5000


class Plot:
    """What a run's chart shows, and how it is drawn.

    Attributes:
        raw: the loss of every step.
        held_out: (step, loss) on rows it never saw, rising steps.
        base: the base's loss on those rows.
        best: the step kept as the best.
        steps: where the run ends.
        log: whether the loss axis is logarithmic.
    """

    def __init__(self) -> None:
        self.raw, self.log = Series(), False
        self.held_out: list[tuple[int, float]] = []
        self.base: float | None = None
        self.best: int | None = None
        self.steps, self._horizon, self.behind = 0, 0.0, False

    def show(
        self,
        losses: Sequence[tuple[int, float]],
        held_out: Sequence[tuple[int, float]] = (),
        *,
        steps: int = 0,
        best: int | None = None,
    ) -> None:
        """Other data; only what is new of `losses` costs time, and at most `SLICE` of it is read.

        `behind` says whether there is more: then show the same again.
        """
        horizon = horizon_of(steps)
        if horizon != self._horizon or not self.raw.holds(losses):
            self.raw, self._horizon = Series(horizon), horizon
        known = len(self.raw)
        self.raw.extend(losses[known : known + SLICE])
        self.behind = len(self.raw) < len(losses)
        self.held_out = _rising(held_out)
        self.base = self.held_out[0][1] if self.held_out and self.held_out[0][0] == 0 else None
        self.best = best
        last = self.raw.steps[-1] if len(self.raw) else 0
        self.steps = max(steps, last)

    @property
    def empty(self) -> bool:
        """Nothing to draw yet."""
        return not len(self.raw) and not self.held_out

    def area(self, rect: QRectF) -> QRectF:
        """Where in `rect` the lines are."""
        return rect.adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM)

    def axes(self) -> tuple[Axis, Axis]:
        """Of the steps and of the loss; single spikes of the raw loss are cut off."""
        known = [loss for _, loss in self.held_out]
        if len(self.raw):
            known += [self.raw.low, self.raw.high]
        low, high = min(known, default=0.0), max(known, default=1.0)
        raw = [value for _, *pair in self.raw.bars(64) for value in pair]
        low = max(min([low, *raw]), low - (high - low) / 2)
        high = min(max([high, *raw]), high + (high - low) / 4)
        last = self.raw.steps[-1] if len(self.raw) else 0
        at = max(last, self.held_out[-1][0] if self.held_out else 0)
        return step_axis(self.steps, at), loss_axis(low, high, log=self.log and low > 0)

    def render_to(self, painter: QPainter, rect: QRectF) -> None:
        """Draw everything into `rect` on whatever `painter` paints."""
        across, up = self.axes()
        area = self.area(rect)
        _draw_grid(painter, area, across, up)
        if self.base is not None:
            self._draw_base(painter, area, up)
        self._draw_raw(painter, area, across, up)
        self._draw_smoothed(painter, area, across, up)
        self._draw_held_out(painter, area, across, up)

    def _draw_base(self, painter: QPainter, area: QRectF, up: Axis) -> None:
        assert self.base is not None
        y = place(area, 0.0, up.share(self.base)).y()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(QPen(theme.tokens.color("text2"), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(area.left(), round(y)), QPointF(area.right(), round(y)))
        painter.setFont(font("caption"))
        words = f"base {self.base:.2f}"
        above = y - area.top() > 18  # noqa: PLR2004
        box = QRectF(area.right() - 120, y - 17 if above else y + 3, 120, 14)
        painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, words)

    def _draw_raw(self, painter: QPainter, area: QRectF, across: Axis, up: Axis) -> None:
        """Bars from the lowest to the highest of each pixel; a thin line where points are few."""
        color = theme.tokens.color("accent")
        color.setAlphaF(0.34)
        pen = QPen(color, 1)
        painter.setPen(pen)
        width = max(1, round(area.width()))
        if len(self.raw) < width:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
            pairs = zip(self.raw.steps, self.raw.values, strict=True)
            points = [place(area, across.share(x), up.share(y)) for x, y in pairs]
            painter.drawPolyline(QPolygonF(points))
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.drawLines(self._bars(area, across, up, width))

    def _bars(self, area: QRectF, across: Axis, up: Axis, width: int) -> list[QLineF]:
        """One line a column of pixels, at least one pixel high."""
        scale, bars, column = width / across.high, list[QLineF](), -1
        low = high = 0.0
        left, top, height = round(area.left()), area.top(), area.height()

        def close() -> None:
            y1, y2 = top + (1 - up.share(high)) * height, top + (1 - up.share(low)) * height
            bars.append(QLineF(left + column, y1, left + column, max(y2, y1 + 1)))

        for step, lowest, highest in self.raw.bars(4 * width):
            at = int(step * scale)
            if at != column:
                if column >= 0:
                    close()
                column, low, high = at, lowest, highest
            else:
                low, high = min(low, lowest), max(high, highest)
        close()
        return bars

    def _draw_smoothed(self, painter: QPainter, area: QRectF, across: Axis, up: Axis) -> None:
        line = self.raw.line(_SEGMENTS)
        points = [place(area, across.share(x), up.share(y)) for x, y in line]
        if not points:
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        accent = theme.tokens.color("accent")
        _fill_below(painter, area, points, accent)
        # segments, not a polyline: antialiased joins of a thick polyline take hundreds of ms
        painter.setPen(QPen(accent, 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.drawLines([QLineF(a, b) for a, b in itertools.pairwise(points)])
        draw_dot(painter, points[-1], accent)

    def _draw_held_out(self, painter: QPainter, area: QRectF, across: Axis, up: Axis) -> None:
        """Dots joined by dashes; all of them where they are few, evenly chosen where not."""
        every = math.ceil(len(self.held_out) / _DOTS) or 1
        shown = self.held_out[::-1][::every][::-1]
        points = [place(area, across.share(x), up.share(y)) for x, y in shown]
        violet = theme.tokens.color("violet")
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        pen = QPen(violet, 1.5)
        pen.setDashPattern([4, 3])
        painter.setPen(pen)
        painter.drawLines([QLineF(a, b) for a, b in itertools.pairwise(points)])
        for point in points:
            draw_dot(painter, point, violet)
        best = next(((x, y) for x, y in self.held_out if x == self.best), None)
        if best is not None:
            _draw_best(painter, area, place(area, across.share(best[0]), up.share(best[1])))


def place(area: QRectF, across: float, up: float) -> QPointF:
    """The point at these shares of an area."""
    return QPointF(area.left() + across * area.width(), area.bottom() - up * area.height())


def draw_dot(painter: QPainter, point: QPointF, color: QColor) -> None:
    """A dot with a rim of the card's colour."""
    painter.setPen(QPen(theme.tokens.color("card"), 1.5))
    painter.setBrush(color)
    painter.drawEllipse(point, 4.0, 4.0)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _draw_best(painter: QPainter, area: QRectF, point: QPointF) -> None:
    """A ring and a word at the step that is kept."""
    ok = theme.tokens.color("ok")
    painter.setPen(QPen(ok, 2))
    painter.drawEllipse(point, 7.0, 7.0)
    painter.setFont(font("caption"))
    below = point.y() + 26 < area.bottom()
    box = QRectF(0, 0, 40, 14)
    box.moveCenter(QPointF(point.x(), point.y() + (18 if below else -18)))
    box.moveRight(min(box.right(), area.right() + 10))
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, "best")


def _draw_grid(painter: QPainter, area: QRectF, across: Axis, up: Axis) -> None:
    """Thin lines and words; one decides the other's place."""
    tokens = theme.tokens
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    painter.setFont(font("caption", tabular=True))
    flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
    for value, words in up.marks:
        y = round(place(area, 0.0, up.share(value)).y())
        painter.setPen(QPen(tokens.color("border"), 1))
        painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        painter.setPen(tokens.color("text2"))
        painter.drawText(QRectF(area.left() - 60, y - 8, 52, 16), flags, words)
    for value, words in across.marks:
        x = place(area, across.share(value), 0.0).x()
        box = QRectF(x - 40, area.bottom() + 6, 80, 16)
        box.moveRight(min(box.right(), area.right() + _RIGHT + 40 - len(words) * 3))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)


def _fill_below(painter: QPainter, area: QRectF, points: list[QPointF], color: QColor) -> None:
    """A breath of colour under the line."""
    fade = QLinearGradient(0, area.top(), 0, area.bottom())
    strong, none = QColor(color), QColor(color)
    strong.setAlphaF(0.14)
    none.setAlphaF(0.0)
    fade.setColorAt(0, strong)
    fade.setColorAt(1, none)
    ends = QPointF(points[-1].x(), area.bottom()), QPointF(points[0].x(), area.bottom())
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(fade)
    painter.drawPolygon(QPolygonF([*points, *ends]))
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _rising(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """One point a step, the first of each: at its end a run measures the best step once more."""
    found: dict[int, float] = {}
    for step, loss in points:
        found.setdefault(step, loss)
    return sorted(found.items())
