"""Models as cards, in as many columns as there is room for; arrow keys go from card to card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QScrollArea, QSizePolicy, QWidget

from app.icons import pixmap
from app.theme import Role, font, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEIGHT, _TILE, _SIDE, _GAP = 158, 34, 16, 16
_NARROW, _WIDE = 220, 880
_MARKS = {"check": "ok", "warn": "bad"}
_SOFT = {"ok": "ok_soft", "warn": "warn_soft", "bad": "bad_soft"}
_AROUND = {
    Qt.Key.Key_Left: (-1, 0), Qt.Key.Key_Right: (1, 0), Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}  # fmt: skip


class CardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a card says.

    Attributes:
        badge: (text, tone, icon) of whether it fits; None where that cannot be told.
        why: the badge in sentences, or why the model cannot be used.
        place: (text, icon) of where it is.
        usable: it can be chosen.
        share: how far it has come, 0 to 1; below 0 where that is not known, None for no bar.
        looked: the page tells of it at the moment.
    """

    key: str
    title: str
    line: str
    use: str
    licence: str = ""
    badge: tuple[str, str, str] | None = None
    why: str = ""
    place: tuple[str, str] = ("", "")
    usable: bool = True
    share: float | None = None
    looked: bool = False


class ModelCard(QAbstractButton):
    """One model; `opened` when it is double-clicked or Return is pressed on it."""

    opened = Signal(str)
    moved = Signal(QPoint)

    def __init__(self, facts: CardFacts) -> None:
        super().__init__()
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)
        self.facts: CardFacts = msgspec.structs.replace(facts, key="")
        self.say(facts)

    def say(self, facts: CardFacts) -> None:
        """Another state of the same model."""
        if facts == self.facts:
            return
        self.facts = facts
        self.setText(facts.title)
        self.setAccessibleName(f"{facts.title}, {facts.line}")
        said = (facts.use, facts.licence, facts.why, facts.place[0])
        self.setAccessibleDescription(" ".join(f"{part.rstrip('.')}." for part in said if part))
        self.setToolTip(facts.why)
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(_NARROW, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Never too narrow to read."""
        return QSize(_NARROW, _HEIGHT)

    def nextCheckState(self) -> None:
        """A press does not choose by itself: whoever listens decides."""

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows go to the next card, Return chooses and goes on."""
        around = _AROUND.get(Qt.Key(event.key()))
        if around is not None:
            self.moved.emit(QPoint(*around))
        elif event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter}:
            self.click()
            self.opened.emit(self.facts.key)
        else:
            super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """The first press chose it already."""
        super().mouseDoubleClickEvent(event)
        self.opened.emit(self.facts.key)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Border, mark, words, badge, place."""
        painter, tokens = QPainter(self), theme.tokens
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        strong = self.facts.looked or self.hasFocus()
        box = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        hover = self.underMouse() and self.facts.usable
        rim = "accent" if strong else "strong" if hover else "border"
        painter.setPen(QPen(tokens.color(rim), 2 if strong else 1))
        painter.setBrush(tokens.color("card"))
        painter.drawRoundedRect(box, 12, 12)
        if self.hasFocus():
            painter.setPen(QPen(tokens.color("accent_soft"), 2))
            painter.drawRoundedRect(box.adjusted(2, 2, -2, -2), 10, 10)
        self._paint_head(painter)
        self._paint_body(painter)
        self._paint_foot(painter)
        painter.end()

    def _paint_head(self, painter: QPainter) -> None:
        tokens, usable = theme.tokens, self.facts.usable
        tile = QRectF(_SIDE, _SIDE, _TILE, _TILE)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tokens.color("accent_soft" if usable else "inset"))
        painter.drawRoundedRect(tile, 8, 8)
        mark = "cube" if usable else "warn"
        tone = "accent" if usable else "bad"
        painter.drawPixmap(tile.topLeft() + QPointF(8, 8), pixmap(mark, tone, 18))
        left, right = tile.right() + 10, self.width() - _SIDE
        if self.isChecked():
            dot = QRectF(right - 20, _SIDE, 20, 20)
            painter.setBrush(tokens.color("accent"))
            painter.drawEllipse(dot)
            painter.drawPixmap(dot.topLeft() + QPointF(4, 4), pixmap("check", "on_accent", 12))
            right -= 28
        room = QRectF(left, _SIDE - 1, right - left, 20)
        self._line(painter, room, self.facts.title, "headline", "text")
        self._line(painter, room.translated(0, 19), self.facts.line, "caption", "text2")

    def _paint_body(self, painter: QPainter) -> None:
        room = QRectF(_SIDE, 60, self.width() - 2 * _SIDE, 34)
        painter.setFont(font("callout"))
        painter.setPen(theme.tokens.color("text2" if self.facts.usable else "bad"))
        metrics, words, lines = painter.fontMetrics(), self.facts.use.split(), [""]
        for word in words:
            longer = f"{lines[-1]} {word}".strip()
            if len(lines) == 2 or metrics.horizontalAdvance(longer) <= room.width():  # noqa: PLR2004
                lines[-1] = longer
            else:
                lines.append(word)
        for at, line in enumerate(lines):
            self._line(painter, room.translated(0, 17 * at), line, "callout", "", height=17)

    def _paint_foot(self, painter: QPainter) -> None:
        bottom, facts = self.height() - _SIDE, self.facts
        right = self.width() - _SIDE
        painter.setFont(font("caption"))
        text, icon = facts.place
        width = painter.fontMetrics().horizontalAdvance(text)
        place = QRectF(right - width, bottom - 20, width, 20)
        tone = _MARKS.get(icon, "text2")
        self._line(painter, place, text, "caption", "text2" if tone == "ok" else tone)
        left = place.left()
        if icon:
            left -= 18
            painter.drawPixmap(QPointF(left, place.top() + 4), pixmap(icon, tone, 12))
        if facts.badge is not None:
            self._paint_badge(painter, facts.badge, left - _SIDE - 8)
        above = QRectF(_SIDE, bottom - 42, right - _SIDE, 15)
        if facts.share is None:
            self._line(painter, above, facts.licence, "caption", "text2", height=15)
        else:
            self._paint_bar(painter, above.adjusted(0, 5, 0, -6), facts.share)

    def _paint_badge(self, painter: QPainter, badge: tuple[str, str, str], room: float) -> None:
        """Whether it fits; without the number where there is no room for it."""
        said, tone, mark = badge
        metrics = painter.fontMetrics()
        if metrics.horizontalAdvance(said) + 36 > room:
            said = said.partition(" · ")[0]
        wide = metrics.horizontalAdvance(said) + 36
        pill = QRectF(_SIDE, self.height() - _SIDE - 20, wide, 20)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.tokens.color(_SOFT[tone]))
        painter.drawRoundedRect(pill, 10, 10)
        painter.drawPixmap(pill.topLeft() + QPointF(9, 4), pixmap(mark, tone, 12))
        self._line(painter, pill.adjusted(26, 0, 4, 0), said, "caption", tone)

    @staticmethod
    def _paint_bar(painter: QPainter, track: QRectF, share: float) -> None:
        """How far it has come; only its track where that is not known."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.tokens.color("track"))
        painter.drawRoundedRect(track, 2, 2)
        if share > 0:
            painter.setBrush(theme.tokens.color("accent"))
            wide = max(track.height(), track.width() * share)
            painter.drawRoundedRect(QRectF(track.topLeft(), QSizeF(wide, track.height())), 2, 2)

    @staticmethod
    def _line(
        painter: QPainter, room: QRectF, text: str, role: Role, tone: str, height: int = 20
    ) -> None:
        """One line, elided."""
        painter.setFont(font(role))
        if tone:
            painter.setPen(theme.tokens.color(tone))
        wide = int(room.width()) + 1
        said = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, wide)
        box = QRectF(room.left(), room.top(), room.width() + 2, height)
        painter.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, said)


