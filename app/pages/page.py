"""What every page is: a title, one sentence, a banner, a body with its states, a footer's words.

States: `empty` (nothing yet, and how to begin), `loading` (a sign after 150 ms, Cancel after 2 s),
`error` (what happened, is my work safe, one fix), `ready`, `running`, `done`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from app.widgets.banner import Banner
from app.widgets.label import Label
from app.widgets.waiting import WaitingView

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.desk import Desk
    from app.problems import Problem
    from app.widgets.button import Button

State = Literal["empty", "loading", "error", "ready", "running", "done"]
_MARGIN, _SIGN_AFTER, _CANCEL_AFTER = 32, 150, 2000


class Primary(msgspec.Struct, frozen=True):
    """The one button at the bottom right, and a second one where a shortcut makes sense."""

    text: str = "Continue"
    enabled: bool = True
    shortcut: str = ""


class Page(QWidget):
    """One page. Subclasses fill `body` (and may fill `empty`), and tell of themselves.

    Attributes:
        changed: state, hint or primary is another one now.
        leave: go to the page of this key; "" is where the project stands.
        key, title, purpose: of the page; `purpose` is one sentence.
    """

    changed = Signal()
    leave = Signal(str)
    key, title, purpose = "", "", ""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.state: State = "ready"
        self.setProperty("role", "window")
        self.setAccessibleName(self.title)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(_MARGIN, 24, _MARGIN, 20)
        outer.setSpacing(16)
        outer.addLayout(self._make_header())
        self.banner = Banner()
        outer.addWidget(self.banner)
        self._views = QStackedWidget()
        outer.addWidget(self._views, 1)
        self._content, self.body = _area()
        self._empty, self.empty = _area()
        self._waiting = WaitingView()
        for view in (self._content, self._empty, self._waiting):
            self._views.addWidget(view)
        self._sign, self._offer = QTimer(self, singleShot=True), QTimer(self, singleShot=True)
        self._sign.timeout.connect(lambda: self._views.setCurrentWidget(self._waiting))
        self._offer.timeout.connect(self._waiting.offer_cancel)

    # -- what a page says of itself; the window asks after every `changed`

    def hint(self) -> str:
        """What is missing, or true now; for the footer."""
        return ""

    def primary(self) -> Primary:
        """The button at the bottom right."""
        return Primary()

    def act(self) -> None:
        """The primary button was pressed."""

    def act_shortcut(self) -> None:
        """The second button was pressed."""

    def entered(self) -> None:
        """The page is shown."""

    # -- states

    def show_state(self, state: State) -> None:
        """Show the body, or how to begin."""
        self._stop_waiting()
        self.state = state
        self._views.setCurrentWidget(self._empty if state == "empty" else self._content)
        if state != "error":
            self.banner.clear()
        self.changed.emit()

    def show_loading(self, text: str, cancel: Callable[[], object] | None = None) -> None:
        """Say that something takes a moment; with a way out where it takes longer."""
        self.state = "loading"
        self.banner.clear()
        self._waiting.say(text, cancel)
        self._sign.start(_SIGN_AFTER)
        if cancel is not None:
            self._offer.start(_CANCEL_AFTER)
        self.changed.emit()

    def say_loading(self, text: str, done: int = 0, total: int = 0) -> None:
        """How far it is."""
        self._waiting.progress(text, done, total)

    def show_error(
        self,
        problem: Problem,
        fix: tuple[str, Callable[[], object]] | None = None,
        *,
        empty: bool = False,
    ) -> None:
        """Say what happened, above the body or, where there is none, above how to begin."""
        self._stop_waiting()
        self.state = "error"
        self._views.setCurrentWidget(self._empty if empty else self._content)
        self.banner.show_problem(problem, fix)
        self.changed.emit()

    def add_action(self, button: Button) -> Button:
        """A button at the right of the title."""
        self._actions.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)
        return button

    def _make_header(self) -> QHBoxLayout:
        header, words, self._actions = QHBoxLayout(), QVBoxLayout(), QHBoxLayout()
        self._actions.setSpacing(8)
        words.setSpacing(2)
        self.heading = Label(self.title, "display")
        self.sentence = Label(self.purpose, tone="text2")
        words.addWidget(self.heading)
        words.addWidget(self.sentence)
        header.addLayout(words, 1)
        header.addLayout(self._actions)
        return header

    def _stop_waiting(self) -> None:
        self._sign.stop()
        self._offer.stop()


def _area() -> tuple[QScrollArea, QVBoxLayout]:
    """A view that scrolls where the window is too low, and the layout of what it holds."""
    area, inner = QScrollArea(), QWidget()
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    inner.setProperty("role", "page")
    layout = QVBoxLayout(inner)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(16)
    area.setWidget(inner)
    return area, layout
