"""Chat templates: foreign code in jinja's sandbox, with a limit on time and on size.

The time limit is a timer signal, which Python delivers to the main thread only: render there.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from mlx_lora.data.formats import Message

SECONDS, CHARACTERS = 1.0, 1_000_000


class ChatTemplate:
    """A model's chat template.

    Attributes:
        sha256: hash of its source, kept in the adapter so that training and use cannot drift apart.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        self._special_tokens = special_tokens
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols],
            keep_trailing_newline=False,
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = time.strftime
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise _bad(f"it is no valid template ({error})") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The conversation as the model reads it; `add_generation_prompt` opens the next answer.

        Raises:
            UserError: `bad_template` where the template refuses, fails, or passes a limit.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            with _time_limit(SECONDS):
                return self._collect(turns, add_generation_prompt)
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
        ) as error:
            raise _bad(f"it refuses this conversation ({error})") from error
        except RecursionError as error:
            raise _bad("it calls itself without end") from error
        except TimeoutError as error:
            raise _bad(f"it takes longer than {SECONDS:g} s for one row") from error

    def _collect(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
        parts, size = [], 0
        pieces = self._template.generate(
            messages=turns, add_generation_prompt=add_generation_prompt, **self._special_tokens
        )
        for piece in pieces:
            size += len(piece)
            if size > CHARACTERS:
                raise _bad(f"it makes more than {CHARACTERS:,} characters of one row")
            parts.append(piece)
        return "".join(parts)


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


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Plain JSON; jinja's own filter escapes for HTML, which no model was trained on."""
    kept = {key: options[key] for key in ("sort_keys", "separators") if key in options}
    return json.dumps(value, ensure_ascii=False, indent=indent, **kept)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _bad(why: str) -> UserError:
    fix = "check the roles of the conversation, or use prompt + completion rows"
    return UserError("bad_template", "the model's chat template", why, fix)
