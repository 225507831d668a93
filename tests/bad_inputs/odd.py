"""Inputs that are odd and good: they work, with a word where one helps."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bad_inputs.case import Case, Places, copied, each, edited, lines, text, train

if TYPE_CHECKING:
    from pathlib import Path

    from bad_inputs.case import Make

_KEPT = "The adapter is kept"
_GOOD = [{"text": f"Day {n}: a dog and a ball went to the park."} for n in range(12)]
_TEXT = "".join(json.dumps(row) + "\n" for row in _GOOD)
_CHAT = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"
_TURNS = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
}


def _data(name: str, content: str | bytes, *words: str, file: str = "a.jsonl") -> Case:
    return Case(
        f"data: {name}", train(data=f"{{work}}/{file}"), [_KEPT, *words], text(content, file)
    )


def _rows(
    name: str, *rows: Any, words: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> Case:
    return Case(
        f"rows: {name}", train(*options, data="{work}/a.jsonl"), [_KEPT, *words], lines(*rows, name="a.jsonl")
    )  # fmt: skip


def _option(*options: str, words: tuple[str, ...] = ()) -> Case:
    return Case("option: " + " ".join(options)[:60], train(*options), [_KEPT, *words])


def _linked(places: Places) -> None:
    text(_TEXT, "real.jsonl")(places)
    (places.work / "a.jsonl").symlink_to(places.work / "real.jsonl")


def _folder(files: dict[str, str]) -> Make:
    return each(*(text(content, f"set/{name}") for name, content in files.items()))


def _with_template(folder: Path) -> None:
    edited("tokenizer_config.json", chat_template=_CHAT)(folder)
    (folder.parent / "a.jsonl").write_text((json.dumps(_TURNS) + "\n") * 3)


def _linked_model(places: Places) -> None:
    (places.work / "my model \N{SNOWMAN}").symlink_to(places.model)


def _split_model(folder: Path) -> None:
    name = "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(folder / name)
    index = {"metadata": {}, "weight_map": {"any": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


CASES = [
    _data("a byte-order mark", "\ufeff" + _TEXT),
    _data("Windows line ends", _TEXT.replace("\n", "\r\n")),
    _data("old Mac line ends", _TEXT.replace("\n", "\r")),
    _data("blank lines", "\n\n" + _TEXT.replace("\n", "\n \n")),
    _data("no line end at the end", _TEXT.rstrip("\n")),
    _data("a name with blanks", _TEXT, file="my own rows.jsonl"),
    _data("a name with emoji", _TEXT, file="\N{GRINNING FACE}\N{SNOWMAN}.jsonl"),
    _data("a name with brackets", _TEXT, file="[bold]{0}%s.jsonl"),
    _data("a name that is an option", _TEXT, file="--rank.jsonl"),
    _data("a name with an @", _TEXT, file="a@0.5.jsonl"),
    _data("an ending in capitals", _TEXT, file="A.JSONL"),
    _data("ndjson", _TEXT, file="a.ndjson"),
    _data("an array", json.dumps(_GOOD), file="a.json"),
    _data("an array in an object", json.dumps({"rows": _GOOD, "version": 1}), file="a.json"),
    _data("Markdown", "# A dog\n\nA dog and a ball.\n\n" * 20, file="a.md"),
    _data("one short text", "A dog.", "only 1", file="a.txt"),
    _data("a text with a mark and Windows line ends", "\ufeffA dog.\r\nA ball.\r\n" * 30, file="a.txt"),
    _data("one long line", "dog and ball " * 400, file="a.txt"),
    _rows("one row", _GOOD[0], words=("only 1", "No row is held out")),
    _rows("two rows", *_GOOD[:2], words=("only",)),
    _rows("twenty equal rows", *[_GOOD[0]] * 20, words=("No row is held out",)),
    _rows("an empty row among good ones", *_GOOD, {"text": " "}, words=("1 rows are left out", "row 13")),
    _rows("an unused column", *({**row, "id": n, "extra": None} for n, row in enumerate(_GOOD))),
    _rows("all forms at once", *_GOOD, {"prompt": "a", "completion": "b"}, {"instruction": "c", "output": "d"}),
    _rows("an empty prompt", *_GOOD, {"prompt": "", "completion": "Once upon a time"}),
    _rows("an instruction with input null", *_GOOD, {"instruction": "c", "input": None, "output": "d"}),
    _rows("emoji and marks", *_GOOD, {"text": "\N{GRINNING FACE} naïve \N{HEBREW LETTER ALEF} \u202e zero\u200bwidth"}),
    _rows("special tokens as text", *_GOOD, {"text": "<s> </s> <|im_end|> <unk>"}),
    _rows("a zero character", *_GOOD, {"text": "a\u0000b"}),
    _rows("a row beyond the limit", *_GOOD, {"text": "dog " * 300}, words=("1 rows are longer than 64", "row 13"), options=("--max-length", "64")),
    _rows("a prompt beyond the limit", *_GOOD, {"prompt": "dog " * 300, "completion": "yes"}, words=("left out", "row 13"), options=("--max-length", "64")),
    Case("data: a link", train(data="{work}/a.jsonl"), [_KEPT], _linked),
    Case("data: a folder", train(data="{work}/set"), [_KEPT], _folder({"train.jsonl": _TEXT, "valid.jsonl": _TEXT, "notes.pdf": "x"})),
    Case("data: a folder with an empty valid file", train(data="{work}/set"), [_KEPT, "No row is held out"], _folder({"train.jsonl": _TEXT, "valid.jsonl": ""})),
    Case("data: a folder whose valid rows are empty", train(data="{work}/set"), [_KEPT, "left out"], _folder({"train.jsonl": _TEXT, "valid.jsonl": '{"text": ""}\n'})),
    Case("data: a folder with validation.json", train(data="{work}/set"), [_KEPT], _folder({"train.txt": "A dog. " * 50, "validation.json": json.dumps(_GOOD)})),
    Case("data: a folder with a slash", train(data="{work}/set/"), [_KEPT], _folder({"train.jsonl": _TEXT})),
    Case("model: a link with blanks", train(model="{work}/my model \N{SNOWMAN}"), [_KEPT], _linked_model),
    Case("model: with an index", train(model="{work}/copy"), [_KEPT], copied(_split_model)),
    Case("model: with a template", train(model="{work}/copy", data="{work}/a.jsonl"), [_KEPT], copied(_with_template)),
    Case("model: rope_parameters", train(model="{work}/copy"), [_KEPT], copied(edited("config.json", rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}))),
    Case("model: unknown settings", train(model="{work}/copy"), [_KEPT], copied(edited("config.json", unheard_of={"x": [1]}))),
    Case("out: in new folders", train("--out", "{work}/new/deep run/\N{SNOWMAN}"), [_KEPT]),
    Case("data-dir: new", ["--data-dir", "{work}/new/root", *train()], [_KEPT]),
    _option("--layers", "all"),
    _option("--layers", "1"),
    _option("--layers", " 1 "),
    _option("--targets", "attention"),
    _option("--targets", "mlp"),
    _option("--targets", "q_proj, v_proj"),
    _option("--targets", "self_attn.q_proj"),
    _option("--targets", "all,attention,q_proj"),
    _option("--val-fraction", "0", words=("No row is held out",)),
    _option("--val-fraction", "0.9"),
    _option("--batch-size", "4096"),
    _option("--grad-accumulation", "50"),
    _option("--max-length", "131072", words=("reads at most 512 tokens",)),
    _option("--max-length", "8"),
    _option("--rank", "1"),
    _option("--rank", "300", words=("Rank 300 is above",)),
    _option("--alpha", "1e-6"),
    _option("--dropout", "0.9"),
    _option("--warmup", "1"),
    _option("--eval-every", "1000000", "--save-every", "1000000", "--sample-every", "1000000"),
    _option("--eval-rows", "1"),
    _option("--patience", "1"),
    _option("--seed", str(2**53)),
    _option("--grad-checkpoint"),
    _option("--preset", "quick"),
    _option("--bits", "32"),
    _option("--bits", "4"),
    _option("--prompt", "one\ntwo\n\nthree"),
    _option("--prompt", ""),
    _option("--prompt", "\N{GRINNING FACE}", "--prompt", " "),
    Case("option: an equals sign", ["train", "--model={model}", "--data={rows}", "--rank=2"], [_KEPT]),
    Case("option: twice, the last counts", train("--rank", "2", "--rank", "3"), [_KEPT]),
    Case("option: short names", ["train", "-m", "{model}", "-d", "{rows}"], [_KEPT]),
    Case(
        "config: a file", ["train", "--config", "{work}/c.toml", "--data", "{rows}"], [_KEPT],
        lambda p: text(p.fill('[model]\nsource = "{model}"\n[adapter]\nlayers = 1\ntargets = ["mlp"]\n'), "c.toml")(p),
    ),
    Case("config: empty", train("--config", "{work}/c.toml"), [_KEPT], text("", "c.toml")),
    Case("config: a run's own", ["train", "--config", "{run}/config.toml"], [_KEPT]),
    Case("config: by a link", train("--config", "{work}/l"), [_KEPT], lambda p: (p.work / "l").symlink_to(p.run / "config.toml")),
    Case("generate: line breaks", ["generate", "--model", "{model}", "--prompt", "a\n\nb", "--max-tokens", "2"], []),
    Case("generate: an empty prompt", ["generate", "--model", "{model}", "--prompt", "", "--max-tokens", "2"], []),
    Case("generate: a prompt with a dash", ["generate", "--model", "{model}", "--prompt", "--help", "--max-tokens", "2"], []),
    Case("generate: strengths", ["generate", "--model", "{model}", "--prompt", "a", "--max-tokens", "2", *(w for s in ("@0", "@.5", "@-1", "@+1.5", "@100") for w in ("--adapter", "{run}/adapter" + s))], ["adapter@.5", "adapter@-1"]),
    Case("generate: an adapter named like a strength", ["generate", "--model", "{model}", "--prompt", "a", "--max-tokens", "2", "--adapter", "{work}/mine@2"], [], lambda p: (p.work / "mine@2").symlink_to(p.run / "adapter")),
    Case("generate: a checkpoint as an adapter", ["generate", "--model", "{model}", "--prompt", "a", "--max-tokens", "2", "--adapter", "{run}/checkpoints/step-000001"], []),
    Case("generate: more tokens than positions", ["generate", "--model", "{model}", "--prompt", "dog " * 250, "--max-tokens", "5000"], []),
    Case("generate: everything at its edge", ["generate", "--model", "{model}", "--prompt", "a", "--max-tokens", "3", "--temperature", "10", "--top-p", "1e-9", "--repetition-penalty", "10", "--seed", str(2**53)], []),
    Case("generate: without template, not raw", ["generate", "--model", "{model}", "--prompt", "a", "--raw", "--max-tokens", "1"], []),
    Case("evaluate: other rows", ["evaluate", "{run}", "--data", "{rows}"], ["base", "adapted"]),
    Case("evaluate: short rows", ["evaluate", "{run}", "--max-length", "8"], ["base", "adapted"]),
    Case("check: a text", ["data", "check", "{work}/a.txt", "--model", "{model}"], ["document"], text("A dog. " * 40, "a.txt")),
    Case("check: one row", ["data", "check", "{work}/a.jsonl", "--model", "{model}"], ["training rows"], text(json.dumps(_GOOD[0]), "a.jsonl")),
    Case("runs: no data folder yet", ["--data-dir", "{work}/none", "runs", "list"], ["No runs yet"]),
    Case("runs: a folder full of other things", ["--data-dir", "{work}", "runs", "list"], ["No runs yet"], each(text("x", "runs/a"), text("x", "runs/b/c"))),
]  # fmt: skip
