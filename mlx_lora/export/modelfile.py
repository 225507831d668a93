"""The Modelfile with which Ollama takes a GGUF file, its TEMPLATE read off the model's own.

What stands around each turn is read off renderings of the model's jinja template. Where these
pieces do not make other conversations exactly as it does, no TEMPLATE is written, and Ollama falls
back on the jinja template inside the GGUF file.

Ollama gives its template, which is Go's, all system messages as one `.System`, joins turns of one
role, and ends with the user's turn, or with an answer that is to be continued.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

import msgspec

from mlx_lora.data.formats import Message
from mlx_lora.data.render import Renderer
from mlx_lora.data.template import ChatTemplate
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlx_lora.models.tokenizer import Tokenizer

# two days that differ in every part a template could write
_DAYS = ("2001-02-03", "1987-11-25")
# contents no template holds in its own words
_SYSTEM = "~system~"
_TURNS = ("~question 1~", "~answer 1~", "~question 2~", "~answer 2~", "~question 3~")
_BARE = "# no TEMPLATE: Ollama reads the chat template inside the GGUF file"
_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\t"): "\\t"}


class _UnreadableError(Exception):
    """The template has no fixed pieces around its turns."""


class _Pieces(msgspec.Struct, frozen=True):
    """What stands around the contents of a conversation.

    Attributes:
        start: in front of the first turn.
        user, answer: before and behind the content of a turn.
        opening: the generation prompt.
        system: before and behind the system text, or None where the template takes none.
        place: what a system text replaces: `start`, or the opening of the first or last question.
    """

    start: str
    user: tuple[str, str]
    answer: tuple[str, str]
    opening: str
    system: tuple[str, str] | None = None
    place: Literal["start", "first", "last"] = "start"

    def compose(self, turns: Sequence[Message]) -> str:
        """A conversation that ends with the user's turn, opened for the answer."""
        text, around = "".join(t.content for t in turns if t.role == "system"), self.system
        system = f"{around[0]}{text}{around[1]}" if text and around else ""
        chat = [turn for turn in turns if turn.role != "system"]
        folded = {"start": -1, "first": 0, "last": len(chat) - 1}[self.place] if system else -1
        parts = [system if system and self.place == "start" else self.start]
        for at, turn in enumerate(chat):
            before, behind = self.user if turn.role == "user" else self.answer
            parts += [system if at == folded else before, turn.content, behind]
        return "".join([*parts, self.opening])


class _Original:
    """The model's own template: without the start token llama.cpp adds, without the day's date.

    Attributes:
        dates: how the lines begin that are left out because the day is in them.
    """

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self._days = [ChatTemplate(source, tokenizer.special_tokens, day) for day in _DAYS]
        self.bos, self.eos = tokenizer.bos or "", tokenizer.eos or ""
        self._added = self.bos if tokenizer.adds_bos else ""
        special = (text for text in tokenizer.special_texts if text.strip())
        self._fixed = (*special, *_TURNS, _SYSTEM)
        self.dates: dict[str, None] = {}

    def render(self, turns: Sequence[Message], *, opened: bool = True) -> str:
        """A conversation as the template writes it on any day."""
        one, other = (day.render(turns, add_generation_prompt=opened) for day in self._days)
        return (one if one == other else self._undated(one, other)).removeprefix(self._added)

    def _undated(self, one: str, other: str) -> str:
        lines, others = one.splitlines(keepends=True), other.splitlines(keepends=True)
        if len(lines) != len(others):
            raise _UnreadableError
        for line, twin in zip(lines, others, strict=True):
            if line == twin:
                continue
            if any(text in line for text in self._fixed):
                raise _UnreadableError
            same = takewhile(lambda pair: pair[0] == pair[1], zip(line, twin, strict=False))
            self.dates["".join(sign for sign, _ in same)] = None
        return "".join(line for line, twin in zip(lines, others, strict=True) if line == twin)


def modelfile(
    tokenizer: Tokenizer,
    *,
    gguf_name: str,
    adapter_name: str | None = None,
    parameters: Mapping[str, float | int | str] | None = None,
) -> str:
    """The text of a Modelfile for a GGUF file (and an adapter) in the same folder.

    Chat templates are rendered: call it on the main thread. `parameters` have Ollama's names.

    Raises:
        UserError: `bad_template` where the model's chat template is none.
    """
    lines = [f"FROM ./{gguf_name}"]
    if adapter_name:
        lines += ["# legacy: Ollama up to 0.34.0, on the same base", f"ADAPTER ./{adapter_name}"]
    ids = sorted(Renderer(tokenizer, 1).stop_ids)
    stops = [("stop", tokenizer.decode([number], keep_special=True)) for number in ids]
    lines += _template(tokenizer)
    for name, value in (*stops, *(parameters or {}).items()):
        if value != "":
            lines.append(f"PARAMETER {name} {_quoted(value) if isinstance(value, str) else value}")
    return "\n".join(lines) + "\n"


