"""Conversations of a row: messages as chat templates take them, and ShareGPT's turns made so.

messages       role system, developer, user, assistant or tool; content a text, or a list of parts
conversations  from human, gpt, system, tool, observation or function_call; value a text
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.data.columns import CHATS, COMPLETIONS, PROMPTS, SYSTEMS, find_column, one_column
from mlx_lora.data.rows import bad_row, is_deep, kind_words

if TYPE_CHECKING:
    from mlx_lora.data.rows import Row

Role = Literal["system", "user", "assistant", "tool"]
_ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool",
    "tool_response": "tool",
}  # fmt: skip
_CALLS = {"function_call", "tool_call", "tool_calls"}
# what a template may ask a turn for beside its role and content
_EXTRA = ("tool_calls", "tool_call_id", "name", "reasoning_content", "thinking")


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation.

    Attributes:
        extra: what else a template may ask a turn for: `tool_calls`, `tool_call_id`, `name`,
            `reasoning_content`, `thinking`.
        learnt: an answer that is a target; one with `weight` 0, or in a prompt, is only read.
    """

    role: Role
    content: str
    extra: dict[str, Any] = {}
    learnt: bool = True


class Conversation(msgspec.Struct, frozen=True, tag=True):
    """Turns, of which the assistant's are learnt, but for those that say otherwise."""

    row: int
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


def is_sharegpt(turns: object) -> bool:
    """Whether a list of turns says `from` and `value`."""
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and "from" in first and "role" not in first


def read_conversation(row: Row, view: dict[str, Any]) -> Conversation | None:
    """The conversation of a row, or None where it has no answer.

    Raises:
        UserError: `bad_data`, naming file, row and turn.
    """
    found = _turns(row, view)
    if not isinstance(found, list) or not found:
        raise bad_row(row, f"{find_column(view, CHATS) or 'messages'} is no list of turns")
    turns = [_turn(row, at, turn) for at, turn in enumerate(found, start=1)]
    system = find_column(view, SYSTEMS)
    if system is not None and isinstance(view[system], str) and view[system].strip():
        turns = turns if turns[0].role == "system" else [Message("system", view[system]), *turns]
    answers = (m for m in turns if m.role == "assistant" and m.learnt)
    if not any(m.content.strip() or m.extra for m in answers):
        return None
    return Conversation(
        row.number, tuple(turns), _tools(row, view.get("tools", view.get("functions")))
    )


def _turns(row: Row, view: dict[str, Any]) -> object:
    """The list of turns: of a chat column, or question and answer that are lists of turns."""
    chat = find_column(view, CHATS)
    if chat is None:
        asked, said = (view[one_column(view, names)] for names in (PROMPTS, COMPLETIONS))
        before = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
        after = said if isinstance(said, list) else [{"role": "assistant", "content": said}]
        # an answer inside the question is none to learn
        return [{**t, "weight": 0} if isinstance(t, dict) else t for t in before] + after
    found = view[chat]
    return _decoded(row, chat, found) if isinstance(found, str) and found.strip() else found


def _decoded(row: Row, name: str, text: str) -> object:
    """A list that a table holds as JSON text."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_row(row, f"{name} is no valid JSON ({error})") from error
    if is_deep(found):
        raise bad_row(row, f"{name} is nested too deeply")
    return found


def _turn(row: Row, at: int, turn: object) -> Message:
    if not isinstance(turn, dict):
        why = f"turn {at} is {kind_words(turn)}; a turn needs a role and a content"
        raise bad_row(row, why)
    said = turn.get("role", turn.get("from"))
    name = said.strip().lower() if isinstance(said, str) else ""
    if name in _CALLS:
        return _called(turn.get("content", turn.get("value")))
    role = _ROLES.get(name)
    if role is None:
        known = "system, user, assistant or tool"
        shown = repr(said)[:40] if said is not None else "missing"
        raise bad_row(row, f"the role of turn {at} is {shown}; it must be {known}")
    extra = {key: turn[key] for key in _EXTRA if turn.get(key) not in (None, "", [])}
    if "tool_calls" not in extra and isinstance(turn.get("function_call"), dict):
        extra["tool_calls"] = [turn["function_call"]]  # as OpenAI had it before tools
    if "tool_calls" in extra:
        extra["tool_calls"] = [_call(row, at, call) for call in _calls(row, extra["tool_calls"])]
    key = "content" if "content" in turn or "value" not in turn else "value"
    content = _content(row, at, turn.get(key), missing=key not in turn, extra=extra)
    # OpenAI's `weight`: 0 for an answer that is there to be read only
    return Message(role, content, extra, role != "assistant" or turn.get("weight") != 0)


def _content(row: Row, at: int, content: object, *, missing: bool, extra: dict[str, Any]) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(row, at, part) for part in content)
    if content is None and extra:
        return ""
    what = "missing" if missing else kind_words(content)
    raise bad_row(row, f"the content of turn {at} is {what}, not text")


def _part(row: Row, at: int, part: object) -> str:
    """The text of a part of a content, as OpenAI's interface has them."""
    if isinstance(part, str):
        return part
    if (
        isinstance(part, dict)
        and part.get("type") in {"text", None}
        and isinstance(part.get("text"), str)
    ):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else kind_words(part)
    why = f"the content of turn {at} has a part that is no text ({kind})"
    raise bad_row(row, why, "take pictures and sounds out: only text is learnt")


def _calls(row: Row, calls: object) -> list[object]:
    found = _decoded(row, "tool_calls", calls) if isinstance(calls, str) else calls
    if not isinstance(found, list):
        raise bad_row(row, f"tool_calls is {kind_words(found)}, not a list")
    return found


def _call(row: Row, at: int, call: object) -> dict[str, Any]:
    """A call with its arguments as an object, which is what most templates write out."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad_row(row, f"a tool call of turn {at} names no function")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _decoded(row, "arguments", arguments or "{}")
    if arguments is None:
        arguments = {}
    assert isinstance(call, dict)
    kept = {key: call[key] for key in ("id",) if isinstance(call.get(key), str)}
    return {
        **kept,
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _called(value: object) -> Message:
    """ShareGPT's turn that is a call; what is no JSON is a text of the assistant."""
    if not isinstance(value, str):
        return Message("assistant", "" if value is None else str(value))
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return Message("assistant", value)
    calls = found if isinstance(found, list) else [found]
    named = all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls)
    if not named or is_deep(calls):
        return Message("assistant", value)
    made = [
        {"type": "function", "function": {"name": c["name"], "arguments": c.get("arguments", {})}}
        for c in calls
    ]
    return Message("assistant", "", {"tool_calls": made})


def _tools(row: Row, tools: object) -> tuple[dict[str, Any], ...]:
    found = _decoded(row, "tools", tools) if isinstance(tools, str) and tools.strip() else tools
    if found in (None, "", []):
        return ()
    if not isinstance(found, list):
        raise bad_row(row, "tools is no list of definitions")
    return tuple(_tool(row, tool) for tool in found)


def _tool(row: Row, tool: object) -> dict[str, Any]:
    """A definition as templates expect it: a function in a tool."""
    found = _decoded(row, "tools", tool) if isinstance(tool, str) else tool
    if not isinstance(found, dict):
        raise bad_row(row, "tools is no list of definitions")
    bare = "function" not in found and isinstance(found.get("name"), str)
    return {"type": "function", "function": found} if bare else found
