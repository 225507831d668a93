"""Rows and files that cannot be learnt from (failures.md, section 2, and more of their kind)."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from bad_inputs.case import Case, each, lines, text, train

if TYPE_CHECKING:
    from bad_inputs.case import Make, Places

_GOOD = {"text": "A good row about a dog and a ball."}
_TWELVE = "".join(json.dumps(_GOOD) + "\n" for _ in range(12))


def _row(name: str, value: Any, *words: str, late: bool = False) -> Case:
    """A bad row behind four good ones."""
    make = lines(*[_GOOD] * 4, value, name="bad.jsonl")
    where = ["bad_data", "bad.jsonl row 5"]
    return Case(f"row: {name}", train(data="{work}/bad.jsonl"), [*where, *words], make, late)


def _line(name: str, line: str, *words: str) -> Case:
    """A broken line behind six good ones."""
    content = (json.dumps(_GOOD) + "\n") * 6 + line + "\n" + json.dumps(_GOOD)
    where = ["bad_data", "bad.jsonl:7:", "no valid JSON"]
    return Case(
        f"line: {name}",
        train(data="{work}/bad.jsonl"),
        [*where, *words],
        text(content, "bad.jsonl"),
    )


def _file(name: str, file: str, content: str | bytes, *words: str) -> Case:
    return Case(
        f"file: {name}",
        train(data=f"{{work}}/{file}"),
        ["bad_data", file if "row is" not in words[0] else "a: ", *words],
        text(content, file),
    )


_ROWS = [
    _row("other keys", {"txt": "x"}, "it has txt", "prompt + completion"),
    _row("no keys", {}, "it has nothing"),
    _row("text null", {"text": None}, "text is empty (null)"),
    _row("text a number", {"text": 3}, "text is a number"),
    _row("text a fraction", {"text": 0.5}, "text is a number"),
    _row("text true", {"text": True}, "text is true or false"),
    _row("text a list", {"text": ["a"]}, "text is a list"),
    _row("text an object", {"text": {"a": 1}}, "text is an object"),
    _row("text a huge number", {"text": 10**300}, "text is a number"),
    _row("a list", ["a"], "it is a list"),
    _row("a number", 5, "it is a number"),
    _row("null", None, "it is empty (null)"),
    _row("true", True, "it is true or false"),
    _row("a bare text", "hello", "it is text"),
    _row("an empty bare text", "", "it is text"),
    _row("prompt without completion", {"prompt": "x"}, "it has prompt"),
    _row("completion without prompt", {"completion": "x"}, "it has completion"),
    _row("prompt null", {"prompt": None, "completion": "x"}, "prompt is empty (null)"),
    _row("completion null", {"prompt": "x", "completion": None}, "completion is empty (null)"),
    _row("prompt a list", {"prompt": ["x"], "completion": "y"}, "prompt is a list"),
    _row("completion a number", {"prompt": "x", "completion": 4}, "completion is a number"),
    _row("instruction without output", {"instruction": "x"}, "it has instruction"),
    _row("instruction null", {"instruction": None, "output": "x"}, "instruction is empty"),
    _row("output null", {"instruction": "x", "output": None}, "output is empty (null)"),
    _row("output a list", {"instruction": "x", "output": []}, "output is a list"),
    _row("input a number", {"instruction": "x", "input": 3, "output": "y"}, "input is a number"),
    _row("messages null", {"messages": None}, "messages is no list"),
    _row("messages text", {"messages": "hi"}, "messages is no list"),
    _row("messages empty", {"messages": []}, "messages is no list"),
    _row("messages an object", {"messages": {"role": "user"}}, "messages is no list"),
    _row("a turn is text", {"messages": ["hi"]}, "role and a content"),
    _row("a turn is null", {"messages": [None]}, "role and a content"),
    _row("a turn without a role", {"messages": [{"content": "x"}]}, "role"),
    _row("a turn without content", {"messages": [{"role": "user"}]}, "content"),
    _row("an unknown role", {"messages": [{"role": "bot", "content": "x"}]}, "role", "bot"),
    _row("content null", {"messages": [{"role": "assistant", "content": None}]}, "content"),
    _row("content a list", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content"),
    _row("content a number", {"messages": [{"role": "user", "content": 1}]}, "content"),
    _row("role a number", {"messages": [{"role": 1, "content": "x"}]}, "role"),
    _row("ShareGPT's narrator", {"conversations": [{"from": "narrator", "value": "x"}]}, "role", "narrator"),
    _row("a preference", {"prompt": "x", "chosen": "a", "rejected": "b"}, "preference", "--map"),
    _row("two questions", {"query": "x", "question": "y", "answer": "z"}, "more than one", "--map"),
    _row("a picture in a turn", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
    _row("a call without a name", {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "names no function"),
    _row("tools a text", {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "tools": "x"}, "tools is no list"),
    Case(
        "row: a conversation without a template", train("--template", "none", data="{work}/bad.jsonl"),
        ["no_template", "row 2", "--template plain", "instruct model"],
        lines({"text": "a text"}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, name="bad.jsonl"),
        late=True,
    ),
]  # fmt: skip

_LINES = [
    _line("not closed", '{"text": "a', "ends too early"),
    _line("a raw tab", '{"text": "a\tb"}'),
    _line("a trailing comma", '{"text": "a",}'),
    _line("single quotes", "{'text': 'a'}", "'text'"),
    _line("no quotes", "{text: a}"),
    _line("no JSON", "hello world", "hello world"),
    _line("NaN", '{"text": NaN}'),
    _line("Infinity", '{"text": Infinity}'),
    _line("a comment", '{"text": "a"} // here'),
    _line("two objects", '{"text": "a"}{"text": "b"}'),
    _line("a comma behind", '{"text": "a"},'),
    _line("half a surrogate", '{"text": "\\ud800"}'),
    _line("a bad escape", '{"text": "\\x41"}'),
    _line("a deep nest", '{"text": ' + "[" * 20000 + "]" * 20000 + "}", "deep"),
    _line("a bracket", "["),
    _line("XML", "<row>text</row>"),
]

_FILES = [
    _file("nothing in it", "a.jsonl", "", "it is empty"),
    _file("only a byte-order mark", "a.jsonl", "\ufeff", "it is empty"),
    _file("only blank lines", "a.jsonl", "\n\n  \n", "it is empty"),
    _file("an empty text", "a.txt", "", "it is empty"),
    _file("a text of spaces", "a.txt", "  \n\t\n ", "it is empty"),
    _file("an empty array file", "a.json", "", "it is empty"),
    _file("an array of nothing", "a.json", "[]", "it is empty"),
    _file("two lists", "a.json", '{"train": [], "test": []}', "row 1", "it has train, test"),
    _file("a number", "a.json", "3", "row 1", "a number"),
    _file("null", "a.json", "null", "row 1", "empty (null)"),
    _file("an array of numbers", "a.json", "[1, 2]", "row 1", "a number"),
    _file("an array of lists", "a.json", "[[1]]", "row 1", "a list"),
    _file("an array of texts", "a.json", '["hello"]', "row 1", "it is text"),
    _file("array not closed", "a.json", '[{"text": "a"},\n{"text": "b"}', "a.json:2:", "no valid JSON"),
    _file("array with a comma behind", "a.json", '[{"text": "a"},\n]', "a.json:2:", "no valid JSON"),
    _file("CSV named .jsonl", "a.jsonl", "text,label\nhello,1\n", "a.jsonl:1:", "text,label"),
    _file("a web page", "a.jsonl", "<!doctype html><html></html>", "a web page"),
    _file("a Git LFS pointer", "a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer", "git lfs pull"),
    _file("Latin-1", "a.jsonl", _TWELVE.encode() + '{"text": "Müller"}'.encode("latin-1"), "a.jsonl:13", "UTF-8"),
    _file("Latin-1 text", "a.txt", "eins\nzwei\nMüller".encode("latin-1"), "a.txt:3", "UTF-8"),
    _file("cut in a character", "a.txt", "Müller".encode()[:2], "middle of a character"),
    _file("UTF-16", "a.txt", "hello".encode("utf-16"), "UTF-16", "understudy data clean"),
    _file("UTF-16 without a mark", "a.txt", "hello".encode("utf-16-le"), "UTF-16"),
    _file("UTF-32", "a.txt", "hello".encode("utf-32-be"), "UTF-32"),
    _file("a picture", "a.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a picture (PNG)"),
    _file("a parquet", "a.parquet", b"PAR1", "it is cut off"),
    _file("a packed file", "a.jsonl.gz", b"\x1f\x8b", ".jsonl"),
    _file("a PDF", "a.pdf", b"%PDF-1.4", "it is a PDF"),
    _file("no ending", "rows", _TWELVE, ".jsonl"),
    _file("every row empty", "a.jsonl", '{"text": ""}\n{"text": "  "}\n', "every row is empty"),
    _file("no answers", "a.jsonl", '{"prompt": "a", "completion": ""}\n', "every row is empty"),
    _file("no assistant", "a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}\n', "every row is empty"),
]  # fmt: skip


def _folder(name: str, files: dict[str, str], *words: str) -> Case:
    make = each(
        lambda places: (places.work / "set").mkdir(),
        *(text(content, f"set/{file}") for file, content in files.items()),
    )
    return Case(f"folder: {name}", train(data="{work}/set"), list(words), make)


_FOLDERS = [
    _folder("empty", {}, "no_such_data", "it is empty", "train.jsonl"),
    _folder("no train file", {"valid.jsonl": _TWELVE}, "no_such_data", "no train file"),
    _folder("only a test", {"test.jsonl": _TWELVE}, "no_such_data", "no train file"),
    _folder("several files", {"a.jsonl": _TWELVE, "b.jsonl": _TWELVE}, "bad_data", "a.jsonl, b.jsonl"),
    _folder("a table of one cell", {"train.csv": "a"}, "bad_data", "train.csv:1:1"),
    _folder("two train files", {"train.jsonl": _TWELVE, "train.txt": "x"}, "bad_data", "train.jsonl and train.txt"),
    _folder("two valid files", {"train.txt": "x", "valid.txt": "x", "dev.txt": "y"}, "bad_data", "dev.txt and valid.txt"),
    _folder("empty train", {"train.jsonl": "", "valid.jsonl": _TWELVE}, "bad_data", "train.jsonl", "it is empty"),
    _folder("broken valid", {"train.jsonl": _TWELVE, "valid.jsonl": "{"}, "bad_data", "valid.jsonl:1:"),
    _folder("bad valid row", {"train.jsonl": _TWELVE, "valid.jsonl": '{"a": 1}'}, "bad_data", "valid.jsonl row 1"),
    _folder("bad test row", {"train.jsonl": _TWELVE, "test.jsonl": '{"a": 1}'}, "bad_data", "test.jsonl row 1"),
]  # fmt: skip


def _pipe(places: Places) -> None:
    os.mkfifo(places.work / "a.jsonl")


def _link(target: str) -> Make:
    return lambda places: (places.work / "a.jsonl").symlink_to(places.fill(target))


_PLACES = [
    Case("data: missing", train(data="{work}/no.jsonl"), ["no_such_data", "no.jsonl", "tiny-shakespeare"]),
    Case("data: a pipe", train(data="{work}/a.jsonl"), ["no_such_data", "a.jsonl"], _pipe),
    Case("data: a device", train(data="/dev/zero"), ["no_such_data", "/dev/zero"]),
    Case("data: a link to nothing", train(data="{work}/a.jsonl"), ["no_such_data"], _link("{work}/no")),
    Case("data: a link to itself", train(data="{work}/a.jsonl"), ["no_such_data"], _link("{work}/a.jsonl")),
    Case("data: a hub id", train(data="org/set"), ["network", "org/set"]),
    Case("data: an address", train(data="https://example.com/a.jsonl"), ["no_such_data", "https://"]),
    Case("data: a name too long", train(data="n" * 300 + ".jsonl"), ["no_such_data", "no such file"]),
    Case("data: nobody's home", train(data="~nosuchuser/a.jsonl"), ["no_such_data", "~nosuchuser"]),
    Case("data: a file as a folder", train(data="{rows}/train.jsonl"), ["no_such_data"]),
    Case("data: near demo", train(data="Demo"), ["no_such_data", "demo"]),
    Case("data: a line break in the name", train(data="a\nb.jsonl"), ["no_such_data", "a b.jsonl"]),
    Case("check: missing", ["data", "check", "{work}/no.jsonl", "--model", "{model}"], ["no_such_data"]),
    Case("check: bad row", ["data", "check", "{work}/a.jsonl", "--model", "{model}"], ["bad_data", "row 1"], lines({"a": 1}, name="a.jsonl"), late=True),
    Case("check: broken line", ["data", "check", "{work}/a.jsonl", "--model", "{model}", "--json"], ["bad_data", "a.jsonl:1:"], text("{", "a.jsonl"), late=True),
    Case("evaluate: missing", ["evaluate", "{run}", "--data", "{work}/no.jsonl"], ["no_such_data"]),
    Case("evaluate: bad row", ["evaluate", "{run}", "--data", "{work}/a.jsonl"], ["bad_data", "row 1"], lines({"a": 1}, name="a.jsonl")),
    Case("evaluate: empty", ["evaluate", "{run}", "--data", "{work}/a.jsonl"], ["bad_data", "empty"], text("", "a.jsonl")),
    Case(
        "data: every prompt beyond the limit", train("--max-length", "8", data="{work}/a.jsonl"),
        ["bad_data", "no row has anything to learn", "--max-length"],
        lines({"prompt": "word " * 60, "completion": "yes"}, name="a.jsonl"), late=True,
    ),
]  # fmt: skip

CASES = [*_ROWS, *_LINES, *_FILES, *_FOLDERS, *_PLACES]
