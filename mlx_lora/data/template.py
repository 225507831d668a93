"""Chat templates: foreign code in jinja's sandbox, with a limit on time and on size.

The time limit is a timer signal, which Python delivers to the main thread only: render there.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import re
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from jinja2.parser import Parser

    from mlx_lora.data.formats import Message

SECONDS, CHARACTERS = 1.0, 1_000_000
_BITS = 10_000
_WIDE = re.compile(r"\d{7}")
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")
_FAULTS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    SyntaxError,
    MemoryError,
)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also makes no giant value in one go: no timer could stop that."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: _guarded(name, filter_) for name, filter_ in self.filters.items()}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operation, unless its result would be giant."""
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_size(left.bit_length() * abs(right), _BITS)
        elif operator == "*" and isinstance(left, int) and isinstance(right, int):
            _check_size(left.bit_length() + right.bit_length(), _BITS)
        elif operator == "*":
            sizes = [n if isinstance(n, int) else len(n) for n in (left, right) if _counts(n)]
            _check_size(sizes[0] * sizes[-1] if len(sizes) > 1 else 0)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """A call, unless it is given a giant number or format."""
        _check_numbers(args, kwargs)
        if getattr(__obj, "__name__", "") in {"format", "format_map"}:
            _check_format(getattr(__obj, "__self__", ""))
        return super().call(__context, __obj, *args, **kwargs)


class _Generation(Extension):
    """`{% generation %}`, by which some templates mark answers: what is in it is written as is."""

    tags = {"generation"}  # noqa: RUF012  (a set, as jinja's own class has it)

    def parse(self, parser: Parser) -> nodes.Node:
        """A scope of its own, as transformers' block is."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class ChatTemplate:
    """A model's chat template.

    `today` (YYYY-MM-DD) is the day a template may write; the real one when empty.

    Attributes:
        sha256: hash of its source, kept in the adapter so that training and use cannot drift apart.
    """

    def __init__(self, source: str, special_tokens: dict[str, str], today: str = "") -> None:
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        self._special_tokens = special_tokens
        environment = _Sandbox(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            keep_trailing_newline=False,
        )
        environment.filters["tojson"] = _guarded("tojson", _to_json)
        environment.globals["raise_exception"] = _raise
        day = datetime.date.fromisoformat(today) if today else datetime.datetime.now().astimezone()
        environment.globals["strftime_now"] = day.strftime
        try:
            with _time_limit(SECONDS):
                self._template = environment.from_string(source)
        except _FAULTS as error:
            raise _bad(f"it is no valid template ({error})") from error
        except (RecursionError, TimeoutError) as error:
            raise _bad("it is no valid template (it is nested too deeply)") from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        tools: Sequence[dict[str, Any]] = (),
    ) -> str:
        """The conversation as the model reads it; `add_generation_prompt` opens the next answer.

        The arguments of tool calls are objects to the template, and JSON where it refuses those.

        Raises:
            UserError: `bad_template` where the template refuses, fails, or passes a limit.
        """
        given: dict[str, Any] = {"tools": list(tools) or None, "documents": None}
        given |= {"add_generation_prompt": add_generation_prompt, **self._special_tokens}
        try:
            return self._render([_turn(m, as_object) for m in messages], given)
        except UserError:
            if not any("tool_calls" in m.extra for m in messages):
                raise
            return self._render([_turn(m, _as_json) for m in messages], given)

    def _render(self, turns: list[dict[str, Any]], given: dict[str, Any]) -> str:
        try:
            with _time_limit(SECONDS):
                return self._collect(turns, given)
        except _FAULTS as error:
            raise _bad(f"it refuses this conversation ({error})") from error
        except RecursionError as error:
            raise _bad("it calls itself without end") from error
        except TimeoutError as error:
            raise _bad(f"it takes longer than {SECONDS:g} s for one row") from error

    def _collect(self, turns: list[dict[str, Any]], given: dict[str, Any]) -> str:
        parts, size = [], 0
        for piece in self._template.generate(messages=turns, **given):
            size += len(piece)
            if size > CHARACTERS:
                raise _bad(f"it makes more than {CHARACTERS:,} characters of one row")
            parts.append(piece)
        return "".join(parts)


def _turn(message: Message, arguments: Callable[[Any], Any]) -> dict[str, Any]:
    """A message as templates know it; `arguments` puts the arguments of tool calls."""
    turn = {"role": message.role, "content": message.content, **message.extra}
    # one thought under the names templates have for it, as transformers gives it
    thought = next((turn[name] for name in _THOUGHTS if turn.get(name) is not None), None)
    if thought is not None:
        turn = {"thinking": thought, **turn, "reasoning_content": thought}
    if isinstance(calls := turn.get("tool_calls"), list | tuple):
        turn["tool_calls"] = [_call(call, arguments) for call in calls]
    return turn


def _call(call: Any, arguments: Callable[[Any], Any]) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"], arguments)}
    return {**call, "arguments": arguments(call["arguments"])} if "arguments" in call else call


def as_object(arguments: Any) -> Any:
    """The arguments of a tool call as most templates want them."""
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _as_json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "chat templates are rendered on the main thread, where a timer can stop them"
        )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _guarded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses giant numbers beside its value."""
    first = 2 if hasattr(filter_, "jinja_pass_arg") else 1

    @functools.wraps(filter_)
    def run(*args: Any, **kwargs: Any) -> Any:
        _check_numbers(args[first:], kwargs)
        if name == "format":
            _check_format(args[0])
        return filter_(*args, **kwargs)

    return run


def _counts(value: object) -> bool:
    return isinstance(value, int | str | list | tuple)


def _check_numbers(args: Sequence[object], kwargs: dict[str, object]) -> None:
    for value in (*args, *kwargs.values()):
        _check_size(value if isinstance(value, int) else 0)


def _check_format(text: object) -> None:
    if _WIDE.search(str(text)) or "*" in str(text):
        _check_size(CHARACTERS + 1)


def _check_size(size: int, limit: int = CHARACTERS) -> None:
    if abs(size) > limit:
        raise SecurityError("it makes a giant value")


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Plain JSON; jinja's own filter escapes for HTML, which no model was trained on."""
    kept = {key: options[key] for key in ("sort_keys", "separators") if key in options}
    return json.dumps(value, ensure_ascii=False, indent=indent, **kept)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _bad(why: str) -> UserError:
    fix = "check the roles of the conversation, or use prompt + completion rows"
    return UserError("bad_template", "the model's chat template", why, fix)
