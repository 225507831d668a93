"""Rows to examples, row by row: what a row is, is read off the row itself, never off the first one.

text                                    a text to continue
prompt + completion                     a question and its answer, by these or their usual names
instruction (+ input) + output          the Alpaca form of the same
conversations: [{from, value}, ...]     a conversation, as ShareGPT has it
messages: [{role, content}, ...]        a conversation, with tools where there are some
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.data.columns import (
    CHATS,
    COMPLETIONS,
    FIELDS,
    INPUTS,
    PROMPTS,
    SYSTEMS,
    TEXTS,
    all_columns,
    find_column,
    first_answer,
    map_options,
    nearest_column,
    one_column,
    plain_name,
    show_columns,
    suggest_columns,
)
from mlx_lora.data.conversations import Conversation, Message, is_sharegpt, read_conversation
from mlx_lora.data.rows import bad_row, kind_words
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from mlx_lora.data.rows import Row

__all__ = [
    "Completion", "Conversation", "Document", "Example", "Form", "Message", "Text", "form_of",
    "read_example",
]  # fmt: skip

Form = Literal["document", "text", "completion", "alpaca", "sharegpt", "messages", ""]


class Document(msgspec.Struct, frozen=True, tag=True):
    """A whole text file, split into blocks when it is rendered."""

    row: int
    text: str


class Text(msgspec.Struct, frozen=True, tag=True):
    """A text that is one row."""

    row: int
    text: str


class Completion(msgspec.Struct, frozen=True, tag=True):
    """A prompt and the answer to learn; `instruction` marks the Alpaca form."""

    row: int
    prompt: str
    completion: str
    instruction: bool = False
    system: str = ""


Example = Document | Text | Completion | Conversation


def form_of(value: object, columns: dict[str, str]) -> Form:
    """What a row is by its own fields and the columns a person named; empty where it is unclear."""
    if not isinstance(value, dict):
        return ""
    return _form(_filled(mapped(value, columns)))


def read_example(row: Row, form: str, columns: dict[str, str]) -> Example | None:
    """What a row of a form holds, or None where it is empty (no text, or no answer).

    Raises:
        UserError: `bad_data`, naming file and row.
    """
    value = row.value
    if form == "document":
        return Document(row.number, value) if value.strip() else None
    if not isinstance(value, dict):
        raise bad_row(row, f"it is {kind_words(value)}, not an object with named fields")
    _check_columns(row, value, columns)
    view = _filled(mapped(value, columns))
    if form in {"messages", "sharegpt"}:
        return read_conversation(row, view)
    if form == "alpaca":
        return _alpaca(row, view)
    if form == "completion":
        return _completion(row, view)
    if form == "text":
        text = _string(row, view, _named(tuple(view)).text)
        return Text(row.number, text) if text.strip() else None
    raise _unclear(row, view)


def mapped(value: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """A row with its columns under the names of their fields; only those where they are enough."""
    if not columns:
        return value
    view = {field: value.get(column) for field, column in columns.items()}
    if not _form(view):
        taken = set(columns.values())
        view = {**{name: item for name, item in value.items() if name not in taken}, **view}
    return _with_input(view) if "input" in columns else view


def _with_input(view: dict[str, Any]) -> dict[str, Any]:
    """A question whose `input` a person named beside it: what Alpaca's form is for."""
    names = _named(tuple(view))
    if _form(view) != "completion" or plain_name(names.prompt) == "input":
        return view
    alpaca = {names.prompt: "instruction", names.completion: "output"}
    return {alpaca.get(name, name): item for name, item in view.items()}


