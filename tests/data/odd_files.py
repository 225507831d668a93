"""Files as people have them: written by a script, each with what must come of it."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import gzip
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

Build = Callable[[Path], object]
ROWS = [
    {"prompt": "Who goes there?", "completion": "A friend, \u201eJ\u00fcrgen\u201c."},
    {"prompt": 'Two\nlines, "quoted"?', "completion": "Yes; a|b\tc."},
    {"prompt": "\u4e16\u754c \U0001f600?", "completion": "\u03a9 = 1,5"},
]


class OddFile(msgspec.Struct, frozen=True):
    """One case.

    Attributes:
        name: what it is called.
        path: what DATA names, below the folder of the case.
        build: writes its files into that folder.
        rows: how many rows can be learnt; None where the file is refused.
        words: what the refusal, or the first fault, must say.
        faults: rows that cannot be learnt beside the good ones.
        columns: as `--map`.
    """

    name: str
    path: str
    build: Build
    rows: int | None = None
    words: tuple[str, ...] = ()
    faults: int = 0
    columns: dict[str, str] = {}


def put(**files: bytes | str) -> Build:
    """Write files; a double underscore in a name is a folder, `_dot_` a dot."""

    def build(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name.replace("_dot_", ".").replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return build


def named(name: str, content: bytes | str) -> Build:
    """Write one file."""

    def build(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return build


def _lines(rows: list[dict[str, Any]] = ROWS) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json_forms() -> list[OddFile]:
    """Rows as JSON in every arrangement, with every mark, line end and packing."""
    array = json.dumps(ROWS, ensure_ascii=False)
    pretty = json.dumps(ROWS, indent=2)
    forms = {
        "lines": ("a.jsonl", _lines()),
        "ndjson": ("a.ndjson", _lines()),
        "an array": ("a.json", array),
        "a pretty array": ("a.json", pretty),
        "a list in an object": ("a.json", json.dumps({"version": 1, "data": ROWS, "by": "x"})),
        "lines named .json": ("a.json", _lines()),
        "an array named .jsonl": ("a.jsonl", array),
        "a pretty array named .jsonl": ("a.jsonl", pretty),
        "pretty objects named .jsonl": (
            "a.jsonl",
            "\n".join(json.dumps(r, indent=1) for r in ROWS),
        ),
    }
    changes: dict[str, Callable[[str], bytes]] = {
        "as it is": str.encode,
        "with a mark": lambda text: ("\ufeff" + text).encode(),
        "Windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
        "old Mac line ends": lambda text: text.replace("\n", "\r").encode(),
        "blank lines": lambda text: ("\n\n" + text.replace("\n", "\n  \n")).encode(),
        "no last line end": lambda text: text.rstrip("\n").encode(),
    }
    cases = [
        OddFile(f"{form}, {change}", name, named(name, make(text)), 3)
        for (form, (name, text)), (change, make) in itertools.product(
            forms.items(), changes.items()
        )
    ]
    packed = [
        OddFile(
            f"{form}, packed", f"{name}.gz", named(f"{name}.gz", gzip.compress(text.encode())), 3
        )
        for form, (name, text) in forms.items()
    ]
    return cases + packed


def _table(delimiter: str, end: str = "\n", *, header: bool = True) -> str:
    import csv

    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    if header:
        writer.writerow(["prompt", "completion"])
    writer.writerows([row["prompt"], row["completion"]] for row in ROWS)
    return file.getvalue()


def _tables() -> list[OddFile]:
    signs = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
    ends = {"lines": "\n", "Windows": "\r\n"}
    cases = [
        OddFile(f"a table, {sign}, {end}, mark {bool(mark)}", "a.csv", named("a.csv", mark + _table(signs[sign], ends[end])), 3)
        for sign, end, mark in itertools.product(signs, ends, ("", "\ufeff"))
    ]  # fmt: skip
    named_by_hand = {"prompt": "column 1", "completion": "column 2"}
    return [
        *cases,
        OddFile("a tab table", "a.tsv", named("a.tsv", _table("\t")), 3),
        OddFile("a packed table", "a.csv.gz", named("a.csv.gz", gzip.compress(_table(",").encode())), 3),
        OddFile("a table without a header", "a.csv", named("a.csv", _table(",", header=False)), 3, columns=named_by_hand),
        OddFile("a table of texts", "a.csv", named("a.csv", 'text\n"One, two."\nThree.\n'), 2),
        OddFile("a table with blank lines", "a.csv", named("a.csv", "prompt,completion\n\na,b\n\nc,d\n"), 2),
        OddFile("a table with a messages column", "a.csv", named("a.csv", 'id,messages\n1,"[{""role"":""user"",""content"":""q""},{""role"":""assistant"",""content"":""a""}]"\n'), 1),
        OddFile("a short line in a table", "a.csv", named("a.csv", "prompt,completion\na,b\nc\nd,e\n"), 2, ("a.csv:3:2",), 1),
        OddFile("a long line in a table", "a.csv", named("a.csv", "prompt,completion\na,b\nc,d,e\n"), 1, ("a.csv:3:5",), 1),
        OddFile("a quote that never ends", "a.csv", named("a.csv", 'prompt,completion\na,b\nc,"d\n'), 1, ("a.csv:3:3",), 1),
        OddFile("a quote that never ends before others", "a.csv", named("a.csv", 'prompt,completion\na,b\nc,"d\ne,f\ng,h\n'), 3, ("a.csv:3:3",), 1),
        OddFile("a quote that never ends in one column", "a.csv", named("a.csv", 'text\na b\n"c d\ne f\n'), 1, ("a.csv:3:1", "about 4 bytes, 22.2% of the file"), 1),
        OddFile("a table of other columns", "a.csv", named("a.csv", "title,body\na,b\n"), 0, ("a.csv:2:1", "title, body", "--map"), 1),
        OddFile("a table of other columns, named", "a.csv", named("a.csv", "title,body\na,b\n"), 1, columns={"prompt": "title", "completion": "body"}),
        OddFile("a header and nothing else", "a.csv", named("a.csv", "prompt,completion\n"), None, ("empty",)),
    ]  # fmt: skip


def _parquet(rows: list[dict[str, Any]], name: str = "a.parquet") -> Build:
    def build(folder: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)

    return build


def _all(*builds: Build) -> Build:
    def build(folder: Path) -> None:
        for one in builds:
            one(folder)

    return build


def _parquets() -> list[OddFile]:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    return [
        OddFile("parquet", "a.parquet", _parquet(ROWS), 3),
        OddFile("parquet with numbers beside", "a.parquet", _parquet([{**r, "n": 1, "f": 0.5} for r in ROWS]), 3),
        OddFile("parquet of conversations", "a.parquet", _parquet([{"messages": chat}] * 4), 4),
        OddFile("parquet of mixed rows", "a.parquet", _parquet([{**ROWS[0], "text": None}, {"prompt": None, "completion": None, "text": "t"}]), 2),
        OddFile("parquet with a row without an answer", "a.parquet", _parquet([*ROWS, {"prompt": "q", "completion": None}]), 3, ("empty (null)",), 1),
        OddFile("parquet shards in a folder", "set", _all(*(_parquet(ROWS, f"set/train-0000{n}-of-00002.parquet") for n in (0, 1))), 6),
        OddFile("parquet cut off", "a.parquet", named("a.parquet", b"PAR1\x00\x01"), None, ("a.parquet",)),
        OddFile("parquet named .json", "a.json", named("a.json", b"PAR1" + b"\x00" * 40 + b"PAR1"), None, ("Parquet",)),
        OddFile("JSON named .parquet", "a.parquet", named("a.parquet", _lines()), None, ("a.parquet",)),
    ]  # fmt: skip


def _texts_and_folders() -> list[OddFile]:
    text, rows = "One day.\n\nThe end.\n", _lines()
    return [
        OddFile("a text", "a.txt", named("a.txt", text), 1),
        OddFile("Markdown", "a.md", named("a.md", "# Title\n\n" + text), 1),
        OddFile("a packed text", "a.txt.gz", named("a.txt.gz", gzip.compress(text.encode())), 1),
        OddFile("a text with a mark", "a.txt", named("a.txt", "\ufeff" + text), 1),
        OddFile("a folder of texts", "set", put(set__b_dot_txt=text, set__a_dot_txt=text, set__c_dot_md=text), 3),
        OddFile("a folder of texts and a README", "set", put(set__b_dot_txt=text, set__README_dot_md="x"), 1),
        OddFile("a folder of texts, one empty", "set", put(set__b_dot_txt=text, set__a_dot_txt="", set__10_dot_txt=text), 2),
        OddFile("a folder of texts, all empty", "set", put(set__b_dot_txt=" ", set__a_dot_txt=""), 0),
        OddFile("train and valid", "set", put(set__train_dot_jsonl=rows, set__valid_dot_csv=_table(",")), 6),
        OddFile("train in data", "set", put(set__data__train_dot_jsonl=rows, set__README_dot_md="x"), 3),
        OddFile("one file of any name", "set", put(set__rows_dot_jsonl=rows), 3),
        OddFile("packed train", "set", _all(named("set/train.jsonl.gz", gzip.compress(rows.encode()))), 3),
        OddFile("shards of lines", "set", _all(*(named(f"set/train-{n}.jsonl", rows) for n in range(12))), 36),
        OddFile("hidden files beside", "set", put(set__train_dot_jsonl=rows, set___dot_DS_Store=b"\x00\x01"), 3),
        OddFile("two data files", "set", put(set__a_dot_jsonl=rows, set__b_dot_csv="a"), None, ("a.jsonl, b.csv",)),
        OddFile("no train file", "set", put(set__test_dot_jsonl=rows), None, ("no train file",)),
        OddFile("an empty folder", "set", lambda folder: (folder / "set").mkdir(), None, ("empty",)),
        OddFile("a folder of pictures", "set", put(set__a_dot_png=b"\x89PNG"), None, ("no train file",)),
        OddFile("Arrow files", "set", put(set__data_dot_arrow=b"ARROW1", set__state_dot_json="{}"), None, ("Arrow",)),
    ]  # fmt: skip


def _refused() -> list[OddFile]:
    def case(name: str, file: str, content: bytes | str, *words: str) -> OddFile:
        return OddFile(name, file, named(file, content), None, words)

    zipped = b"PK\x03\x04" + b"\x00" * 26
    latin = ("plain\n" * 4 + "caf\u00e9 cr\u00e8me br\u00fbl\u00e9e\n" * 3).encode("latin-1")
    return [
        case("nothing", "a.jsonl", "", "empty"),
        case("a mark and nothing", "a.json", "\ufeff", "empty"),
        case("blanks", "a.txt", " \n\t\n", "empty"),
        case("an empty array", "a.json", "[]", "empty"),
        case("an empty list in an object", "a.json", '{"data": []}', "empty"),
        case("a workbook", "a.xlsx", zipped + b"xl/workbook.xml", "workbook", "CSV"),
        case("a workbook named .csv", "a.csv", zipped + b"xl/workbook.xml", "workbook", "CSV"),
        case("a Word document", "a.docx", zipped + b"word/document.xml", "Word"),
        case("an archive", "a.zip", zipped + b"a.txt", "archive"),
        case("a PDF", "a.pdf", b"%PDF-1.7\n", "PDF"),
        case("a PDF named .txt", "a.txt", b"%PDF-1.7\n\x00", "PDF"),
        case("a picture named .jsonl", "a.jsonl", b"\x89PNG\r\n\x1a\n\x00", "picture"),
        case("a web page named .json", "a.json", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page"),
        case("a web page named .csv", "a.csv", "<html><body>Sign in</body></html>", "web page"),
        case("a pointer", "a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS", "git lfs pull"),
        case("a pointer named .jsonl", "a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
        case("zstandard", "a.jsonl.zst", b"\x28\xb5\x2f\xfd\x00", "Zstandard", "unpack"),
        case("xz", "a.jsonl.xz", b"\xfd7zXZ\x00", "xz", "unpack"),
        case("gzip cut off", "a.jsonl.gz", gzip.compress(_lines().encode() * 50)[:60], "a.jsonl.gz"),
        case("gzip with another sum", "a.jsonl.gz", gzip.compress(_lines().encode())[:-8] + b"\0" * 8, "gzip file is damaged"),
        case("gzip of noise", "a.jsonl.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 40, "a.jsonl.gz"),
        case("parquet packed", "a.parquet.gz", gzip.compress(b"PAR1"), "a.parquet.gz"),
        case("a database", "a.db", b"SQLite format 3\x00", "SQLite"),
        case("a NumPy array", "a.npy", b"\x93NUMPY\x01\x00", "NumPy"),
        case("a model", "a.gguf", b"GGUF\x03", "model"),
        case("no ending", "rows", _lines(), "not understood"),
        case("a program", "a.py", "print()", "not understood"),
        case("Latin-1", "a.txt", latin, "a.txt:5:4", "understudy data clean"),
        case("Latin-1 lines", "a.jsonl", b'{"text": "a"}\n' + '{"text": "caf\u00e9 cr\u00e8me"}\n'.encode("latin-1") * 9, "a.jsonl:2", "understudy data clean"),
        case("Windows-1252 table", "a.csv", "prompt,completion\n\u201eq\u201c,\u20ac5\n".encode("cp1252") * 3, "a.csv:2", "understudy data clean"),
        case("Shift-JIS", "a.txt", ("\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\n" * 20).encode("shift-jis"), "a.txt:1", "UTF-8"),
        case("UTF-16", "a.txt", "hello there\n".encode("utf-16"), "UTF-16", "understudy data clean"),
        case("UTF-16 without a mark", "a.jsonl", '{"text": "a"}\n'.encode("utf-16-le"), "UTF-16"),
        case("UTF-16 table", "a.csv", "prompt,completion\na,b\n".encode("utf-16"), "UTF-16"),
        case("UTF-32", "a.txt", "hello".encode("utf-32"), "UTF-32"),
        case("cut in a character", "a.txt", "abc \u4e16".encode()[:-1], "middle of a character"),
    ]  # fmt: skip


def _faults() -> list[OddFile]:
    """A bad row among good ones: it is named, and the others are read."""
    good = '{"text": "a"}'

    def line(name: str, bad: str, *words: str) -> OddFile:
        content = f"{good}\n{bad}\n{good}\n"
        return OddFile(
            f"line: {name}", "a.jsonl", named("a.jsonl", content), 2, ("a.jsonl", *words), 1
        )

    return [
        line("not closed", '{"text": "b"', "a.jsonl:2:"),
        line("a comma behind", '{"text": "b",}', "a.jsonl:2:14"),
        line("single quotes", "{'text': 'b'}", "a.jsonl:2:2", "'text'"),
        line("NaN", '{"text": NaN}', "a.jsonl:2:10"),
        line("two objects", f"{good}{good}", "a.jsonl:2:1", "trailing"),
        line("half a surrogate", '{"text": "\\ud800"}', "a.jsonl:2:"),
        line("a raw tab", '{"text": "a\tb"}', "a.jsonl:2:12"),
        line("words", "hello", "a.jsonl:2:1", "hello"),
        line("too deep", "[" * 5000 + "]" * 5000, "a.jsonl:2:", "nested"),
        line("a number", "5", "row 2", "a number"),
        line("a list", '["a"]', "row 2", "a list"),
        line("null", "null", "row 2", "null"),
        line("other fields", '{"title": "t", "body": "b"}', "row 2", "title, body"),
        line("a text that is a number", '{"text": 5}', "row 2", "text is a number"),
        line("a text and an answer", '{"text": "t", "answer": "a"}', "row 2", "--map prompt=text --map completion=answer"),
        line("a question with a context", '{"question": "q", "context": "c", "answer": "a"}', "row 2", "--map input=context"),
        line("a picture in a turn", '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "row 2", "image_url"),
        line("zero bytes", "\0\0\0\0", "a.jsonl:2:1"),
        line("an unknown role", '{"messages": [{"role": "bot", "content": "x"}]}', "row 2", "bot"),
        OddFile("an array of numbers", "a.json", named("a.json", "[12345, 67890]"), 0, ("row 1", "a number"), 2),
        OddFile("an array with a bad element", "a.json", named("a.json", '[{"text": "a"},\n {"text": },\n {"text": "b"}]'), 2, ("a.json:2:11",), 1),
        OddFile("an array on one line with a bad element", "a.json", named("a.json", '[{"text": "a"}, {"text": "5" wide"}, {"text": "b"}, {"text": "c"}]'), 3, ("a.json:1:30",), 1),
        OddFile("an array with a bad end", "a.json", named("a.json", '[{"text": "a"}, {"text": "b"} and so on'), 2, ("a.json:1:31", "about 9 bytes, 23.1% of the file"), 1),
        OddFile("an array without a comma", "a.json", named("a.json", '[{"text": "a"} {"text": "b"}]'), 2, ("a.json:1:16",), 1),
        OddFile("an array that is not closed", "a.json", named("a.json", '[{"text": "a"},\n {"text": "b"}'), 2, ("a.json:2:15",), 1),
        OddFile("a row of 65 MB", "a.jsonl", lambda folder: _giant(folder / "a.jsonl"), 1, ("a.jsonl:1", "MB"), 1),
    ]  # fmt: skip


def _giant(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(65):
            file.write(b"a" * (1 << 20))
        file.write(b'"}\n{"text": "b"}\n')


FILES = [
    *_json_forms(), *_tables(), *_parquets(), *_texts_and_folders(), *_refused(), *_faults()
]  # fmt: skip