def _template(tokenizer: Tokenizer) -> list[str]:
    """The lines of TEMPLATE, with comments on what it leaves out."""
    if tokenizer.chat_template is None:
        return ['TEMPLATE """{{ .Prompt }}"""']
    original = _Original(tokenizer, tokenizer.chat_template)
    try:
        pieces = _with_system(original, _read(original))
        if all(_agree(original, pieces, turns) for turns in _CHECKS):
            notes = [f"# {note}" for note in _notes(original, pieces)]
            return [*notes, f'TEMPLATE """{_go(pieces)}"""']
    except (_UnreadableError, UserError):
        pass
    return [_BARE]


def _read(original: _Original) -> _Pieces:
    """The pieces of conversations without a system message."""
    first, *between, end = _apart(original.render(_conversation(*_TURNS)), _TURNS)
    if between[:2] != between[2:]:
        raise _UnreadableError
    to_answer, to_user, *_ = between
    ended = _behind(original, 1, opened=False)
    # Phi-3 closes a text that is not to be answered with the end token
    user_end = _closing([ended, ended.removesuffix(original.eos)], to_answer, end)
    answer_start, opening = to_answer.removeprefix(user_end), end.removeprefix(user_end)
    # gpt-oss and others end the last answer of a text in another way than those before it
    reopened = _behind(original, 2, opened=True).removesuffix(opening)
    answer_end = _closing([_behind(original, 2, opened=False), reopened], to_user)
    user_start = to_user.removeprefix(answer_end)
    if original.bos and user_start.startswith(original.bos):
        # Llama 2 starts every question anew: so the first one is like the others
        answer_end, user_start = answer_end + original.bos, user_start.removeprefix(original.bos)
    while user_start and not first.endswith(user_start) and user_start[0].isspace():
        # the space between turns, which the first has not, then belongs to the answer before it
        answer_end, user_start = answer_end + user_start[0], user_start[1:]
    shorter, longer = sorted((answer_start, opening), key=len)
    if not first.endswith(user_start) or not longer.startswith(shorter):
        raise _UnreadableError
    start, answer = first.removesuffix(user_start), (answer_start, answer_end)
    return _Pieces(start, (user_start, user_end), answer, opening)


def _with_system(original: _Original, pieces: _Pieces) -> _Pieces:
    """The pieces with what stands around a system text; unchanged where the template takes none."""
    try:
        text = original.render(_conversation(*_TURNS, system=_SYSTEM))
    except UserError:
        return pieces
    if _SYSTEM not in text:
        return pieces
    place: Literal["start", "first", "last"]
    plain = _apart(original.render(_conversation(*_TURNS)), _TURNS)
    if text.find(_SYSTEM) < text.find(_TURNS[0]):
        before, behind, *others = _apart(text, (_SYSTEM, *_TURNS))
        same, leading, place = others == plain[1:], pieces.start, "first"
        if behind.endswith(pieces.user[0]):
            leading, behind, place = "", behind.removesuffix(pieces.user[0]), "start"
    else:
        *others, before, behind, end = _apart(text, (*_TURNS[:-1], _SYSTEM, _TURNS[-1]))
        same, leading, place = [*others, end] == [*plain[:-2], plain[-1]], pieces.answer[1], "last"
    if not same or not before.startswith(leading):
        raise _UnreadableError
    system = (before.removeprefix(leading), behind)
    return msgspec.structs.replace(pieces, system=system, place=place)


def _apart(text: str, marks: Sequence[str]) -> list[str]:
    """What stands between the marks, each of which must be there once, in this order."""
    pattern = "|".join((_SYSTEM, *_TURNS))
    if re.findall(pattern, text) != list(marks):
        raise _UnreadableError
    return re.split(pattern, text)


def _behind(original: _Original, count: int, *, opened: bool) -> str:
    """What stands behind the last content of so many turns."""
    turns = _TURNS[:count]
    return _apart(original.render(_conversation(*turns), opened=opened), turns)[-1]