class CardGrid(QWidget):
    """Cards under and beside each other.

    Attributes:
        chosen: a card was pressed. opened: it was double-clicked, or Return pressed on it.
    """

    chosen = Signal(str)
    opened = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self.setAccessibleName("Models")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(_GAP)
        self._columns = 0
        self.cards: dict[str, ModelCard] = {}
        self._shown: list[ModelCard] = []

    def show_cards(self, facts: Sequence[CardFacts], checked: str) -> None:
        """These cards, in this order; those that were there stay the same widgets."""
        wanted = {one.key for one in facts}
        for key in [key for key in self.cards if key not in wanted]:
            card = self.cards.pop(key)
            card.hide()
            card.deleteLater()
        for one in facts:
            if one.key in self.cards:
                self.cards[one.key].say(one)
            else:
                self.cards[one.key] = self._make(one)
            self.cards[one.key].setChecked(one.key == checked)
        self.cards = {one.key: self.cards[one.key] for one in facts}
        self._shown = list(self.cards.values())
        self._arrange()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Three columns where there is room, else two."""
        super().resizeEvent(event)
        if self._wanted() != self._columns:
            self._arrange()

    def _make(self, facts: CardFacts) -> ModelCard:
        card = ModelCard(facts)
        card.clicked.connect(lambda: self.chosen.emit(facts.key))
        card.opened.connect(self.opened)
        card.moved.connect(lambda step: self._go(card, step))
        return card

    def _wanted(self) -> int:
        return 3 if self.width() >= _WIDE else 2

    def _arrange(self) -> None:
        self._columns = self._wanted()
        while self._grid.count():
            self._grid.takeAt(0)
        before: QWidget | None = None
        for at, card in enumerate(self._shown):
            self._grid.addWidget(card, *divmod(at, self._columns))
            card.show()
            if before is not None:
                QWidget.setTabOrder(before, card)
            before = card
        for column in range(3):
            self._grid.setColumnStretch(column, int(column < self._columns))

    def _go(self, card: ModelCard, step: QPoint) -> None:
        at = self._shown.index(card) + step.x() + step.y() * self._columns
        if 0 <= at < len(self._shown):
            self._shown[at].setFocus(Qt.FocusReason.TabFocusReason)
            place = self.parentWidget()
            while place is not None and not isinstance(place, QScrollArea):
                place = place.parentWidget()
            if place is not None:
                place.ensureWidgetVisible(self._shown[at], 0, _GAP)
