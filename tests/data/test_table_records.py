"""Broken records of a table: named by line and column, passed over where the next one is sure."""

from __future__ import annotations

import csv
import gzip
import io
import random
from typing import TYPE_CHECKING

import pytest

from mlx_lora.config import DataConfig
from mlx_lora.data import table_records, text_file
from mlx_lora.data.examples import read_examples
from mlx_lora.data.reading import read_rows
from mlx_lora.data.source import find_source
from mlx_lora.data.table_dialect import Dialect
from mlx_lora.data.table_values import find_values
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_lora.data.rows import Row

HEAD = "prompt,completion\n"


def read(tmp_path: Path, content: str, name: str = "a.csv") -> list[Row]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if ".gz" in name else content.encode())
    return list(read_rows(path))


def places(rows: list[Row]) -> list[str]:
    return [row.fault.where.rpartition("/")[2] for row in rows if row.fault is not None]


def learnt(rows: list[Row]) -> list[tuple[str, ...]]:
    return [tuple(row.value.values()) for row in rows if row.fault is None]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("a,b\nc\n", "a.csv:3:2"),
        ("a,b\nc,d,e\n", "a.csv:3:5"),
        ('a,b\n"c, d","e\nf",g\n', "a.csv:4:4"),
        ('a,b\n"c\nc"\n', "a.csv:4:3"),
        ('a,b\nc,"d\n', "a.csv:3:3"),
        ('a,b\n"c\n","d\n', "a.csv:4:3"),
        ('a,b\n"c" c,d\n', "a.csv:3:4"),
        ('a,b\n"c\nc"c,d\n', "a.csv:4:3"),
        ('a,"b"\nc,\u4e16 "d",e\n', "a.csv:3:9"),
    ],
)
@pytest.mark.parametrize(
    ("end", "before"),
    [("\n", ""), ("\r\n", ""), ("\r", ""), ("\n", "sep=,\n"), ("\r\n", "sep=,\n")],
)
def test_a_broken_record_has_its_line_and_column(
    tmp_path: Path, content: str, place: str, end: str, before: str
) -> None:
    rows = read(tmp_path, (before + HEAD + content).replace("\n", end))
    if before:
        name, line, column = place.split(":")
        place = f"{name}:{int(line) + 1}:{column}"
    assert places(rows) == [place]
    assert learnt(rows)[0] == ("a", "b")


def test_what_a_record_cannot_be_used_for_has_its_line_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('title,body\n"a\nb",c\nd,e\n')
    source = find_source(DataConfig(source=str(tmp_path / "a.csv")), tmp_path)
    faults = [one.fault for one in read_examples(source)]
    assert [fault.where for fault in faults if fault] == ["a.csv:2:1", "a.csv:4:1"]


def test_two_columns_of_one_name_are_named_where_the_second_is(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, '\n"prompt", completion ,prompt\na,b,c\n')
    assert caught.value.where.endswith("a.csv:2:23")


@pytest.mark.parametrize(
    ("content", "faults", "good"),
    [
        # up to the end of the file
        ('a,b\nc,"d\ne,f\ng,h\n', ["a.csv:3:3"], ["ab", "ef", "gh"]),
        # up to a quote further down, which is the next record's own
        ('c,"d\ne,f\ng,"h"\ni,j\n', ["a.csv:2:3"], ["ef", "gh", "ij"]),
        # one that is never closed after the other
        ('c,"d\ne,f\ng,"h\ni,j\n', ["a.csv:2:3", "a.csv:4:3"], ["ef", "ij"]),
        # behind a record of several lines
        ('"a\n1",b\nc,"d\n"e\n2",f\ng,h\n', ["a.csv:4:3"], ["a\n1b", "e\n2f", "gh"]),
        # a blank line is no record
        ('c,"d\n\ne,f\n', ["a.csv:2:3"], ["ef"]),
    ],
)
def test_reading_goes_on_behind_a_quote_that_never_closes(
    tmp_path: Path, content: str, faults: list[str], good: list[str]
) -> None:
    rows = read(tmp_path, HEAD + content)
    assert places(rows) == faults
    assert ["".join(values) for values in learnt(rows)] == good
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert not any(row.unread for row in rows)
    assert all("never closed" in row.fault.why for row in rows if row.fault)


