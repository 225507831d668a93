"""The prompt, how answers to it are drawn, and the button that asks."""

from __future__ import annotations

import random
import sys
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QMenu

from app.widgets.button import Button
from app.widgets.card import Card, Row
from app.widgets.label import Label
from app.widgets.number_pill import NumberPill
from app.widgets.prompt_edit import PromptEdit
from mlx_lora.generation.settings import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# lively enough to tell two voices apart, tame enough to make sense
USUAL = Sampling(max_tokens=200, temperature=0.7, top_p=0.95, seed=1)
HIGHEST_SEED = 99_999
_LINES = 3
_MENU_WORDS = 64


class AskCard(Card):
    """What is asked, and how.

    Attributes:
        asked: Ask was pressed, or Ctrl-Return.
        stopped: Stop was pressed.
        want_rows: a held-out prompt is wanted; `offer_rows` shows them.
        sampling: how answers are drawn, the same for both.
    """

    asked = Signal()
    stopped = Signal()
    want_rows = Signal()

    def __init__(self) -> None:
        super().__init__(spacing=10)
        self.sampling = USUAL
        self.prompt = PromptEdit("Prompt", _LINES)
        self.prompt.setPlaceholderText("Type what both shall answer")
        self.prompt.asked.connect(self._press)
        self.rows = Button(
            "From Held-Out Rows…", self.want_rows.emit, kind="link", icon="text",
            name="Choose a prompt the run never saw",
        )  # fmt: skip
        self.history = Button("Earlier Questions", kind="link", icon="clock")
        self._past, self._held = QMenu(self), QMenu(self)
        self.history.setMenu(self._past)
        self.body.addWidget(Row(Label("Prompt", "strong"), None, self.rows, self.history))
        self.body.addWidget(self.prompt)
        self.pills = self._make_pills()
        self.seed_again = Button(icon="redo", kind="quiet", name="New Seed", act=self._new_seed)
        self.seed_again.setToolTip("New Seed")
        keys = Label("⌘↩" if sys.platform == "darwin" else "Ctrl ↩", "callout", "text2")
        self.ask = Button("Ask", self._press, icon="play")
        settings = Row(*self.pills.values(), self.seed_again, None, keys, self.ask, spacing=6)
        self.body.addWidget(settings)
        self._busy = False
        self._entries: Sequence[tuple[str, str]] = ()
        self.show_sampling(USUAL)

    def show_sampling(self, sampling: Sampling) -> None:
        """Show other settings."""
        self.sampling = sampling
        for name, pill in self.pills.items():
            pill.set_value(getattr(sampling, name))

    def say_state(self, *, can_ask: bool, busy: bool, stop: str = "Stop") -> None:
        """Whether a press asks, stops, or does nothing now."""
        self._busy = busy
        text = stop if busy else "Ask"
        if self.ask.text() != text:
            self.ask.say(text)
            self.ask.set_icon("stop" if busy else "play")
        self.ask.setEnabled(can_ask or busy)
        self.rows.setEnabled(can_ask and not busy)

    def list_past(
        self, entries: Sequence[tuple[str, str]], choose: Callable[[int], object]
    ) -> None:
        """Earlier questions, newest first; `choose` gets the place in `entries`."""
        self.history.setEnabled(bool(entries))
        if entries and entries != self._entries:
            self._entries = entries
            _fill(self._past, entries, choose)

    def offer_rows(
        self, entries: Sequence[tuple[str, str]], choose: Callable[[int], object]
    ) -> None:
        """Let a held-out prompt be chosen; Any of Them is -1."""
        _fill(self._held, entries, choose)
        first = self._held.actions()[0]
        anyone = self._held.addAction("Any of Them")
        anyone.triggered.connect(lambda _=False: choose(-1))
        self._held.insertAction(first, anyone)
        self._held.insertSeparator(first)
        self._held.popup(self.rows.mapToGlobal(self.rows.rect().bottomLeft()))

    def _press(self) -> None:
        if self._busy:
            self.stopped.emit()
        elif self.ask.isEnabled():
            self.asked.emit()

    def _new_seed(self) -> None:
        """Another one than before."""
        seed = random.randrange(HIGHEST_SEED)
        self.show_sampling(
            msgspec.structs.replace(self.sampling, seed=seed + (seed >= self.sampling.seed))
        )

    def _make_pills(self) -> dict[str, NumberPill]:
        def pill(
            name: str, title: str, text: str, low: float, high: float, decimals: int,
            words: Callable[[float], str] = lambda _: "", slides: bool = True,
        ) -> NumberPill:  # fmt: skip
            return NumberPill(
                title, text, limits=(low, high), decimals=decimals, words=words, slides=slides,
                change=partial(self._change, name),
            )  # fmt: skip

        return {
            "temperature": pill(
                "temperature", "Temperature",
                "0 always takes the likeliest word. More is livelier, and wilder.", 0, 2, 2,
            ),
            "max_tokens": pill(
                "max_tokens", "Max", "The longest answer, in tokens (about ¾ of a word each).",
                1, 4096, 0, slides=False,
            ),
            "top_p": pill(
                "top_p", "Top-p",
                "Words are drawn from the likeliest ones that together have this share.",
                0.01, 1, 2, lambda value: "off" if value >= 1 else "",
            ),
            "repetition_penalty": pill(
                "repetition_penalty", "Repeat penalty",
                "Makes words of the last 64 tokens less likely. 1 is off.",
                1, 2, 2, lambda value: "off" if value <= 1 else "",
            ),
            "seed": pill(
                "seed", "Seed", "The same seed gives the same answer. Both sides use it.",
                0, HIGHEST_SEED, 0, slides=False,
            ),
        }  # fmt: skip

    def _change(self, name: str, value: float) -> None:
        whole = name in {"max_tokens", "seed"}
        self.sampling = msgspec.structs.replace(
            self.sampling, **{name: round(value) if whole else value}
        )


def _fill(menu: QMenu, entries: Sequence[tuple[str, str]], choose: Callable[[int], object]) -> None:
    """One action an entry: its first words, the rest as a tooltip."""
    menu.clear()
    menu.setToolTipsVisible(True)
    for at, (text, note) in enumerate(entries):
        line = " ".join(text.split())
        short = line if len(line) <= _MENU_WORDS else f"{line[: _MENU_WORDS - 1].rstrip()}…"
        action = menu.addAction(short.replace("&", "&&") + (f"\t{note}" if note else ""))
        action.setToolTip(line[:600])
        action.triggered.connect(lambda _=False, at=at: choose(at))
