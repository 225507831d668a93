"""Where the answers of a conversation are, found the slow way, by code that shares none with ours.

Only transformers' way to render (jinja, set up anew here) is used, no marks, no search for content:

- What is the assistant's in turn i is what changes when turn i changes. The conversation is
  rendered once more for each text of the turn with that text replaced by one that shares nothing
  with it; outside the longest common prefix and suffix lies the text.
- An answer begins where the conversation up to it, opened for the next answer, stops agreeing with
  the whole, judged by pieces: a special token is one piece, every other character is one.
- It ends with the first end of turn that the conversation up to and including it has behind the
  text; the spaces behind that are the template's.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import json
import re
from typing import Any, NamedTuple

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

# nothing a conversation here begins or ends with
FOREIGN = ("\u06de0\u06de", "\u0bf51\u0bf5")


class _Place(NamedTuple):
    """Where a text of a turn is, and the path to it in the turn."""

    begin: int
    end: int
    path: tuple[Any, ...]


class Reference:
    """The template of a model, and the tokens it has."""

    def __init__(self, source: str, names: dict[str, str], special: list[str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(
            value, ensure_ascii=False, indent=indent
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = datetime.date(2026, 1, 1).strftime
        self._template = environment.from_string(source)
        self._names = names
        self._pieces = re.compile("|".join([*map(re.escape, special), "(?s:.)"]))
        self._special = set(special)

    def text(
        self, turns: list[dict[str, Any]], tools: list[Any] | None, *, opened: bool = False
    ) -> str:
        """The rendered conversation; a thought has both names, as transformers has it."""
        thoughts = [t.get("reasoning_content", t.get("thinking")) for t in turns]
        turns = [
            turn if thought is None else {**turn, "reasoning_content": thought, "thinking": thought}
            for turn, thought in zip(turns, thoughts, strict=True)
        ]
        return self._template.render(
            messages=turns, tools=tools, documents=None, add_generation_prompt=opened, **self._names
        )

    def spans(self, turns: list[dict[str, Any]], tools: list[Any] | None) -> list[tuple[int, int]]:
        """The answers, each with what ends it."""
        whole = self.text(turns, tools)
        heard = [at for at, turn in enumerate(turns) if turn["role"] == "tool"]
        told = [place for at in heard for place in self._places(turns, tools, at)]
        found = []
        for at, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            parts: list[list[_Place]] = []
            for place in self._places(turns, tools, at):
                apart = parts and any(parts[-1][-1].end <= t.begin < place.begin for t in told)
                if parts and not apart:
                    parts[-1].append(place)
                else:
                    parts.append([place])
            for number, part in enumerate(parts):
                said = part[0].begin
                begin = said if number else self._begin(turns, tools, at, whole, said)
                found.append((begin, self._end(turns, tools, at, whole, part[-1])))
        return found

    def _places(
        self, turns: list[dict[str, Any]], tools: list[Any] | None, at: int, *, opened: bool = False
    ) -> list[_Place]:
        """Where the texts of a turn are, in their order: what changes where one is replaced."""
        whole = self.text(turns, tools, opened=opened)
        places = []
        for path in _texts(turns[at]):
            for part, foreign in itertools.product((False, True), FOREIGN):
                other = copy.deepcopy(turns)
                old = _put(other[at], path, foreign, last_line=part)
                try:
                    text = self.text(other, tools, opened=opened)
                except jinja2.TemplateError:
                    continue
                first = _common(text, whole)
                if turns[at]["role"] == "assistant" and not old.strip():
                    continue  # nothing is said, so nothing is learnt
                if text == whole or not text[first:].startswith(foreign):
                    continue  # it is left out, or more than its own place depends on it
                end = len(whole) - _common_end(text[first + len(foreign) :], whole[first:])
                if path[0] == "tool_calls":  # a function's name may be told again later
                    end = min(end, first + len(json.dumps(old, ensure_ascii=False)) - 2)
                places.append(_Place(first, end, path))
                break
        return sorted(places)

    def _begin(
        self, turns: list[dict[str, Any]], tools: list[Any] | None, at: int, whole: str, said: int
    ) -> int:
        """Behind what opens the answer, told from behind the turn before."""
        if at == 0:
            return said
        here = self._places(turns, tools, at - 1)
        there = self._places(turns[:at], tools, at - 1, opened=True)
        if not here or not there or here[-1].end > said:
            return said
        opened = self.text(turns[:at], tools, opened=True)[there[-1].end :].lstrip()
        rest = whole[here[-1].end : said].lstrip()
        agreed = self._agreed(opened, rest)
        return said - len(rest) + agreed if agreed else said

    def _end(
        self,
        turns: list[dict[str, Any]],
        tools: list[Any] | None,
        at: int,
        whole: str,
        last: _Place,
    ) -> int:
        """Behind the special token that ends the turn; of a call, behind all that ends the call."""
        rest = whole[last.end :]
        token = self._pieces.match(rest, len(rest) - len(rest.lstrip()))
        if token and token[0] in self._special and last.path[0] != "tool_calls":
            return last.end + token.end()
        alone = self.text(turns[: at + 1], tools)
        (own,) = (p for p in self._places(turns[: at + 1], tools, at) if p.path == last.path)
        return last.end + len(rest[: self._agreed(alone[own.end :], rest)].rstrip())

    def _agreed(self, one: str, other: str) -> int:
        count = 0
        for a, b in zip(self._pieces.findall(one), self._pieces.findall(other), strict=False):
            if a != b:
                break
            count += len(a)
        return count


def _texts(turn: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Paths to everything a turn says."""
    paths: list[tuple[Any, ...]] = [("content",)]
    paths += [(name,) for name in ("reasoning_content", "thinking") if name in turn]
    for number, call in enumerate(turn.get("tool_calls", ())):
        base = ("tool_calls", number, "function")
        paths.append((*base, "name"))
        arguments = call["function"]["arguments"]
        paths += [(*base, "arguments", key) for key, v in arguments.items() if isinstance(v, str)]
    return paths


def _put(turn: dict[str, Any], path: tuple[Any, ...], text: str, *, last_line: bool) -> str:
    """Replace what a path leads to, or its last line; returns what was there."""
    for step in path[:-1]:
        turn = turn[step]
    old = str(turn[path[-1]])
    kept = old.rstrip().rpartition("\n") if last_line else ("", "", "")
    turn[path[-1]] = kept[0] + kept[1] + text
    return old


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _common_end(one: str, other: str) -> int:
    return _common(one[::-1], other[::-1])


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
