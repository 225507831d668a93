"""Which column is which field: by the names people give them, or as a person says."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# fields a column can be mapped to, as in `--map prompt=COLUMN`
FIELDS = (
    "text", "prompt", "completion", "system", "messages", "instruction", "input", "output", "tools",
)  # fmt: skip
PROMPTS = ("prompt", "question", "query", "input", "user", "problem", "human", "request")
COMPLETIONS = (
    "completion", "response", "answer", "output", "assistant", "target", "solution", "reply",
)  # fmt: skip
TEXTS = ("text", "content")
SYSTEMS = ("system", "system_prompt")
INPUTS = ("input", "context")
CHATS = ("messages", "conversations", "conversation")
# what a question is asked about, where a column of its own holds it
CONTEXTS = ("context", "passage", "paragraph", "document", "article", "background", "evidence")
# a list of turns, and its beginning where only that is at hand
_TURNS = re.compile(r"""\[\{\s*['"](?:role|from|content|value)['"]""")
_KNOWN = {*FIELDS, *PROMPTS, *COMPLETIONS, *TEXTS, *SYSTEMS, *INPUTS, *CHATS, "chosen", "rejected"}
# names of columns that are shown, and no more of each
_SHOWN, _WIDTH = 12, 40


@functools.lru_cache(maxsize=4096)
def plain_name(name: object) -> str:
    """A column's name as it is compared: small, its words joined by underscores."""
    return re.sub(r"[\s_-]+", "_", str(name).strip().lower())


def is_field(name: str) -> bool:
    """A column of this name is understood."""
    return plain_name(name) in _KNOWN


def find_column(value: dict[str, Any], names: Iterable[str]) -> str | None:
    """The first of these names that the row has, as the row writes it."""
    for name in names:
        if name in value:
            return name
    own = {plain_name(key): key for key in value}
    return next((own[name] for name in names if name in own), None)


def all_columns(value: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Every column of the row that has one of these names."""
    return [key for key in value if plain_name(key) in names]


def one_column(value: dict[str, Any], names: Sequence[str]) -> str:
    """The column that has one of these names: the first name of all, else the only one there is."""
    found = all_columns(value, names)
    exact = [name for name in found if plain_name(name) == names[0]]
    return exact[0] if exact else found[0] if len(found) == 1 else ""


def show_columns(names: Iterable[object]) -> str:
    """The columns of a row in words."""
    shown = [str(name)[:_WIDTH] for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return (", ".join(shown[:_SHOWN]) or "nothing") + more


def nearest_column(name: str, names: Iterable[object]) -> str | None:
    """The column that was likely meant."""
    own = {plain_name(key): str(key) for key in names}
    near = difflib.get_close_matches(plain_name(name), own, n=1)
    return own[near[0]] if near else None


def map_options(columns: dict[str, str]) -> str:
    """A mapping as the command line takes it."""
    return " ".join(
        f"--map {field}={column}" if " " not in column else f'--map {field}="{column}"'
        for field, column in columns.items()
    )


def suggest_columns(names: Sequence[str], example_values: Sequence[object]) -> dict[str, str]:
    """A mapping to begin with, field to column; empty where nothing speaks for one.

    By what the names hold (`user_question`), else by the values: a list of objects is a
    conversation, the two columns with the longest texts are prompt and completion, a single one is
    text. What a question is asked about is its `input`.
    """
    values = dict(zip(names, example_values, strict=False))
    for name, value in values.items():
        if _are_turns(value):
            return {"messages": name}
    values = {
        name: text
        for name, value in values.items()
        if (text := value if isinstance(value, str) else first_answer(value)) is not None
    }
    texts = [name for name in names if name in values]
    context = _holding(texts, CONTEXTS) if len(texts) > 2 else ""  # noqa: PLR2004
    free = [name for name in texts if name != context]
    completion = _holding(free, (*COMPLETIONS, "answers", "chosen"))
    prompt = _holding([name for name in free if name != completion], (*PROMPTS, "instruction"))
    if not (prompt and completion):
        prompt, completion = _longest_two(free, values, prompt, completion)
    found = {"prompt": prompt, "completion": completion}
    if not completion:
        return {"text": prompt} if prompt else {}
    system = _holding([name for name in free if name not in found.values()], ("system",))
    found |= {"input": context, "system": system}
    return {field: name for field, name in found.items() if name}


def first_answer(value: object) -> str | None:
    """The first of a question's answers as SQuAD has them; empty where there is none.

    None where it is something else than `text` and `answer_start`, a list each.
    """
    if not isinstance(value, dict) or value.keys() != {"text", "answer_start"}:
        return None
    texts = value["text"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    return texts[0] if texts else ""


def _are_turns(value: object) -> bool:
    if isinstance(value, str):
        return _TURNS.match(value) is not None
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _holding(names: Sequence[str], words: Sequence[str]) -> str:
    """The first column with one of these words in its name, the words in order."""
    parts = {name: plain_name(name).split("_") for name in names}
    return next((name for word in words for name in names if word in parts[name]), "")


def _longest_two(
    texts: Sequence[str], values: dict[str, Any], prompt: str, completion: str
) -> tuple[str, str]:
    """(prompt, completion) by length, in the order of the columns; the second may be empty."""
    # what has no blank in it is an id, a label or an address
    written = [name for name in texts if " " in values[name].strip()] or list(texts)
    free = [name for name in written if name not in {prompt, completion}]
    free.sort(key=lambda name: len(values[name]), reverse=True)
    if prompt or completion:
        other = free[0] if free else ""
        return (prompt, other) if prompt else (other, completion)
    pair = sorted(free[:2], key=list(values).index)
    return (pair[0], pair[1]) if len(pair) == 2 else (pair[0] if pair else "", "")  # noqa: PLR2004
