"""Fixed prompts continued while a model learns: the base beside the adapter, over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QHBoxLayout,
    QPlainTextEdit,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from app.widgets.button import Button
from app.widgets.card import Row
from app.widgets.label import ElidedLabel, Label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Frame(Protocol):
        """One prompt at one step."""

        @property
        def step(self) -> int: ...  # noqa: D102
        @property
        def prompt(self) -> str: ...  # noqa: D102
        @property
        def base(self) -> str: ...  # noqa: D102
        @property
        def text(self) -> str: ...  # noqa: D102


_SLIDER, _SHORT = 140, 72


class FilmStrip(QWidget):
    """One prompt at a time; a slider goes back through the steps, its right end is now.

    Attributes:
        head: prompt and slider, to be placed above by whoever holds this.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Samples while training")
        self._frames: dict[tuple[str, int], Frame] = {}
        self._shown: tuple[int, Frame | None] = (0, None)
        self._at = 0
        self.prompts: list[str] = []
        self.steps: list[int] = []
        self.prompt = ElidedLabel(role="callout", tone="text2")
        self.back = Button(
            "", lambda: self.turn(-1), kind="quiet", icon="back", name="Prompt before"
        )
        self.next = Button("", lambda: self.turn(1), kind="quiet", icon="right", name="Next prompt")
        self.place = Label(role="callout", tone="text2")
        self.slider = _Slider()
        self.slider.setPageStep(1)
        self.slider.setAccessibleName("Step of the samples")
        self.slider.setToolTip("Back to earlier samples")
        self.slider.valueChanged.connect(self._show)
        self.base, self.now = _Pane("Base"), _Pane("Now")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        self.head = Row(self.back, self.place, self.next, self.prompt, self.slider)
        self.empty = ElidedLabel(tone="text2")
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        panes = QHBoxLayout()
        panes.setSpacing(16)
        panes.addWidget(self.base, 1)
        panes.addWidget(self.now, 1)
        column.addLayout(panes, 1)
        column.addWidget(self.empty, 1)
        self.show_frames([])

    def say_empty(self, text: str) -> None:
        """What stands here before the first sample."""
        self.empty.setText(text)

    def show_frames(self, frames: Sequence[Frame]) -> None:
        """Other samples; who looks at an earlier step keeps looking at it."""
        key = (len(frames), frames[-1]) if frames else (0, None)
        if key == self._shown and frames:
            return
        newest = self.slider.value() == self.slider.maximum()
        before = self.step
        self._shown = key
        self._frames = {(frame.prompt, frame.step): frame for frame in frames}
        self.prompts = list(dict.fromkeys(frame.prompt for frame in frames))
        self.steps = sorted({frame.step for frame in frames})
        self._at = min(self._at, max(0, len(self.prompts) - 1))
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, len(self.steps) - 1))
        keep = before is not None and not newest and before in self.steps
        self.slider.setValue(self.steps.index(before) if keep and before else len(self.steps) - 1)
        self.slider.blockSignals(False)
        self._show()

    @property
    def step(self) -> int | None:
        """The step that is looked at."""
        return self.steps[self.slider.value()] if self.steps else None

    def turn(self, by: int) -> None:
        """Another prompt."""
        self._at = min(max(self._at + by, 0), len(self.prompts) - 1)
        self._show()

    def _show(self) -> None:
        some = bool(self._frames)
        self._fill_head(some=some)
        for widget in (self.base, self.now):
            widget.setVisible(some)
        self.empty.setVisible(not some)
        step = self.step
        if step is None:
            return
        prompt = self.prompts[self._at]
        frame = self._frames.get((prompt, step))
        newest = step == self.steps[-1]
        words = f"Now, step {step:,}" if newest else f"Step {step:,}"
        self.slider.setAccessibleDescription(words)
        self.base.say("Base", frame.base if frame else "")
        self.now.say(words, frame.text if frame else "")

    def _fill_head(self, *, some: bool) -> None:
        several = some and len(self.prompts) > 1
        for part in (self.back, self.next, self.place):
            part.setVisible(several)
        self.slider.setVisible(some and len(self.steps) > 1)
        self.back.setEnabled(self._at > 0)
        self.next.setEnabled(self._at < len(self.prompts) - 1)
        self.place.setText(f"{self._at + 1} of {len(self.prompts)}")
        prompt = self.prompts[self._at].strip() if some else ""
        self.prompt.setText(f"“{' ⏎ '.join(prompt.splitlines())}”" if prompt else "")


class _Slider(QSlider):
    """Of one length, shorter where there is no room."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setMinimumWidth(_SHORT)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Long enough to meet every step with the pointer."""
        return QSize(_SLIDER, super().sizeHint().height())


class _Pane(QWidget):
    """A caption over a text that can be read with the keyboard and copied."""

    def __init__(self, title: str) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        self.title = Label(title, "caption", "text2")
        self.title.setContentsMargins(2, 0, 0, 0)  # over the letters, not over the focus ring
        self.text = QPlainTextEdit(readOnly=True)
        self.text.setProperty("role", "plain")
        self.text.setTabChangesFocus(True)
        self.text.document().setDocumentMargin(0)
        self.text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text.setMinimumHeight(36)
        column.addWidget(self.title)
        column.addWidget(self.text, 1)

    def say(self, title: str, text: str) -> None:
        """Another text."""
        self.title.setText(title)
        self.text.setAccessibleName(f"Sample, {title}")
        if self.text.toPlainText() != text.strip():
            self.text.setPlainText(text.strip())
