"""Where the answers are in a rendered conversation, to the character.

The conversation is rendered a second time with marks around every turn's text. Where the template
lets them through, the text without marks is the first rendering, and the marks say where every turn
is. An answer begins where what the template opens it with ends, and ends behind its last token.

Conversations of one shape have one frame: found once, it holds for all whose text is exactly the
frame filled with their turns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.formats import Message
from mlx_lora.data.marks import Marks, Place, agreement
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_lora.data.template import ChatTemplate

Span = tuple[int, int]
_FRAMES = 256
# an answer no template holds in its own words
_PROBE = "~the answer~"


class _Frame(msgspec.Struct, frozen=True):
    """What a template writes around turns of certain roles.

    Attributes:
        parts: the text before each turn, and behind the last.
        answers: (turn, characters before its content, characters behind it) that belong to it.
    """

    parts: list[str]
    answers: list[tuple[int, int, int]]

    def spans(self, turns: Sequence[Message], text: str) -> list[Span] | None:
        """The answers, where the text is this frame filled with these turns."""
        pieces = [piece for pair in zip(self.parts, turns, strict=False) for piece in pair]
        texts = [p if isinstance(p, str) else p.content for p in (*pieces, self.parts[-1])]
        if "".join(texts) != text:
            return None
        ends, at = [], 0
        for piece in texts:
            at += len(piece)
            ends.append(at)
        return [
            (ends[2 * turn] - before, ends[2 * turn + 1] + behind)
            for turn, before, behind in self.answers
            if turns[turn].learnt
        ]


class Answers:
    """Finds the answers of conversations put by one template.

    Attributes:
        turn_ends: the special tokens behind the answers of a small conversation, the last one last;
            None where an answer has none.
    """

    def __init__(self, template: ChatTemplate, special_texts: Sequence[str]) -> None:
        self._template = template
        special = [text for text in special_texts if text.strip()]
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        self.turn_ends = self._turn_ends(special)
        self._closing: re.Pattern[str] | None = None
        self._frames: dict[tuple[str, ...], _Frame | None] = {}
        self._openings: dict[tuple[str, bool], str] = {}

    def close_with(self, ends: set[str]) -> None:
        """The tokens that end a turn."""
        alternatives = "|".join(map(re.escape, sorted(ends, key=len, reverse=True)))
        self._closing = re.compile(rf"\s*(?:{alternatives})") if ends else None

    def find(self, turns: Sequence[Message], tools: Sequence[Any], text: str) -> list[Span]:
        """Where the answers to learn are in `text`, each with the token that ends it.

        Raises:
            UserError: `bad_template` where one is not there.
        """
        plain = not tools and all(not t.extra and t.content == t.content.strip() for t in turns)
        if plain and all(turn.content for turn in turns):
            frame = self._frame(tuple(turn.role for turn in turns))
            spans = frame.spans(turns, text) if frame is not None else None
            if spans is not None:
                return spans
        return _Search(self, turns, tools, text).spans()

    def render(self, turns: Sequence[Message], tools: Sequence[Any], *, opened: bool) -> str | None:
        """A conversation, or None where the template refuses it."""
        try:
            return self._template.render(turns, add_generation_prompt=opened, tools=tools)
        except UserError:
            return None

    def agreed(self, one: str, other: str) -> int:
        """How many characters both begin with, special tokens whole."""
        count = agreement(one, other)
        for text in (one, other):
            for token in self._special.finditer(text):
                if token.start() < count < token.end():
                    count = token.start()
        return count

    def closed(self, text: str, end: int) -> int:
        """Behind the token that ends a turn where it follows `end`, else `end`."""
        closing = self._closing.match(text, end) if self._closing else None
        return closing.end() if closing else end

    def opening(self, turn: Message) -> str | None:
        """What is known to open an answer behind such a turn."""
        return self._openings.get((turn.role, "tool_calls" in turn.extra))

    def learn_opening(self, turn: Message, text: str) -> None:
        """Remember what opens an answer behind such a turn."""
        self._openings.setdefault((turn.role, "tool_calls" in turn.extra), text)

    def _turn_ends(self, special: Sequence[str]) -> list[str | None]:
        turns = (Message("user", "question"), Message("assistant", _PROBE))
        text = self.render((*turns, *turns), (), opened=False)
        if text is None:
            return [None]
        behind = [part.lstrip() for part in text.split(_PROBE)[1:]]
        ends = [next((s for s in special if part.startswith(s)), None) for part in behind]
        return ends or [None]

    def _frame(self, roles: tuple[str, ...]) -> _Frame | None:
        if roles not in self._frames:
            if len(self._frames) >= _FRAMES:
                self._frames.clear()
            self._frames[roles] = self._made(roles)
        return self._frames[roles]

    def _made(self, roles: tuple[str, ...]) -> _Frame | None:
        """The frame of these roles, None where turns are not there once each, in their order."""
        turns = [Message(role, f"~turn {at}~") for at, role in enumerate(roles)]  # type: ignore[arg-type]
        text = self.render(turns, (), opened=False)
        if text is None:
            return None
        parts, rest = list[str](), text
        for turn in turns:
            before, content, rest = rest.partition(turn.content)
            if not content or turn.content in rest:
                return None
            parts.append(before)
        try:
            found = _Search(self, turns, (), text).spans()
        except UserError:
            return None
        asked = [at for at, role in enumerate(roles) if role == "assistant"]
        begins = [text.index(turn.content) for turn in turns]
        answers = [
            (at, begins[at] - begin, end - begins[at] - len(turns[at].content))
            for at, (begin, end) in zip(asked, found, strict=True)
        ]
        return _Frame([*parts, rest], answers)


class _Search:
    """The answers of one conversation."""

    def __init__(
        self, answers: Answers, turns: Sequence[Message], tools: Sequence[Any], text: str
    ) -> None:
        self._answers, self._turns, self._tools, self._text = answers, turns, tools, text
        self._marks = Marks(turns, text)
        self._places = self._placed()

    def spans(self) -> list[Span]:
        """See `Answers.find`."""
        found = []
        for at, turn in enumerate(self._turns):
            if turn.role != "assistant" or not turn.learnt or not self._marks.says(at):
                continue
            stretches = self._stretches(at)
            if not stretches:
                fix = "use another model, or rows of prompt + completion"
                why = "the template leaves an answer out"
                raise UserError("bad_template", "the model's chat template", why, fix)
            for number, place in enumerate(stretches):
                start = place.begin if number else self._start(at, place.begin)
                found.append((start, self._end(at, place)))
        return found

    def _stretches(self, at: int) -> list[Place]:
        """Where a turn is: in one piece, unless the template puts other turns into it.

        Gemma 4 tells what a tool said between the call and the words of the same turn.
        """
        others = [p for n, some in enumerate(self._places) if n != at for p in some]
        joined: list[Place] = []
        for place in self._places[at]:
            last = joined[-1] if joined else None
            if last and not any(last.end <= other.begin < place.begin for other in others):
                joined[-1] = place._replace(begin=last.begin)
            else:
                joined.append(place)
        return joined

    def _placed(self) -> list[list[Place]]:
        """Where every turn is: by all marks at once, else by those of each turn, else by search."""
        everything = range(len(self._turns))
        plain, places = self._read(self._marks.turns(everything), opened=False)
        if plain == self._text:
            return places
        for at in everything:
            plain, alone = self._read(self._marks.turns([at]), opened=False)
            places[at] = alone[at] if plain == self._text else []
        for at in everything:
            places[at] = places[at] or self._searched(at, places)
        return places

    def _read(self, turns: Sequence[Message], *, opened: bool) -> tuple[str, list[list[Place]]]:
        """Marked turns, rendered: the text without marks, and where they are in it."""
        return self._marks.read(self._answers.render(turns, self._tools, opened=opened) or "")

    def _searched(self, at: int, places: list[list[Place]]) -> list[Place]:
        """A turn's text between its neighbours; an answer where the end of a turn follows it."""
        content = self._turns[at].content.strip()
        start = max((p.end for some in places[:at] for p in some), default=0)
        stop = min((p.begin for some in places[at + 1 :] for p in some), default=len(self._text))
        first = found = self._text.find(content, start, stop) if content else -1
        while found >= 0 and self._turns[at].role == "assistant":
            end = found + len(content)
            if self._answers.closed(self._text, end) > end:
                return [Place(found, end, -1)]
            found = self._text.find(content, found + 1, stop)
        return [Place(first, first + len(content), -1)] if first >= 0 else []

    def _start(self, at: int, begin: int) -> int:
        """Where the model goes on by itself: behind what opens the answer, at most `begin`."""
        before = self._places[at - 1][-1:] if at else []
        if not before or before[0].end > begin:
            return begin
        said = self._text[before[0].end : begin].lstrip()
        opening = self._answers.opening(self._turns[at - 1])
        if opening != said:  # there may be more of it, which only this conversation opens
            opening = self._opening(at)
        if not opening:
            return begin
        agreed = self._answers.agreed(opening, said)
        return begin - len(said) + agreed if agreed else begin

    def _opening(self, at: int) -> str:
        """What the template writes to open this turn, from the first that is no space."""
        plain, places = self._read(self._marks.turns(range(at))[:at], opened=True)
        if not places[at - 1]:
            return ""
        opening = plain[places[at - 1][-1].end :].lstrip()
        self._answers.learn_opening(self._turns[at - 1], opening)
        return opening

    def _end(self, at: int, place: Place) -> int:
        """Behind the token that ends the turn; of tool calls, behind all that ends them."""
        end = place.end
        closed = self._answers.closed(self._text, end)
        if closed > end:
            return closed
        plain, places = self._read(self._marks.turns(range(at + 1))[: at + 1], opened=False)
        ending = next((plain[own.end :] for own in places[at] if own.mark == place.mark), "")
        agreed = self._answers.agreed(ending, self._text[end:])
        return end + len(ending[:agreed].rstrip())