def _filled(view: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty fields, where it can be told what it is without them."""
    if None not in view.values():
        return view
    filled = {name: item for name, item in view.items() if item is not None}
    return filled if _form(filled) else view


class _Names(msgspec.Struct, frozen=True):
    """The columns of a row by what they are for; empty where there is none, or more than one."""

    chat: str
    instruction: str
    prompt: str
    completion: str
    text: str
    more: str
    system: str
    answers: bool
    rejected: bool


@functools.lru_cache(maxsize=1024)
def _named(names: tuple[str, ...]) -> _Names:
    """Worked out once for all rows with the same columns."""
    view = dict.fromkeys(names)
    return _Names(
        chat=find_column(view, CHATS) or "",
        instruction=find_column(view, ("instruction",)) or "",
        prompt=one_column(view, PROMPTS),
        completion=one_column(view, COMPLETIONS),
        text=one_column(view, TEXTS),
        more=find_column(view, INPUTS) or "",
        system=find_column(view, SYSTEMS) or "",
        answers=bool(all_columns(view, COMPLETIONS)),
        rejected=find_column(view, ("rejected",)) is not None,
    )


def _form(view: dict[str, Any]) -> Form:
    """What a row is by the names of its fields."""
    names = _named(tuple(view))
    pair = bool(names.prompt and names.completion)
    if names.chat:
        return "sharegpt" if is_sharegpt(view[names.chat]) else "messages"
    if names.rejected and not pair:
        return ""
    if names.instruction and names.answers:
        return "alpaca" if names.completion else ""
    if pair:
        turns = _are_turns(view[names.prompt]) or _are_turns(view[names.completion])
        return "messages" if turns else "" if _has_context(view, names) else "completion"
    return "text" if names.text and not names.answers else ""


def _are_turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _has_context(view: dict[str, Any], names: _Names) -> bool:
    """A question that needs more than itself, which nobody said how to put together."""
    if plain_name(names.prompt) == PROMPTS[0] or names.more in {"", names.prompt}:
        return False
    more = view[names.more]
    return isinstance(more, str) and bool(more.strip())


def _completion(row: Row, view: dict[str, Any]) -> Completion | None:
    names = _named(tuple(view))
    prompt, completion = _string(row, view, names.prompt), _string(row, view, names.completion)
    system = _optional(row, view, names.system)
    return Completion(row.number, prompt, completion, system=system) if completion.strip() else None


def _alpaca(row: Row, view: dict[str, Any]) -> Completion | None:
    names = _named(tuple(view))
    instruction = _string(row, view, names.instruction)
    output = _string(row, view, names.completion)
    more, system = _optional(row, view, names.more), _optional(row, view, names.system)
    prompt = f"{instruction}\n\n{more}" if more.strip() else instruction
    return (
        Completion(row.number, prompt, output, instruction=True, system=system)
        if output.strip()
        else None
    )


def _optional(row: Row, view: dict[str, Any], name: str) -> str:
    """The text of a field that need not be there."""
    return _string(row, view, name) if name and view[name] is not None else ""


def _string(row: Row, view: dict[str, Any], name: str) -> str:
    content = view[name]
    if isinstance(content, str):
        return content
    answer = first_answer(content)
    if answer is None:
        raise bad_row(row, f"{name} is {kind_words(content)}, not text")
    return answer


def _check_columns(row: Row, value: dict[str, Any], columns: dict[str, str]) -> None:
    for field, column in columns.items():
        if field not in FIELDS:
            fix = f"choose among {', '.join(FIELDS)}"
            raise UserError("bad_option", f"--map {field}={column}", "there is no such field", fix)
        if column not in value:
            near = nearest_column(column, value)
            hint = f"; did you mean {near}?" if near else ""
            why = f"it has no column {column}, only {show_columns(value)}{hint}"
            raise bad_row(row, why, "name a column that every row has")


def _unclear(row: Row, view: dict[str, Any]) -> UserError:
    """Nothing says which field is which."""
    if find_column(view, ("chosen",)) and find_column(view, ("rejected",)):
        why = "it is a preference row (chosen, rejected), of which only one answer can be learnt"
        return bad_row(row, why, "say which: --map prompt=prompt --map completion=chosen")
    prompts, answers = all_columns(view, PROMPTS), all_columns(view, COMPLETIONS)
    names = _named(tuple(view))
    if names.prompt and names.completion and names.more:
        why = f"what to do with {names.more} is not said, beside {names.prompt}"
        parts = {"instruction": names.prompt, "input": names.more, "output": names.completion}
        return bad_row(row, why, f"put it behind: {map_options(parts)}")
    if names.text and answers:
        why = f"it has a text and an answer: {show_columns(view)}"
        pair = map_options({"prompt": names.text, "completion": answers[0]})
        return bad_row(row, why, f"learn the answer with {pair}, or --map text={names.text}")
    if prompts and answers:
        why = f"more than one field may be the question or the answer: {show_columns(view)}"
        return bad_row(row, why, "say which: --map prompt=COLUMN --map completion=COLUMN")
    why = (
        f"it has {show_columns(view)}; "
        "it needs text, prompt + completion, instruction + output, or messages"
    )
    found = map_options(suggest_columns(list(view), list(view.values())))
    fix = f"say which column is which, as in {found}" if found else ""
    return bad_row(row, why, fix)
