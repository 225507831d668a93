"""Two answers side by side, what tells them apart, and which is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.widgets.stream_pane import StreamPane
from app.widgets.verdict_card import TruthCard, VerdictCard
from app.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.models.exchange import Exchange, Spoken
    from app.models.talk import Piece
    from app.widgets.word_diff import Span

    Both = tuple[list[Span], list[Span]]
    Diff = Callable[[str, str, Callable[[Both], None]], object]

_NOTE = (
    "Tokens a second, and seconds until the first one: this side's own computing. The two take "
    "turns, token by token."
)
_NOTHING = "The answer is empty: it ended before its first word."


class Answers(QWidget):
    """Both panes, the true answer, the verdict.

    Attributes:
        voted: base, adapted or tie was pressed.
        exchange: what is shown, None before the first question.
    """

    voted = Signal(str)

    def __init__(self, diff: Diff) -> None:
        super().__init__()
        self.setProperty("role", "clear")
        self._diff = diff
        self.exchange: Exchange | None = None
        self.base = StreamPane("Base", lambda: self.voted.emit("base"))
        self.adapted = StreamPane("Adapted", lambda: self.voted.emit("adapted"))
        self.truth = TruthCard()
        self.verdict = VerdictCard(lambda: self.voted.emit("tie"), self._mark)
        self._votes = {
            "base": self.base.better, "adapted": self.adapted.better, "tie": self.verdict.tie
        }  # fmt: skip
        column, panes = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(16)
        panes.setSpacing(16)
        for pane in (self.base, self.adapted):
            panes.addWidget(pane, 1)
        column.addLayout(panes, 1)
        column.addWidget(self.truth)
        column.addWidget(self.verdict)
        self.clear()

    def clear(self) -> None:
        """Nothing was asked yet."""
        self.exchange = None
        self.base.clear("What the model says without your adapter comes here.")
        self.adapted.clear("What it says with your adapter comes here.")
        self.truth.say("")
        self._can_judge()

    def begin(self, exchange: Exchange) -> None:
        """A question was asked: both answers are awaited."""
        self.exchange = None
        for pane in (self.base, self.adapted):
            pane.clear("")
        self.truth.say(exchange.truth)
        self._can_judge()

    def say_loading(self) -> None:
        """The model is not in memory yet."""
        for pane in (self.base, self.adapted):
            pane.say("Loading the model…", "accent")

    def say_writing(self) -> None:
        """Both read the prompt or write."""
        for pane in (self.base, self.adapted):
            pane.say("Writing…", "accent")

    def stream(self, piece: Piece) -> None:
        """More of both."""
        for pane, text, tokens in zip(
            (self.base, self.adapted), (piece.base, piece.adapted), piece.tokens, strict=True
        ):
            pane.add(text)
            pane.say_facts(plural(tokens, "token"))

    def present(self, exchange: Exchange) -> None:
        """A complete question and its answers."""
        self.exchange = exchange
        _show(self.base, exchange.base, exchange.sampling.max_tokens)
        _show(self.adapted, exchange.adapted, exchange.sampling.max_tokens)
        self.truth.say(exchange.truth)
        self.say_vote(exchange)
        self._mark()

    def say_vote(self, exchange: Exchange) -> None:
        """The same question, judged or not."""
        self.exchange = exchange
        self._can_judge()

    def _can_judge(self) -> None:
        exchange = self.exchange
        voices = (exchange.base, exchange.adapted) if exchange else ()
        both = bool(voices) and all(voice.stop not in {"", "failed"} for voice in voices)
        better = exchange.better if exchange else ""
        for key, button in self._votes.items():
            button.setEnabled(both)
            chosen = both and key == better
            button.setChecked(chosen)
            button.set_icon("check" if chosen else "")
        for pane in (self.base, self.adapted):
            pane.copy.setEnabled(bool(pane.text))
        self.verdict.differences.setEnabled(both)

    def _mark(self) -> None:
        """Marks on the words that are not shared, or none."""
        exchange, wanted = self.exchange, self.verdict.differences.isChecked()
        self.verdict.differences.say("Hide Differences" if wanted else "Show Differences")
        if exchange is None or not self.verdict.differences.isEnabled():
            return
        if not wanted:
            self.base.mark([])
            self.adapted.mark([])
            return
        self._diff(
            exchange.base.text, exchange.adapted.text, lambda both: self._marked(exchange, both)
        )

    def _marked(self, exchange: Exchange, both: Both) -> None:
        """The words are compared: unless something else is shown by now."""
        if self.exchange is not None and self.exchange.base is exchange.base:
            self.base.mark(both[0])
            self.adapted.mark(both[1])


def _show(pane: StreamPane, said: Spoken, limit: int) -> None:
    """A complete answer, or why there is none."""
    failed = said.stop == "failed"
    pane.show_text(said.text, _why(said) if failed else _NOTHING)
    pane.say(*_end(said, limit))
    facts = plural(said.tokens, "token")
    if said.seconds:
        facts += (
            f" · {said.tokens_per_second:,.1f} tok/s · first in {said.first_token_seconds:.2f} s"
        )
    pane.say_facts("" if failed and not said.tokens else facts, _NOTE)


def _end(said: Spoken, limit: int) -> tuple[str, str, str]:
    """How an answer ended: words, tone, icon."""
    if said.stop == "length":
        whole = said.tokens >= limit
        words = f"Cut at {limit:,} tokens" if whole else "Cut at the model’s limit"
        return words, "plain", "stop"
    ends = {
        "stop": ("Ended by itself", "ok", "check"),
        "stopped": ("Stopped", "plain", "stop"),
        "failed": ("Failed", "bad", "warn"),
    }
    return ends[said.stop]


def _why(said: Spoken) -> str:
    """What was wrong with one side, in words."""
    why, fix = (said.error.get(name, "") for name in ("why", "fix"))
    parts = [part[:1].upper() + part[1:].rstrip(".") + "." for part in (why, fix) if part]
    return " ".join(["There is no answer.", *parts])
