"""Marks around what the turns of a conversation say, to find it again in the rendered text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mlx_lora.data.control_tokens import SIGNS
from mlx_lora.data.template import as_object

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from mlx_lora.data.formats import Message

_THOUGHTS = ("reasoning_content", "thinking")


class Place(NamedTuple):
    """A stretch of rendered text that is of a turn, and the number of the mark that ends it."""

    begin: int
    end: int
    mark: int


def agreement(one: str, other: str) -> int:
    """How many characters both begin with."""
    count = min(len(one), len(other))
    return next((at for at in range(count) if one[at] != other[at]), count)


class Marks:
    """Numbered marks for the texts of turns: a pair around each, inside the spaces at its edges."""

    def __init__(self, turns: Sequence[Message], text: str) -> None:
        held = "".join(turn.content for turn in turns)
        free = [sign for sign in SIGNS if sign not in text and sign not in held]
        self._open, self._close = (free + list(SIGNS))[:2]
        self._pattern = re.compile(
            rf"{self._open}(\d+){self._open}|{self._close}(\d+){self._close}"
        )
        self._owners, self._cores = list[int](), list[str]()
        self._plain = turns
        self._marked = [self._mark_turn(at, turn) for at, turn in enumerate(turns)]
        said = zip(self._cores, self._owners, strict=True)
        self._saying = {owner for core, owner in said if core}

    def says(self, at: int) -> bool:
        """Whether there is anything in a turn."""
        return at in self._saying

    def turns(self, marked: Container[int]) -> list[Message]:
        """The conversation with marks in the turns of these numbers."""
        pairs = enumerate(zip(self._plain, self._marked, strict=True))
        return [twin if at in marked else turn for at, (turn, twin) in pairs]

    def read(self, text: str) -> tuple[str, list[list[Place]]]:
        """The text without marks, and where the texts of each turn are in it, in their order.

        A mark that is there twice counts where it is first: templates repeat a function's name. Of
        a pair of which the template has left one out, the other place is where the text agrees.
        """
        pieces, begins, ends = list[str](), dict[int, int](), dict[int, int]()
        last = length = 0
        for mark in self._pattern.finditer(text):
            pieces.append(text[last : mark.start()])
            length += mark.start() - last
            last = mark.end()
            if mark[1]:
                begins.setdefault(int(mark[1]), length)
            else:
                ends.setdefault(int(mark[2]), length)
        plain = "".join([*pieces, text[last:]])
        places: list[list[Place]] = [[] for _ in self._plain]
        for number in {*begins, *ends}:
            place = self._pair(number, plain, begins.get(number), ends.get(number))
            places[self._owners[number]].append(place)
        return plain, [sorted(some) for some in places]

    def _pair(self, number: int, plain: str, begin: int | None, end: int | None) -> Place:
        core = self._cores[number]
        if begin is None and end is not None:  # spaces before it may be the template's
            left = plain[end - agreement(core[::-1], plain[:end][::-1]) : end]
            begin = end - len(left.lstrip())
        begin = begin or 0
        if end is None:
            end = begin + agreement(core, plain[begin:])
        return Place(begin, end, number)

    def _mark_turn(self, at: int, turn: Message) -> Message:
        """Marks in its content, thoughts and calls; never in an answer's empty content."""
        content, extra = turn.content, dict(turn.extra)
        if turn.role != "assistant":
            return msgspec.structs.replace(turn, content=self._mark(at, content))
        for name in _THOUGHTS:
            if isinstance(extra.get(name), str) and extra[name].strip():
                extra[name] = self._mark(at, extra[name])
        if content.strip():
            content = self._mark(at, content)
        if isinstance(calls := extra.get("tool_calls"), list | tuple):
            extra["tool_calls"] = [self._mark_call(at, call) for call in calls]
        return msgspec.structs.replace(turn, content=content, extra=extra)

    def _mark_call(self, at: int, call: Any) -> Any:
        if not isinstance(call, dict):
            return call
        if isinstance(call.get("function"), dict):
            return {**call, "function": self._mark_call(at, call["function"])}
        put = {**call, "arguments": as_object(call["arguments"])} if "arguments" in call else call
        marked = {k: self._mark_all(at, put[k]) for k in ("name", "arguments") if k in put}
        return {**put, **marked}

    def _mark_all(self, at: int, value: Any) -> Any:
        if isinstance(value, str):
            return self._mark(at, value) if value.strip() else value
        if isinstance(value, dict):
            return {key: self._mark_all(at, part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._mark_all(at, part) for part in value]
        return value

    def _mark(self, at: int, text: str) -> str:
        core, number = text.strip(), len(self._owners)
        self._owners.append(at)
        self._cores.append(core)
        begin = len(text) - len(text.lstrip()) if core else len(text)
        behind = begin + len(core)
        opened, closed = f"{self._open}{number}{self._open}", f"{self._close}{number}{self._close}"
        return f"{text[:begin]}{opened}{core}{closed}{text[behind:]}"
