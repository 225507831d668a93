"""Mutated rows through reading and formats: nothing but a UserError comes out of them."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora.data.examples import read_examples
from mlx_lora.data.source import Source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": [1]}}}
SEEDS: list[dict[str, Any]] = [
    {"text": "One day, a \u4e16\u754c \U0001f600."},
    {"prompt": "Who?", "completion": "Me.", "system": "s"},
    {"question": "Who?", "answer": "Me.", "id": 4},
    {"instruction": "Do", "input": "this", "output": "Done."},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "content": "2", "tool_call_id": "c"},
            {"role": "assistant", "content": "2.", "reasoning_content": "hm"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    },
    {"prompt": [{"role": "user", "content": "q"}], "completion": "a"},
    {"prompt": "q", "chosen": "a", "rejected": "b"},
]
_VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**400, "", " ", "x" * 3000, "\x00", "\ud800", "\u202e", [], {}, [[]],
    [None], [{}], {"a": {}}, ["a", 1], "[{", '{"name": 1}', [{"role": "user"}], [{"role": 3}],
    [{"from": None, "value": []}], [{"role": "assistant", "tool_calls": {}}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
]  # fmt: skip
_NAMES = [
    "text", "prompt", "completion", "messages", "conversations", "instruction", "output", "input",
    "role", "content", "from", "value", "tools", "system", "tool_calls", "", "Text", "a b",
]  # fmt: skip


def _change(value: Any, draw: random.Random) -> Any:
    """Another value somewhere, another name, something less or twice."""
    if draw.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return draw.choice(_VALUES)
    if isinstance(value, list):
        at = draw.randrange(len(value))
        kind = draw.random()
        rest = value[:at] + value[at + 1 :]
        if kind < 0.2:
            return rest
        return [*rest, value[at]] if kind < 0.4 else [*rest, _change(value[at], draw)]
    name = draw.choice(list(value))
    kind = draw.random()
    if kind < 0.2:
        return {key: item for key, item in value.items() if key != name}
    if kind < 0.45:
        other = draw.choice(_NAMES)
        return {other if key == name else key: item for key, item in value.items()}
    return {**value, name: _change(value[name], draw)}


def _line(draw: random.Random) -> bytes:
    value: Any = draw.choice(SEEDS)
    for _ in range(draw.randrange(4)):
        value = _change(value, draw)
    line = bytearray(json.dumps(value, ensure_ascii=draw.random() < 0.5).encode(errors="replace"))
    for _ in range(draw.choice((0, 0, 1, 3))):
        at, kind = draw.randrange(len(line) + 1), draw.random()
        if kind < 0.4 and at < len(line):
            line[at] ^= 1 << draw.randrange(8)
        elif kind < 0.7:
            line[at:at] = draw.choice(
                (b"{", b"}", b'"', b"\\", b",", b"[", b"\xff", b"\xc3", b"\x00")
            )
        else:
            del line[at : at + draw.randrange(1, 9)]
    return bytes(line).replace(b"\n", b" ").replace(b"\r", b" ")


def _fuzz(path: Path, count: int, seed: int) -> tuple[int, int]:
    """(rows that can be learnt, rows with faults) of so many mutated ones."""
    draw = random.Random(seed)
    content = b"\n".join(_line(draw) for _ in range(count)) + b"\n"
    if draw.random() < 0.95:  # a file that is no text at all is refused before its rows are read
        content = content.decode(errors="replace").replace("\0", "").encode()
    path.write_bytes(content)
    good = bad = 0
    named = draw.choice(({"prompt": "text", "completion": "value"}, {"text": "prompt"}))
    columns = named if draw.random() < 0.2 else {}
    source = Source("fuzz", {"train": (path,)}, columns)
    with contextlib.suppress(UserError):
        for found in read_examples(source):
            good += found.example is not None
            bad += found.fault is not None
            if found.fault is not None:
                assert len(found.fault.line()) < 2000
                assert found.fault.fix
            if found.example is not None:
                repr(found.example).encode()
    return good, bad


def _many(path: Path, count: int, seed: int) -> None:
    good = bad = 0
    for start in range(0, count, 50):
        more, worse = _fuzz(path, 50, seed + start)
        good, bad = good + more, bad + worse
    assert good > 0.1 * count
    assert bad > 0.2 * count
    assert good + bad > 0.7 * count


def test_mutated_rows(tmp_path: Path) -> None:
    _many(tmp_path / "fuzz.jsonl", 20_000, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_thousand_mutated_rows(tmp_path: Path, seed: int) -> None:
    _many(tmp_path / "fuzz.jsonl", 20_000, 1_000_000 * (seed + 1))


@pytest.mark.parametrize("name", ["fuzz.csv", "fuzz.json", "fuzz.tsv"])
def test_other_kinds_of_files(tmp_path: Path, name: str) -> None:
    draw = random.Random(name)
    path = tmp_path / name
    for _ in range(400):
        if name.endswith("json"):
            content = b"[" + b",".join(_line(draw) for _ in range(5)) + b"]"
        else:
            content = b"prompt,completion\n" + b"\n".join(_line(draw) for _ in range(5))
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            for found in read_examples(Source("fuzz", {"train": (path,)})):
                assert found.fault is None or found.fault.fix
