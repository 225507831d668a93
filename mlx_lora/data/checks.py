"""What can be seen in the text of one row, without a model: pure functions of its strings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from mlx_lora.data.formats import Completion, Conversation

if TYPE_CHECKING:
    from mlx_lora.data.formats import Example

# all of C0 and C1 but tab and line ends; marks of direction, zero-width signs, a byte-order mark
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
# a byte inside a character of UTF-8 (0x80 to 0xBF) as Windows-1252 and as Latin-1 read it
_INSIDE = "".join(
    sorted(
        {
            bytes([n]).decode(code, "ignore")
            for n in range(0x80, 0xC0)
            for code in ("cp1252", "latin-1")
        }
    )
)
# UTF-8 that was read so, and the sign for what could not be read
GARBLED = re.compile(
    f"\ufffd|[\u00c2-\u00c5][{re.escape(_INSIDE)}]|\u00e2[\u20ac\u0080][{re.escape(_INSIDE)}]"
)
EMAIL = re.compile(
    r"\b[\w.+-]{1,64}@[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b"
)
# +49 30 1234567, (555) 123-4567, 555-123-4567: with country, area or groups, no plain number
PHONE = re.compile(
    r"(?<![\w.,-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
)
KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_[A-Za-z0-9_]{40,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|glpat-[A-Za-z0-9_-]{20}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?i:\b(?:password|passwd|api[_-]?key|secret)\b\s*[:=]\s*[\"']?(?=\S*\d)[^\s\"',;]{8,})"
)
_KEY_SIGNS = (
    "sk-", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "akia", "aiza", "xox",
    "glpat-", "eyj", "private key", "passw", "api_key", "api-key", "apikey", "secret",
)  # fmt: skip
# answers of which such a share is JSON are meant to be JSON
_MOSTLY, _ENOUGH = 0.8, 5


def texts_of(example: Example) -> tuple[str, ...]:
    """Every text of an example."""
    if isinstance(example, Completion):
        return (example.system, example.prompt, example.completion)
    if isinstance(example, Conversation):
        return tuple(message.content for message in example.messages)
    return (example.text,)


def answer_of(example: Example) -> str | None:
    """The answer that is learnt, the last of a conversation; None for a text."""
    if isinstance(example, Completion):
        return example.completion
    if isinstance(example, Conversation):
        answers = (m.content for m in reversed(example.messages) if m.role == "assistant")
        return next(answers, "")
    return None


def seen_in(text: str) -> list[str]:
    """Codes of what stands in a text: control signs, garbled signs, addresses, numbers, keys."""
    found = []
    if not text.isprintable() and CONTROL.search(text):
        found.append("control_characters")
    if not text.isascii() and GARBLED.search(text):
        found.append("garbled")
    if "@" in text and EMAIL.search(text):
        found.append("email")
    if ("-" in text or "." in text or "+" in text) and PHONE.search(text):
        found.append("phone")
    lowered = text.lower()
    if any(sign in lowered for sign in _KEY_SIGNS) and KEY.search(text):
        found.append("key")
    return found


def is_odd_order(example: Example) -> bool:
    """Whether turns do not go system, user, assistant, ..., assistant, with tools between."""
    if not isinstance(example, Conversation):
        return False
    before = "start"
    after = {
        "start": {"system", "user"}, "system": {"user"}, "user": {"assistant"},
        "assistant": {"user", "tool"}, "tool": {"tool", "assistant"},
    }  # fmt: skip
    for message in example.messages:
        if message.role not in after[before]:
            return True
        before = message.role
    return before != "assistant"


def mostly_json(parse: int, answers: int) -> bool:
    """Whether so many answers are JSON that all are meant to be."""
    return parse >= max(_ENOUGH, _MOSTLY * answers)


def reads_as_json(answer: str) -> bool | None:
    """Whether an answer is JSON; None where it does not look as if it was meant to be."""
    stripped = answer.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    if not stripped.lstrip().startswith(("{", "[")):
        return None
    try:
        msgspec.json.decode(stripped)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