@pytest.mark.parametrize(
    "content",
    [
        # the lines of a text are no records, though one of them looks like one
        'a,b\nc,"It began,\nas ever, with rain.\nNobody knew, why, or when.\nThe end.\n',
        'a,b\nc,"one\ntwo\n',
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_where_no_record_is_sure_it_is_said_how_much_was_not_read(
    tmp_path: Path, content: str, name: str
) -> None:
    rows = read(tmp_path, HEAD + content, name)
    assert learnt(rows) == [("a", "b")]
    (fault,) = [row for row in rows if row.fault]
    assert fault.fault is not None
    size = (tmp_path / name).stat().st_size
    if name == "a.csv":
        assert fault.unread == len(content.split("\n", 2)[2])
    assert 0 < fault.unread < size
    words = f"nothing behind it was read: about {fault.unread:,} bytes, {fault.unread / size:.1%}"
    assert words in fault.fault.why


def test_a_table_of_one_column_goes_on_nowhere(tmp_path: Path) -> None:
    rows = read(tmp_path, 'text\nOne.\n"Two.\nThree.\n')
    assert learnt(rows) == [("One.",)]
    assert rows[-1].unread == len("Three.\n")


def test_the_last_record_leaves_nothing_unread(tmp_path: Path) -> None:
    (_, fault) = read(tmp_path, HEAD + 'a,b\nc,"d')
    assert fault.fault is not None
    assert fault.unread == 0
    assert "was read" not in fault.fault.why


def test_a_quote_closed_further_down_may_stay_one_record(tmp_path: Path) -> None:
    """Lines of a long value that look like records are none where a line between does not."""
    rows = read(tmp_path, HEAD + '"a text\nwith, comma\nand end" x,b\nc,d\n')
    assert places(rows) == ["a.csv:4:9"]
    assert learnt(rows) == [("c", "d")]


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_pieces_a_table_is_read_in_change_nothing(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = HEAD + 'a,"b\nb"\nc,"d\ne,f\ng,h\n"i\n\ni",j,k\nl\nm,"n"o\np,"q\nnot at all\n'
    wanted = [
        (r.number, r.line, r.value, r.fault and r.fault.line()) for r in read(tmp_path, content)
    ]
    assert sum(row[3] is not None for row in wanted) == 5
    for module in (text_file, table_records):
        monkeypatch.setattr(module, "CHUNK", chunk)
    found = read(tmp_path, content)
    assert [(r.number, r.line, r.value, r.fault and r.fault.line()) for r in found] == wanted


def test_values_are_found_where_python_finds_them() -> None:
    """Against the csv module itself, on 3,000 records of its own signs."""
    draw = random.Random(7)
    for _ in range(3000):
        dialect = Dialect(
            draw.choice(",;\t"), header=True, spaced=draw.random() < 0.3,
            escape="\\" if draw.random() < 0.3 else None,
        )  # fmt: skip
        cells = ["".join(draw.choices('ab ,;\t"\n\r\\', k=draw.randrange(6))) for _ in range(3)]
        file = io.StringIO(newline="")
        csv.writer(
            file, delimiter=dialect.separator, escapechar=dialect.escape, lineterminator="\n",
            doublequote=dialect.escape is None, quoting=csv.QUOTE_ALL,
        ).writerow(cells)  # fmt: skip
        text = file.getvalue()
        found = find_values(text, 0, dialect)
        assert found.are_whole(3), (text, found)
        assert text[found.end :] == "\n"
        assert [text[at] for at in found.starts] == ['"'] * 3
        assert all(text[at - 1] == dialect.separator for at in found.starts[1:])
