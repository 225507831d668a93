"""Behind a broken row of a JSON array: reading goes on where the next row is sure, else says so."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data import json_window, text_file
from mlx_lora.data.clean import clean
from mlx_lora.data.inspect import inspect
from mlx_lora.data.json_resume import Shape, next_row
from mlx_lora.data.reading import read_rows
from mlx_lora.errors import UserError
from mlx_lora.events import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlx_lora.data.rows import Row


def read(tmp_path: Path, content: str, name: str = "a.json") -> list[Row]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if ".gz" in name else content.encode())
    return list(read_rows(path))


def texts(rows: list[Row]) -> list[Any]:
    return [
        "!" if row.fault else row.value["text"] if isinstance(row.value, dict) else row.value
        for row in rows
    ]


BROKEN = [
    '{"text": "b" x}', '{"text": }', '{"text": "b",}', '{"text": NaN}', '{"text": "b"',
    "{'text': 'b'}", '{"text": "he said "hi" there"}', '{"text": "5" wide"}', '{"text": "b}',
    '{"text": "b", "n": {"m": [1, 2}}', '{"text": "b\nb"}', '{"text": "\\ud800"}',
    '{"text": "b", "n": 1e999}', '"text": "b"}', '{"text": "}, {" x}',
    '{"text": ' + "[" * 200 + "]" * 200 + "}",
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("form", ["[{}]", '{{"version": 1, "data": [{}], "by": "x"}}'])
@pytest.mark.parametrize("between", [", ", ",", ",\n"])
def test_the_rows_behind_a_broken_one_are_read(
    tmp_path: Path, broken: str, form: str, between: str
) -> None:
    good = [json.dumps({"text": sign}) for sign in "acde"]
    content = form.format(between.join([good[0], broken, *good[1:]]))
    if form != "[{}]":
        # an object that is read whole needs no reading row by row
        content = content.replace('"version"', f'"notes": "{"n" * (1 << 20)}", "version"')
    rows = read(tmp_path, content)
    found = texts(rows)
    # a field whose brace is missing reads as a text that is no row, and the fault behind it
    found = [sign for sign in found if sign in {"a", "c", "d", "e", "!"}]
    assert [sign for sign in found if sign != "!"] == ["a", "c", "d", "e"]
    assert found[1] == "!"
    assert not any(row.unread for row in rows)


@pytest.mark.parametrize("broken", [one for one in BROKEN if one.startswith("{")])
def test_a_broken_row_at_the_end_is_the_last(tmp_path: Path, broken: str) -> None:
    rows = read(tmp_path, f'[{{"text": "a"}}, {broken}]')
    assert texts(rows)[0] == "a"
    assert texts(rows)[-1] == "!"
    assert not any(row.unread for row in rows) or broken.count("}") == 0


@pytest.mark.parametrize("broken", ['{"text": "b" x}', '{"text": "5" wide"}'])
def test_a_broken_row_at_the_beginning_hides_no_other(tmp_path: Path, broken: str) -> None:
    assert texts(read(tmp_path, f'[{broken}, {{"text": "a"}}, {{"text": "b"}}]')) == ["!", "a", "b"]


@pytest.mark.parametrize("turns", [2, 3, 5])
@pytest.mark.parametrize("quote", ['"', ""])
def test_objects_inside_a_broken_row_are_no_rows(tmp_path: Path, turns: int, quote: str) -> None:
    said = ", ".join(['{"role": "user", "text": "b"}'] * turns)
    bad = f'{{"messages": [{{"role": "user", "text": "5{quote} wide"}}, {said}] x, "n": 1}}'
    good = '{"messages": [{"role": "user", "text": "a"}, {"role": "assistant"}], "n": 2}'
    rows = read(tmp_path, f"[{good}, {bad}, {good}, {good}]")
    assert [row.fault is None for row in rows] == [True, False, True, True]
    assert [row.value["n"] for row in rows if row.fault is None] == [2, 2, 2]


def test_a_missing_or_needless_comma_is_named_and_costs_no_row(tmp_path: Path) -> None:
    rows = read(tmp_path, '[{"text": "a"} {"text": "b"}, {"text": "c"},]')
    assert texts(rows) == ["a", "!", "b", "c", "!"]
    places = [row.fault.where.rpartition("a.json")[2] for row in rows if row.fault]
    assert places == [":1:16", ":1:45"]


def test_objects_one_after_the_other_go_on_at_the_next_line_that_begins_one(tmp_path: Path) -> None:
    objects = [json.dumps({"text": sign}, indent=1) for sign in "abc"]
    rows = read(tmp_path, "\n".join([objects[0], objects[1].replace('"b"', ""), objects[2]]))
    assert texts(rows) == ["a", "!", "c"]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("end", ["", "\r\n"])
def test_what_is_not_read_is_measured(tmp_path: Path, name: str, end: str) -> None:
    good = f'[{{"text": "\u4e16"}},{end} '
    lost = f'x{{"title": "b"}},{end}  {{"body": "c"}}]{end}'
    rows = read(tmp_path, good + lost, name)
    assert texts(rows) == ["\u4e16", "!"]
    last, size = rows[-1], (tmp_path / name).stat().st_size
    assert last.fault is not None
    if name == "a.json":
        assert last.unread == len(lost.encode())
    assert 0 < last.unread < size
    words = f"nothing behind it was read: about {last.unread:,} bytes, {last.unread / size:.1%} of"
    assert words in last.fault.why


def test_an_array_that_is_cut_off_leaves_nothing_unread(tmp_path: Path) -> None:
    for cut in (
        '[{"text": "a"}, {"text": "b',
        '[{"text": "a"}, {"text": ',
        '[{"text": "a"}',
        "[1,",
    ):
        last = read(tmp_path, cut)[-1]
        assert last.fault is not None
        assert last.unread == 0
        assert "was read" not in last.fault.why


def test_a_file_of_which_no_row_is_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no valid JSON"):
        read(tmp_path, "[x, y]")


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_pieces_an_array_is_read_in_change_nothing(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[object]:
        said = []
        for broken in BROKEN:
            rows = read(tmp_path, f'[{{"text": "a"}}, {broken}, {{"text": "c"}}, {{"text": "d"}}]')
            said += [
                (row.number, row.line, row.value, row.fault and row.fault.line()) for row in rows
            ]
        return said

    wanted = told()
    for module in (text_file, json_window):
        monkeypatch.setattr(module, "CHUNK", chunk)
    assert told() == wanted


def _flat(draw: random.Random, text: Callable[[], str], at: int) -> dict[str, Any]:
    fields = {"prompt": text(), "completion": text(), "n": at}
    return fields if draw.randrange(4) else {**fields, "source": text()}


def _chat(draw: random.Random, text: Callable[[], str], at: int) -> dict[str, Any]:
    turns = [{"role": role, "content": text()} for role in ("user", "assistant")]
    return {"messages": turns * draw.randrange(1, 3), "n": at}


@pytest.mark.parametrize("make", [_flat, _chat])
@pytest.mark.parametrize("signs", ["abc de, ", 'ab"{},[]:\\ '])
def test_one_sign_wrong_costs_little_and_makes_no_row_up(
    tmp_path: Path, make: Callable[..., dict[str, Any]], signs: str
) -> None:
    """Arrays on one line with a sign taken out, put in or exchanged anywhere in one row."""
    draw, lost, total = random.Random(5), 0, 0
    path = tmp_path / "a.json"
    for _ in range(400):
        rows = [
            make(draw, lambda: "".join(draw.choices(signs, k=draw.randrange(20))), at)
            for at in range(draw.randrange(3, 9))
        ]
        parts, bad = [json.dumps(row) for row in rows], draw.randrange(len(rows))
        at, sign = draw.randrange(len(parts[bad])), draw.choice('"{}[],:x')
        kept = parts[bad][at + draw.randrange(2) :]
        parts[bad] = parts[bad][:at] + draw.choice(["", sign]) + kept
        path.write_text(f"[{', '.join(parts)}]")
        try:
            found = [row.value for row in read_rows(path) if row.fault is None]
        except UserError:
            found = []
        others = [row for row in rows if row["n"] != bad]
        made_up = [
            row for row in found
            if isinstance(row, dict) and "n" in row and row["n"] != bad and row not in rows
        ]  # fmt: skip
        assert not made_up
        lost += sum(row not in found for row in others)
        total += len(others)
    assert lost < 0.06 * total


def test_where_a_row_ends_by_its_brackets() -> None:
    shape = Shape(frozenset({"a"}), '"a"')
    text = '{"a": [{"a": 1}, {"a": 2}], x}, {"a": 3}, {"a": 4}]'
    assert next_row(text, shape, whole=True) == text.index('{"a": 3}')
    assert next_row('{"a": x}]', shape, whole=True) == len('{"a": x}')
    assert next_row('{"a": x}]', shape, whole=False) is None
    assert next_row('{"a": x}, {"b": 1}]', shape, whole=True) is None


def job(path: Path, out: Path | None = None, *fixes: str) -> Any:
    same = {"model": ModelConfig(source="demo"), "data": DataConfig(source=str(path)), "seed": 0}
    if out is None:
        return jobs.InspectJob(**same, root="")
    return jobs.CleanJob(**same, root="", out=str(out), fixes=fixes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"text": "One day."}, x {"title": "b"}, {"title": "c"}]'),
        ("a.csv", 'text\nOne day.\n"Two\nThree\nFour\n'),
    ],
)
def test_the_rest_of_a_file_never_goes_without_a_word(
    tmp_path: Path, name: str, content: str
) -> None:
    path, out = tmp_path / name, tmp_path / "copy.jsonl"
    path.write_text(content)
    (facts,) = (
        e.data for e in inspect(job(path), Control()) if getattr(e, "kind", "") == "inspect"
    )
    first = facts["issues"][0]
    assert (first["code"], first["level"], first["count"]) == ("unread", "error", 1)
    assert "nothing behind it was read" in first["places"][0]["why"]
    assert facts["rows_read"] == 2
    with pytest.raises(UserError, match="nothing behind it was read"):
        list(clean(job(path, out, "broken"), Control()))
    assert not out.exists()
    (report,) = (
        e.data for e in clean(job(path, out, "unread"), Control()) if isinstance(e, Report)
    )
    assert report["removed"] == {"unread": 1}
    assert [json.loads(line) for line in out.read_text().splitlines()] == [{"text": "One day."}]
