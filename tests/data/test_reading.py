"""Files to rows: what is accepted, what is refused, and where a fault is said to be."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_lora.config import DataConfig
from mlx_lora.data import text_file
from mlx_lora.data.examples import check_beginnings, load_examples, read_examples
from mlx_lora.data.reading import guess_encoding, open_text, read_rows
from mlx_lora.data.source import Source, find_source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def put(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path) -> UserError:
    """Why a file, or the first of its rows that has a fault, cannot be read."""
    try:
        error = next(row.fault for row in read_rows(path) if row.fault is not None)
    except UserError as raised:
        error = raised
    assert error.code == "bad_data"
    assert error.fix
    return error


@pytest.mark.parametrize("name", ["a.txt", "a.md", "A.TXT"])
def test_a_text_file_is_one_row_as_it_stands(tmp_path: Path, name: str) -> None:
    text = "One.\r\nTwo.\rThree.\n\n\u00e9\u4e16\U0001f600"
    path = put(tmp_path, name, text)
    before = path.read_bytes(), path.stat().st_mtime_ns
    (row,) = read_rows(path)
    assert (row.number, row.value) == (1, text)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_with_any_end_mark_and_blank_lines(tmp_path: Path, end: str, mark: str) -> None:
    lines = ['{"text": "a"}', "", "   ", '{"text": "b"}', "", '{"text": "c"}']
    rows = read_rows(put(tmp_path, "a.jsonl", mark + end.join(lines) + end))
    assert [(row.number, row.value["text"]) for row in rows] == [(1, "a"), (4, "b"), (6, "c")]


def test_an_array_may_begin_with_a_mark_and_lie_in_one_field(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b"}]
    for content in (rows, {"version": 1, "data": rows}):
        found = read_rows(put(tmp_path, "a.json", "\ufeff" + json.dumps(content, indent=1)))
        assert [(row.number, row.value) for row in found] == list(enumerate(rows, 1))


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_a_sign_python_calls_a_line_end_splits_no_row(tmp_path: Path, sign: str) -> None:
    line = json.dumps({"text": f"a{sign}b"}, ensure_ascii=False)
    (row,) = read_rows(put(tmp_path, "a.jsonl", line + "\n"))
    assert row.value == {"text": f"a{sign}b"}


def test_a_broken_line_is_named_by_line_and_column_with_the_text_around_it(tmp_path: Path) -> None:
    good = '{"text": "a"}\n'
    error = refused(put(tmp_path, "a.jsonl", good * 6 + '{"text": "b" "more": 1}\n' + good))
    assert error.where.endswith("a.jsonl:7:14")
    assert '"text": "b" "more"' in error.why


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_columns_count_characters_not_bytes(tmp_path: Path, end: str) -> None:
    lines = ['{"text": "\u4e16\u754c"}', '{"text": "\u4e16\u754c \U0001f600" x}']
    error = refused(put(tmp_path, "a.jsonl", end.join(lines)))
    assert error.where.endswith(f"a.jsonl:2:{lines[1].index('x', 12) + 1}")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_fault_in_an_array_has_its_line_and_column(tmp_path: Path, end: str, mark: str) -> None:
    lines = ["[", ' {"text": "\u4e16"},', ' {"text": "\u00e9\u00e9"} {', "]"]
    error = refused(put(tmp_path, "a.json", mark + end.join(lines)))
    assert error.where.endswith(f"a.json:3:{lines[2].rindex('{') + 1}")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"text": "a"', "early"),
        ('{"text": "a\tb"}', "JSON"),
        ('{"text": NaN}', "JSON"),
        ("{'text': 'a'}", "JSON"),
        ('{"text": "\\ud800"}', "JSON"),
        ('{"n": 1e999}', "JSON"),
        ("[" * 100_000, "JSON"),
        ('[{"a":' * 50_000, "JSON"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    error = refused(put(tmp_path, name, content))
    assert words in error.why
    assert f"{name}:1:" in error.where
    assert len(error.line()) < 400


def test_nesting_without_end_is_called_that(tmp_path: Path) -> None:
    assert "nested" in refused(put(tmp_path, "a.jsonl", "[" * 100_000 + "]" * 100_000)).why


@pytest.mark.parametrize(("depth", "fault"), [(99, False), (100, True), (800, True)])
@pytest.mark.parametrize("form", ["{}\n{}\n", "[\n{},\n{}\n]"])
def test_nesting_that_others_could_not_follow_is_a_fault(
    tmp_path: Path, form: str, depth: int, fault: bool
) -> None:
    deep = '{"text": "a", "more": ' + "[" * depth + "]" * depth + "}"
    content = form.replace("{}", deep, 1).replace("{}", '{"text": "b", "n": ' + "[[]]}", 1)
    rows = list(read_rows(put(tmp_path, "a.json", content)))
    assert [row.fault is not None for row in rows] == [fault, False]


@pytest.mark.parametrize("scalar", ["1", "true", "null", '"words"', "{}", '{"a": [], "b": []}'])
def test_a_json_file_without_rows_is_refused(tmp_path: Path, scalar: str) -> None:
    path = put(tmp_path, "a.json", scalar)
    with pytest.raises(UserError) as caught:
        load_examples(Source("a", {"train": (path,)}))
    assert caught.value.where == "a.json row 1"
    assert "not an object" in caught.value.why or "it has" in caught.value.why


@pytest.mark.parametrize("scalar", ["1", "true", "null", '"words"', "[]", "1.5"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, scalar: str) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": "a"}\n' + scalar + "\n")
    with pytest.raises(UserError) as caught:
        load_examples(Source("a", {"train": (path,)}))
    assert caught.value.where == "a.jsonl row 2"
    assert "not an object" in caught.value.why


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b" \r\n\t\n", "empty"),
        ("words".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\x00w", "UTF-16"),
        ("words".encode("utf-16-le"), "UTF-16"),
        (b"a\x00b", "zero bytes"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json"])
def test_no_text_is_refused_in_words(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    assert words in refused(put(tmp_path, name, content)).why


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_latin_1_is_named_by_line(tmp_path: Path, end: bytes) -> None:
    content = end.join([b'{"text": "plain"}'] * 12 + ['{"text": "caf\u00e9"}'.encode("latin-1")])
    error = refused(put(tmp_path, "a.jsonl", content))
    assert error.where.endswith("a.jsonl:13:14")
    assert "understudy data clean" in error.fix


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    assert "empty" in refused(put(tmp_path, "a.json", "[]")).why


def test_a_folder_with_splits(tmp_path: Path) -> None:
    for name in ("train.jsonl", "validation.json", "test.txt", "notes.csv", "README.md"):
        put(tmp_path, name, "[]")
    (tmp_path / "dev.jsonl").mkdir()
    source = find_source(DataConfig(source=str(tmp_path)), tmp_path)
    assert {split: path.name for split, (path,) in source.files.items()} == {
        "train": "train.jsonl",
        "valid": "validation.json",
        "test": "test.txt",
    }


def test_a_folder_with_two_train_files_is_refused(tmp_path: Path) -> None:
    for name in ("train.jsonl", "train.txt"):
        put(tmp_path, name, "x")
    with pytest.raises(UserError) as caught:
        find_source(DataConfig(source=str(tmp_path)), tmp_path)
    assert "train.jsonl and train.txt" in caught.value.why


def test_an_empty_held_out_file_holds_nothing_back(
    tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    write_rows([{"text": "a"}], "train.jsonl")
    for content in ("", "\n\n"):
        put(tmp_path, "valid.jsonl", content)
        examples, _ = load_examples(find_source(DataConfig(source=str(tmp_path)), tmp_path))
        assert list(examples) == ["train"]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("nowhere.jsonl", "no_such_data", "no such file"),
        ("data", "bad_data", "not understood"),
        ("folder.txt", "no_such_data", "it is empty"),
        ("~nobody-of-this-name/x.txt", "no_such_data", "no such file"),
        ("x" * 5000 + ".txt", "no_such_data", "no such file"),
        ("a\x00b.txt", "no_such_data", "no such file"),
        ("pipe.txt", "no_such_data", "no such file"),
    ],
)
def test_what_data_cannot_name(
    tmp_path: Path, source: str, code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "data.csv", "a,b")
    put(tmp_path, "data", "a,b")
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError) as caught:
        find_source(DataConfig(source=source), tmp_path)
    assert caught.value.code == code
    assert words in caught.value.why


def test_one_hash_over_all_files(tmp_path: Path) -> None:
    put(tmp_path, "train.txt", "a")
    first = find_source(DataConfig(source=str(tmp_path)), tmp_path).sha256()
    put(tmp_path, "valid.txt", "b")
    second = find_source(DataConfig(source=str(tmp_path)), tmp_path).sha256()
    put(tmp_path, "valid.txt", "c")
    third = find_source(DataConfig(source=str(tmp_path)), tmp_path).sha256()
    assert len({first, second, third}) == 3


_JSONISH = st.one_of(
    st.binary(max_size=200),
    st.text(
        alphabet='{}[]":,\\u0123456789eE+-.\n\r truefalsn\u00e9\u2028"messagroltx', max_size=120
    ).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["text", "prompt", "completion", "messages", "role", "content", "output"]
                )
                | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=_JSONISH, suffix=st.sampled_from([".jsonl", ".json", ".txt"]))
def test_nothing_but_user_errors_escapes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = put(tmp_path, f"fuzz{suffix}", content)
    with contextlib.suppress(UserError):
        load_examples(Source("fuzz", {"train": (path,)}))
    assert path.read_bytes() == content


_HELLO = "\u041f\u0440\u0438\u0432\u0435\u0442"
_JAPANESE = "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3067\u3059\u3002"


@pytest.mark.parametrize(
    ("encoding", "text", "guess"),
    [
        ("cp1252", "na\u00efve caf\u00e9", "cp1252"),
        ("latin-1", "eins zwei M\u00fcller Stra\u00dfe", "cp1252"),
        ("cp1250", "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148", "cp1250"),
        ("cp1251", f"{_HELLO}, {_HELLO}", "cp1251"),
        ("koi8_r", f"{_HELLO}, {_HELLO}, {_HELLO}", "koi8_r"),
        ("shift-jis", _JAPANESE, "cp932"),
        ("utf-16-le", "hello there", "utf-16-le"),
        ("utf-16", "hello", "utf-16"),
        ("utf-8", "na\u00efve caf\u00e9", None),
        ("ascii", "plain", None),
    ],
)  # fmt: skip
def test_an_encoding_is_guessed_and_read(
    tmp_path: Path, encoding: str, text: str, guess: str | None
) -> None:
    path = put(
        tmp_path, "a.jsonl", (json.dumps({"text": text}, ensure_ascii=False)).encode(encoding)
    )
    found = guess_encoding(path)
    assert (found and found.encoding) == guess
    (row,) = read_rows(path, encoding=guess)
    assert row.value == {"text": text}
    with open_text(path, guess) as file:
        assert text in file.read()


def test_one_damaged_row_of_a_text_in_utf_8_is_a_fault_of_that_row(tmp_path: Path) -> None:
    good = '{"text": "gr\u00f6\u00dfer, \u00f6fter, \u00fcberall"}\n'.encode()
    rows = list(read_rows(put(tmp_path, "a.jsonl", good * 3 + b'{"text": "M\xfcll"}\n' + good)))
    assert [row.fault is None for row in rows] == [True, True, True, False, True]
    assert rows[3].fault is not None
    assert rows[3].fault.where.endswith("a.jsonl:4:12")


def test_zero_bytes_behind_the_first_line_harm_their_own_line(tmp_path: Path) -> None:
    good = b'{"text": "a"}\n'
    rows = list(read_rows(put(tmp_path, "a.jsonl", good + b"\0" * 9 + b"\n" + good)))
    assert [row.fault is None for row in rows] == [True, False, True]


def test_a_row_of_an_array_with_a_list_in_it_is_a_row(tmp_path: Path) -> None:
    row = {"query": "q", "reply": "a", "sources": [{"url": "x"}]}
    (found,) = read_rows(put(tmp_path, "a.json", json.dumps(row)))
    assert found.value == row


def test_a_fault_in_an_array_of_a_row_a_line_is_passed_over(tmp_path: Path) -> None:
    lines = ["[", '  {"text": "a"},', '  {"text": "b" x},', '  {"text": "c"}', "]"]
    rows = list(read_rows(put(tmp_path, "a.json", "\n".join(lines))))
    assert [(row.line, row.fault is None) for row in rows] == [(2, True), (3, False), (4, True)]


def test_a_text_among_many_may_be_empty(tmp_path: Path) -> None:
    for name, content in (("1.txt", "a"), ("2.txt", "b"), ("3.txt", ""), ("10.txt", "c")):
        put(tmp_path, name, content)
    source = find_source(DataConfig(source=str(tmp_path)), tmp_path)
    assert [one.row.value for one in read_examples(source)] == ["a", "b", "c"]
    for name in ("1.txt", "2.txt", "10.txt"):
        put(tmp_path, name, " \n")
    with pytest.raises(UserError, match="every row is empty"):
        load_examples(source)


def test_a_large_object_is_read_row_by_row(tmp_path: Path) -> None:
    rows = [{"text": "x" * 1000, "n": n} for n in range(3000)]
    content = json.dumps({"version": {"a": [1]}, "data": rows, "licence": "none"})
    path = put(tmp_path, "a.json", content)
    found = read_rows(path)
    first = next(found)
    assert first.end < path.stat().st_size  # long before the end of the file
    assert [first.value, *(row.value for row in found)] == rows
    twice = put(tmp_path, "b.json", json.dumps({"train": rows, "test": rows}))
    *both, last = read_rows(twice)
    assert [row.value for row in both] == rows
    assert last.fault is not None
    assert "two lists of rows, train and test" in last.fault.why
    assert last.unread == len(json.dumps(rows)) + 1


@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\n"])
def test_a_long_text_is_read_in_parts_that_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    monkeypatch.setattr(text_file, "_WHOLE", 5000)
    monkeypatch.setattr(text_file, "CHUNK", 1000)
    text = "Title\n\n" + "".join(f"Paragraph {n}, \u4e16.{gap}" for n in range(1000))
    rows = list(read_rows(put(tmp_path, "a.txt", text)))
    assert "".join(row.value for row in rows) == text
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert 3 < len(rows) < 10
    assert all(row.value.endswith(gap) for row in rows)


_WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    table=st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=8),
    sign=st.sampled_from(",;|\t"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_that_python_wrote_comes_back(
    tmp_path: Path, table: list[tuple[str, str]], sign: str, end: str
) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=sign, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([("prompt", "completion"), *table])
    rows = read_rows(tmp_path / "a.csv", may_be_empty=True)
    wanted = [row for row in table if any(map(str.strip, row))]
    assert [tuple(row.value.values()) for row in rows] == wanted


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _WORDS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(_VALUES.map(lambda value: {"text": value}), min_size=1, max_size=6),
    escaped=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_json_that_python_wrote_comes_back_in_every_form(
    tmp_path: Path, values: list[Any], escaped: bool, indent: int | None
) -> None:
    def dump(value: Any, spaces: int | None = indent) -> str:
        return json.dumps(value, ensure_ascii=escaped, indent=spaces)

    wanted = values
    forms = {
        "a.jsonl": "\n".join(dump(value, None) for value in values),
        "b.json": dump(values),
        "c.json": dump({"version": 1, "data": values}),
        "d.json": "\n".join(dump(value) for value in values),
        "e.json": "".join(dump(value) for value in values),
    }
    for name, content in forms.items():
        rows = read_rows(put(tmp_path, name, content))
        assert [row.value for row in rows] == wanted, name


def test_what_the_first_row_tells_is_told_at_once(
    tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    write_rows([{"text": "a"}, 5], "train.jsonl")
    put(tmp_path, "valid.csv", "<html><body>Sign in</body></html>")
    with pytest.raises(UserError, match="web page"):
        check_beginnings(find_source(DataConfig(source=str(tmp_path)), tmp_path))
    put(tmp_path, "valid.csv", "")
    check_beginnings(find_source(DataConfig(source=str(tmp_path)), tmp_path))
