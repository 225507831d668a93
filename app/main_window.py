"""The window: sidebar, page, footer. No logic: it asks the pages and passes presses on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDragLeaveEvent, QDropEvent
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.pages.page import Page
from app.steps import KEYS, STEPS
from app.widgets.banner import Banner
from app.widgets.button import Button
from app.widgets.drop import DropVeil
from app.widgets.label import ElidedLabel
from app.widgets.sidebar import Sidebar

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.widgets.stepper import Mark

_MINIMUM, _DEFAULT = (1080, 680), (1280, 800)
# between two pages that are made ahead, ms
_AHEAD = 700


class MainWindow(QMainWindow):
    """Shows one page at a time; pages are made when they are first shown.

    Attributes:
        closing: the person closes the window; whoever listens decides.
        dropped: a file was dropped anywhere.
        shown: a page was shown, by its key.
    """

    closing = Signal(QCloseEvent)
    dropped = Signal(Path)
    shown = Signal(str)

    def __init__(self, make: Callable[[str], Page]) -> None:
        super().__init__()
        self.setWindowTitle("Understudy")
        self.setMinimumSize(*_MINIMUM)
        self.resize(*_DEFAULT)
        self.setAcceptDrops(True)
        self._make, self.pages, self.current = make, dict[str, Page](), ""
        self.sidebar = Sidebar(STEPS, self.go)
        middle, outer = QWidget(), QHBoxLayout()
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        middle.setLayout(outer)
        right = QVBoxLayout()
        right.setSpacing(0)
        self.notice, self._notices = Banner(), QVBoxLayout()
        self._notices.setContentsMargins(0, 0, 0, 0)
        self._notices.addWidget(self.notice)
        right.addLayout(self._notices)
        self._stack = QStackedWidget()
        right.addWidget(self._stack, 1)
        right.addWidget(self._make_footer())
        outer.addWidget(self.sidebar)
        outer.addLayout(right, 1)
        self.setCentralWidget(middle)
        self._veil = DropVeil(middle)

    @property
    def page(self) -> Page:
        """The page that is shown."""
        return self.pages[self.current]

    def page_of(self, key: str) -> Page:
        """A page, made now where it was never shown."""
        if key not in self.pages:
            page = self._make(key)
            self.pages[key] = page
            self._stack.addWidget(page)
            page.changed.connect(lambda: self._tell(page))
            page.leave.connect(self.go)
        return self.pages[key]

    def build_ahead(self, busy: Callable[[], bool]) -> None:
        """Make the pages that were never shown, one at a time, while nothing happens.

        A page takes up to 0.1 s to make: better before training begins, and never beside it.
        """
        timer = QTimer(self, interval=_AHEAD)
        missing = [key for key in ("train", *KEYS) if key not in self.pages]

        def build() -> None:
            if not missing:
                timer.stop()
            elif not busy() and not QApplication.mouseButtons():
                self.page_of(missing.pop(0))

        timer.timeout.connect(build)
        timer.start()

    def go(self, key: str) -> None:
        """Show a page."""
        page = self.page_of(key)
        self.current = key
        self._stack.setCurrentWidget(page)
        for name, step in self.sidebar.stepper.steps.items():
            step.setAutoExclusive(False)
            step.setChecked(name == key)
            step.setAutoExclusive(True)
        page.entered()
        self._tell(page)
        self.shown.emit(key)

    def say_notice(self, title: str, text: str) -> None:
        """Something that holds on every page, and stays."""
        self._notices.setContentsMargins(32, 16, 32, 0)
        self.notice.say(title, text, "bad", closable=False)

    def say_steps(self, marks: dict[str, Mark], summaries: dict[str, str]) -> None:
        """The state of every step."""
        for key, step in self.sidebar.stepper.steps.items():
            step.say(marks[key], summaries.get(key, ""))

    def _tell(self, page: Page) -> None:
        """The footer says what the shown page says."""
        if self.pages.get(self.current) is not page:
            return
        primary = page.primary()
        self.hint.setText(page.hint())
        self.primary.say(primary.text)
        self.primary.setEnabled(primary.enabled)
        self.primary.setVisible(bool(primary.text))
        self.shortcut.say(primary.shortcut)
        self.shortcut.setVisible(bool(primary.shortcut))
        at = KEYS.index(self.current) if self.current in KEYS else -1
        self.back.setVisible(at != 0)

    def _make_footer(self) -> QFrame:
        footer = QFrame()
        footer.setProperty("role", "footer")
        footer.setFixedHeight(55)
        row = QHBoxLayout(footer)
        row.setContentsMargins(32, 0, 32, 0)
        self.hint = ElidedLabel("", "callout", "text2")
        self.back = Button("Back", self._back)
        self.shortcut = Button("", self._act_shortcut)
        self.primary = Button("Continue", self._act, kind="primary")
        row.addWidget(self.hint, 1, Qt.AlignmentFlag.AlignVCenter)
        for button in (self.back, self.shortcut, self.primary):
            row.addWidget(button)
        return footer

    def _act(self) -> None:
        self.page.act()

    def _act_shortcut(self) -> None:
        self.page.act_shortcut()

    def _back(self) -> None:
        """To the step before; from a page beside the steps, to where the project stands."""
        at = KEYS.index(self.current) if self.current in KEYS else 0
        if self.current in KEYS:
            self.go(KEYS[max(0, at - 1)])
        else:
            self.page.leave.emit("")

    def closeEvent(self, event: QCloseEvent) -> None:
        """Whoever listens decides."""
        self.closing.emit(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """A file may be dropped anywhere."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()
            self._veil.cover()

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        """It went elsewhere."""
        self._veil.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        """One file, or one folder."""
        self._veil.hide()
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.dropped.emit(paths[0])
