"""Rows to examples, row by row: what a row is, is read off the row itself, never off the first one.

text                                    a text to continue
prompt + completion                     a question and its answer
instruction (+ input) + output          the Alpaca form of the same
messages: [{role, content}, ...]        a conversation
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from mlx_lora.data.reading import Row

Role = Literal["system", "user", "assistant", "tool"]


Form = Literal["document", "text", "completion", "alpaca", "sharegpt", "messages", ""]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation.

    Attributes:
        extra: what else a template may ask a turn for: `tool_calls`, `tool_call_id`, `name`,
            `reasoning_content`, `thinking`.
    """

    role: Role
    content: str
    extra: dict[str, Any] = {}


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


class Conversation(msgspec.Struct, frozen=True, tag=True):
    """Turns, of which the assistant's are learnt."""

    row: int
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


Example = Document | Text | Completion | Conversation


def form_of(value: object, columns: dict[str, str]) -> Form:
    """What a row is by its own fields and the columns a person named; empty where it is unclear."""
    if not isinstance(value, dict):
        return ""
    if "messages" in value:
        return "messages"
    if "prompt" in value and "completion" in value:
        return "completion"
    if "instruction" in value and "output" in value:
        return "alpaca"
    return "text" if "text" in value else ""


def read_example(row: Row, form: str, columns: dict[str, str]) -> Example | None:
    """What a row of a form holds, or None where it is empty (no text, or no answer).

    Raises:
        UserError: `bad_data`, naming file and row.
    """
    value, file = row.value, row.file
    if form == "document":
        return Document(row.number, value)
    if not isinstance(value, dict):
        raise _bad(file, row, f"it is {_kind(value)}, not an object with named fields")
    if form == "messages":
        return _conversation(value["messages"], file, row)
    if form == "completion":
        prompt, completion = (_string(value, name, file, row) for name in ("prompt", "completion"))
        return Completion(row.number, prompt, completion) if completion.strip() else None
    if form == "alpaca":
        return _alpaca(value, file, row)
    if form == "text":
        text = _string(value, "text", file, row)
        return Text(row.number, text) if text.strip() else None
    found = ", ".join(map(str, value)) or "nothing"
    why = f"it has {found}; it needs text, prompt + completion, instruction + output, or messages"
    raise _bad(file, row, why)


def _alpaca(value: dict[str, Any], file: str, row: Row) -> Completion | None:
    instruction, output = (_string(value, name, file, row) for name in ("instruction", "output"))
    more = _string(value, "input", file, row) if value.get("input") is not None else ""
    prompt = f"{instruction}\n\n{more}" if more.strip() else instruction
    return Completion(row.number, prompt, output, instruction=True) if output.strip() else None


def _conversation(value: object, file: str, row: Row) -> Conversation | None:
    if not isinstance(value, list) or not value:
        raise _bad(file, row, "messages is no list of turns")
    turns = []
    for turn in value:
        try:
            turns.append(msgspec.convert(turn, Message))
        except msgspec.ValidationError as error:
            reason = str(error).replace("`", "").replace("$", "a turn")
            raise _bad(file, row, f"a turn needs a role and a content ({reason})") from error
    answers = [turn for turn in turns if turn.role == "assistant" and turn.content.strip()]
    return Conversation(row.number, tuple(turns)) if answers else None


def _string(value: dict[str, Any], name: str, file: str, row: Row) -> str:
    content = value[name]
    if not isinstance(content, str):
        raise _bad(file, row, f"{name} is {_kind(content)}, not text")
    return content


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
    }
    return "empty (null)" if value is None else names.get(type(value), "something else")


def _bad(file: str, row: Row, why: str) -> UserError:
    return UserError("bad_data", f"{file} row {row.number}", why, "correct this row or take it out")