def _closing(candidates: Sequence[str], *texts: str) -> str:
    """The first candidate all texts begin with."""
    fitting = [known for known in candidates if all(text.startswith(known) for text in texts)]
    if not fitting:
        raise _UnreadableError
    return fitting[0]


def _conversation(*contents: str, system: str = "") -> list[Message]:
    chat = [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(contents)]
    return [Message("system", system), *chat] if system else chat


_LONG = "Once upon a time there was a miller, and he had three sons.\n" * 12 + "They left."
_CODE = 'def f(x):\n    return {"a": [x, "\\n"]}  # {{ x }} {% y %} <b>&</b>'
_CHECKS = (
    _conversation("Hi"),
    _conversation("What is 2 + 2?\n\nShow your work!"),
    _conversation(_LONG, "Gr\u00fc\u00dfe, \u4e16\u754c \U0001f600", _CODE),
    _conversation("a", _CODE, "1", _LONG, "2", "c", "3", "d?", "e"),
    _conversation("Hi", system="Be terse."),
    _conversation("Who?", "I.", "Why?", system=f"{_LONG}\n\n{_CODE}"),
    _conversation("a", "b", "c", "d", "e", "f", "g", system="\u4f60 are 1 of 2."),
)
_ODD = (
    (_conversation(" a \n"), "spaces around a message stay; the model's own template strips them"),
    (
        _conversation("a", "<think>\nb\n</think>\n\nc", "d"),
        "<think> in an earlier answer stays; the model's own template drops it",
    ),
)


def _agree(original: _Original, pieces: _Pieces, turns: list[Message]) -> bool:
    """Whether the pieces make of a conversation what the original does."""
    known = [turn for turn in turns if pieces.system or turn.role != "system"]
    return pieces.compose(known) == original.render(known)


def _notes(original: _Original, pieces: _Pieces) -> list[str]:
    """What the TEMPLATE does not do as the original does."""
    notes = [f"left out, for it changes with the day: {_go_string(d)}..." for d in original.dates]
    notes += [note for turns, note in _ODD if not _agree(original, pieces, turns)]
    if not pieces.system:
        notes.append("a system message is left out: the model's own template takes none")
    return notes


def _go(pieces: _Pieces) -> str:
    """The Go template; it trims nothing but the ends of its own lines."""
    start, asked = _literal(pieces.start), _literal(pieces.user[0])
    before, behind = map(_literal, pieces.system or ("", ""))
    system, noticed = f"{before}{{{{ $.System }}}}{behind}", ""
    if pieces.place != "start":
        asked = _either(f"and ${pieces.place} $.System", system, asked)
    elif pieces.system:
        start = _either("$.System", system, start)
    if pieces.place == "first":
        start, noticed = start + "{{ $first := true }}", "{{ $first = false }}"
    # the generation prompt may hold more than what opens an answer, or less
    begun = max(pieces.answer[0], pieces.opening, key=len)
    answered = _either("$last", _literal(begun), _literal(pieces.answer[0]))
    answer_end = _either("not $last", _literal(pieces.answer[1]))
    return f"""{start}{{{{ range $i, $_ := .Messages }}}}
{{{{- $last := eq (len (slice $.Messages $i)) 1 }}}}
{{{{- if eq .Role "user" }}}}{asked}{{{{ .Content }}}}{_literal(pieces.user[1])}{noticed}
{{{{- else if eq .Role "assistant" }}}}{answered}{{{{ .Content }}}}{answer_end}
{{{{- end }}}}{_either('and $last (ne .Role "assistant")', _literal(pieces.opening))}
{{{{- end }}}}"""


def _either(condition: str, yes: str, no: str = "") -> str:
    if yes == no:
        return yes
    return f"{{{{ if {condition} }}}}{yes}{f'{{{{ else }}}}{no}' if no else ''}{{{{ end }}}}"


def _literal(text: str) -> str:
    """A text as an action: braces, quotes and line ends in it mean nothing to Go or to Ollama."""
    return f"{{{{ {_go_string(text)} }}}}" if text else ""


def _go_string(text: str) -> str:
    """A text in quotes; Ollama's parser drops characters that cannot be printed."""
    unseen = {ord(sign): f"\\U{ord(sign):08x}" for sign in text if not sign.isprintable()}
    return f'"{text.translate({**unseen, **_ESCAPES})}"'


def _quoted(text: str) -> str:
    """A value of a Modelfile, which knows no escapes."""
    return f'"""{text}"""' if '"' in text or "\n" in text else f'"{text}"'
