"""Model folders that are not what they should be."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from bad_inputs.case import Case, copied, edited, removed, replaced, text, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WEIGHTS = "model.safetensors"
_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1044992\n"


def _model(name: str, change: Callable[[Path], object], *words: str, late: bool = False) -> Case:
    return Case(f"model: {name}", train(model="{work}/copy"), list(words), copied(change), late)


def _config(name: str, words: list[str], late: bool = False, **changes: Any) -> Case:
    return _model(
        f"config {name}",
        edited("config.json", **changes),
        "bad_model",
        "config.json",
        *words,
        late=late,
    )


def _header(entries: dict[str, Any], size: int) -> bytes:
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + bytes(size)


def _entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _tensors(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], object]:
    """Rewrite the weights."""

    def rewrite(folder: Path) -> None:
        import mlx.core as mx

        weights: Any = mx.load(str(folder / _WEIGHTS))
        mx.eval(weights)
        change(weights)
        (folder / _WEIGHTS).unlink()
        mx.save_safetensors(str(folder / _WEIGHTS), weights)

    return rewrite


def _not_finite(weights: dict[str, Any]) -> None:
    name = next(n for n in weights if n.endswith("q_proj.weight"))
    weights[name] = weights[name] * float("nan")


def _wrong_shape(weights: dict[str, Any]) -> None:
    name = next(n for n in weights if n.endswith("q_proj.weight"))
    weights[name] = weights[name][:8]


def _one_less(weights: dict[str, Any]) -> None:
    del weights[next(n for n in weights if n.endswith("q_proj.weight"))]


def _one_more(weights: dict[str, Any]) -> None:
    weights["model.extra.weight"] = weights["model.norm.weight"]


def _index(content: Any) -> Callable[[Path], object]:
    return replaced("model.safetensors.index.json", json.dumps(content))


def _cut(folder: Path) -> None:
    replaced(_WEIGHTS, (folder / _WEIGHTS).read_bytes()[:-1000])(folder)


def _twice(folder: Path) -> None:
    (folder / "model-2.safetensors").write_bytes((folder / _WEIGHTS).read_bytes())


def _pickles(folder: Path) -> None:
    (folder / _WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")


_MISSING = [
    Case("model: missing", train(model="{work}/no"), ["no_such_model", "no such folder", "demo"]),
    Case("model: a file", train(model="{rows}"), ["no_such_model", "a file", "config.json"]),
    Case("model: an empty folder", train(model="{work}"), ["bad_model", "no config.json"]),
    Case("model: not on this machine", train(model="nobody/no-such-model-x"), ["no_such_model", "nobody/no-such-model-x", "not on this machine"]),
    Case("model: an address", train(model="https://huggingface.co/a/b"), ["no_such_model"]),
    Case("model: near demo", train(model="Demo"), ["no_such_model", "demo"]),
    Case("model: three parts", train(model="a/b/c"), ["no_such_model"]),
    Case("model: upwards", train(model="../../no/such"), ["no_such_model"]),
    Case("model: a hub id with dots", train(model="../x"), ["no_such_model"]),
    Case("model: a name too long", train(model="n" * 300), ["no_such_model"]),
    Case("model: nobody's home", train(model="~nosuchuser/m"), ["no_such_model", "~nosuchuser"]),
    Case("model: a link to nothing", train(model="{work}/m"), ["no_such_model"], lambda p: (p.work / "m").symlink_to(p.work / "x")),
    Case("model: only config.json", train(model="{work}/m"), ["bad_model"], text("{}", "m/config.json")),
    Case("generate: missing model", ["generate", "--model", "{work}/no", "--prompt", "x"], ["no_such_model"]),
    Case("generate: damaged model", ["generate", "--model", "{work}/copy", "--prompt", "x"], ["damaged_model", "Git LFS"], copied(replaced(_WEIGHTS, _LFS))),
    Case("compare: missing model", ["compare", "--model", "{work}/no", "--adapter", "{run}/adapter", "--prompt", "x"], ["no_such_model"]),
    Case("evaluate: missing model", ["evaluate", "--model", "{work}/no", "--adapter", "{run}/adapter", "--data", "{rows}"], ["no_such_model"]),
    Case("check: missing model", ["data", "check", "{rows}", "--model", "{work}/no"], ["no_such_model"]),
    Case("check: damaged model", ["data", "check", "{rows}", "--model", "{work}/copy"], ["damaged_model", "cut short"], copied(_cut)),
]  # fmt: skip

_CONFIGS = [
    _model("config no JSON", replaced("config.json", "{"), "bad_model", "config.json", "JSON"),
    _model("config empty", replaced("config.json", ""), "bad_model", "config.json", "JSON"),
    _model("config a list", replaced("config.json", "[]"), "bad_model", "no JSON object"),
    _model("config binary", replaced("config.json", b"\xff\xfe\x00"), "bad_model", "config.json"),
    _model("config deep", replaced("config.json", "[" * 5000), "bad_model", "config.json"),
    _model("config a web page", replaced("config.json", "<!doctype html>"), "bad_model", "JSON"),
    *(_config(f"without {key}", [f"{key} is missing"], **{key: None}) for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")),
    *(_config(f"{key} {value!r}", [key, "whole number", repr(value)], **{key: value})
      for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
      for value in (0, -1, "64", 1.5, True, [])),
    _config("huge width", ["hidden_size", "1000000000"], hidden_size=10**9),
    _config("huge depth", ["num_hidden_layers", "10000000"], num_hidden_layers=10**7),
    _config("huge heads", ["num_attention_heads"], num_attention_heads=10**9),
    _config("huge inner width", ["intermediate_size"], intermediate_size=10**12),
    _config("vocabulary beyond the weights", ["vocab_size is 9,999", "entries"], vocab_size=9999),
    _config("layers beyond the weights", ["num_hidden_layers is 9", "hold"], num_hidden_layers=9),
    _config("heads that do not divide", ["hidden_size", "num_attention_heads 7"], head_dim=None, num_attention_heads=7, num_key_value_heads=7),
    _config("shared heads that do not divide", ["num_key_value_heads 3"], num_key_value_heads=3),
    _config("eps 0", ["rms_norm_eps"], rms_norm_eps=0),
    _config("eps negative", ["rms_norm_eps"], rms_norm_eps=-1e-5),
    _config("eps text", ["rms_norm_eps"], rms_norm_eps="small"),
    _config("eps true", ["rms_norm_eps"], rms_norm_eps=True),
    _config("theta 0", ["rope_theta"], rope_theta=0),
    _config("theta text", ["rope_theta"], rope_theta="10000"),
    _config("rope a list", ["rope_parameters"], rope_parameters=[1]),
    _config("rope without theta", ["rope_theta"], rope_theta=None, rope_parameters={"rope_type": "default"}),
    _config("text_config a list", ["text_config"], text_config=[]),
    _config("type a path", ["model_type"], model_type="../../x"),
    _config("type a number", ["model_type"], model_type=3),
    _config("type empty", ["model_type"], model_type=""),
    _config("own code", ["Python code", "never"], model_file="../../x.py"),
    _config("own code by auto_map", ["Python code"], auto_map={"AutoModel": "x.Y"}),
    _model("of an unknown family", edited("config.json", model_type="nosuch"), "unsupported_model", "nosuch", late=True),
    _model("of a family that is a part", edited("config.json", model_type="cache"), "unsupported_model", "cache", late=True),
    _model("a key its family needs", edited("config.json", intermediate_size=None), "bad_model", "intermediate_size", late=True),
    _model("layers below the weights", edited("config.json", num_hidden_layers=2), "bad_model", "unknown", late=True),
    _model("inner width", edited("config.json", intermediate_size=100), "bad_model", "shape", late=True),
    _model("quantized by others", edited("config.json", quantization_config={"quant_method": "gptq"}), "bad_model", "another program", late=True),
    _model("quantization a list", edited("config.json", quantization=[4]), "bad_model", "quantization", late=True),
    _model("generation_config broken", replaced("generation_config.json", "{"), "bad_model", "generation_config.json"),
    _model("generation_config a list", replaced("generation_config.json", "[]"), "bad_model", "generation_config.json"),
]  # fmt: skip

_FILES = [
    _model("only pickles", _pickles, "no_weights", "pytorch_model.bin", "pickle", "safetensors"),
    _model("no weights", removed(_WEIGHTS), "no_weights", "safetensors"),
    _model("a Git LFS pointer", replaced(_WEIGHTS, _LFS), "damaged_model", "Git LFS pointer", "download"),
    _model("a web page", replaced(_WEIGHTS, "<!DOCTYPE html><html>" + " " * 500), "damaged_model", "web page"),
    _model("an empty file", replaced(_WEIGHTS, b""), "damaged_model", _WEIGHTS),
    _model("seven bytes", replaced(_WEIGHTS, b"1234567"), "damaged_model", _WEIGHTS),
    _model("zeros", replaced(_WEIGHTS, bytes(4096)), "damaged_model", _WEIGHTS),
    _model("cut short", _cut, "damaged_model", "cut short", "bytes"),
    _model("an endless header", replaced(_WEIGHTS, struct.pack("<Q", 2**62) + b"{}"), "damaged_model"),
    _model("a header that is no JSON", replaced(_WEIGHTS, struct.pack("<Q", 8) + b"notjson!"), "damaged_model", "contents"),
    _model("a header that is a list", replaced(_WEIGHTS, struct.pack("<Q", 2) + b"[]"), "damaged_model", "contents"),
    _model("overlapping tensors", replaced(_WEIGHTS, _header({"a": _entry(0, 16, [4]), "b": _entry(8, 24, [4])}, 24)), "damaged_model", "overlap"),
    _model("a gap", replaced(_WEIGHTS, _header({"a": _entry(0, 16, [4]), "b": _entry(32, 48, [4])}, 48)), "damaged_model", "gap"),
    _model("an unknown type", replaced(_WEIGHTS, _header({"a": _entry(0, 16, [4], "F31")}, 16)), "damaged_model", "contents"),
    _model("a negative shape", replaced(_WEIGHTS, _header({"a": _entry(0, 16, [-4])}, 16)), "damaged_model", "contents"),
    _model("a shape of another size", replaced(_WEIGHTS, _header({"a": _entry(0, 16, [5])}, 16)), "damaged_model", "contents"),
    _model("an entry that is a number", replaced(_WEIGHTS, _header({"a": 3}, 0)), "damaged_model", "contents"),
    _model("ranges that are texts", replaced(_WEIGHTS, _header({"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}, 4)), "damaged_model", "contents"),
    _model("a shape that is text", replaced(_WEIGHTS, _header({"a": {"dtype": "F32", "shape": "11", "data_offsets": [0, 4]}}, 4)), "damaged_model", "contents"),
    _model("a tensor in two files", _twice, "damaged_model", "in two files"),
    _model("an index with a missing part", _index({"weight_map": {"a": "model-00001-of-00002.safetensors"}}), "missing_shard", "model-00001-of-00002.safetensors"),
    _model("an index that leaves the folder", _index({"weight_map": {"a": "../x.safetensors"}}), "damaged_model", "outside"),
    _model("an index of numbers", _index({"weight_map": {"a": 3}}), "damaged_model"),
    _model("an index of a number and a name", _index({"weight_map": {"a": 3, "b": "x"}}), "damaged_model"),
    _model("an index without a map", _index({}), "damaged_model", "index"),
    _model("an index that is a list", _index([]), "damaged_model", "index"),
    _model("an index with a list for a map", _index({"weight_map": []}), "damaged_model", "index"),
    _model("an index that is no JSON", replaced("model.safetensors.index.json", "{"), "damaged_model", "index"),
    _model("an index of nothing", _index({"weight_map": {}}), "damaged_model", "names no file"),
    _model("a missing tensor", _tensors(_one_less), "bad_model", "missing", "q_proj", late=True),
    _model("an unknown tensor", _tensors(_one_more), "bad_model", "unknown", "model.extra.weight", late=True),
    _model("a tensor of another shape", _tensors(_wrong_shape), "bad_model", "q_proj", "shape", late=True),
    _model("weights that are no numbers", _tensors(_not_finite), "bad_model", "numbers", late=True),
    Case("generate: weights that are no numbers", ["generate", "--model", "{work}/copy", "--prompt", "x"], ["bad_model", "numbers"], copied(_tensors(_not_finite)), late=True),
    Case("evaluate: weights that are no numbers", ["evaluate", "--model", "{work}/copy", "--adapter", "{run}/adapter", "--data", "{rows}"], ["bad_model", "numbers"], copied(_tensors(_not_finite)), late=True),
]  # fmt: skip


def _chat(template: str) -> Callable[[Path], object]:
    return edited("tokenizer_config.json", chat_template=template)


def _conversation(name: str, template: str, *words: str) -> Case:
    def change(folder: Path) -> None:
        _chat(template)(folder)
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bee"}]
        (folder.parent / "chat.jsonl").write_text(json.dumps({"messages": turns}) + "\n")

    return Case(
        f"template: {name}", train(model="{work}/copy", data="{work}/chat.jsonl"),
        ["bad_template", *words], copied(change), late=True,
    )  # fmt: skip


_TOKENIZERS = [
    _model("no tokenizer", removed("tokenizer.json"), "bad_model", "tokenizer.json", "missing", late=True),
    _model("a broken tokenizer", replaced("tokenizer.json", "{"), "bad_model", "tokenizer.json", "cannot be read", late=True),
    _model("an empty tokenizer", replaced("tokenizer.json", ""), "bad_model", "tokenizer.json", late=True),
    _model("a tokenizer of nothing", replaced("tokenizer.json", "{}"), "bad_model", "tokenizer.json", late=True),
    _model("tokenizer a Git LFS pointer", replaced("tokenizer.json", _LFS), "bad_model", "tokenizer.json", late=True),
    _model("tokenizer_config broken", replaced("tokenizer_config.json", "{"), "bad_model", "tokenizer_config.json", late=True),
    _model("tokenizer_config a list", replaced("tokenizer_config.json", "[]"), "bad_model", "tokenizer_config.json", late=True),
    _model("special_tokens_map binary", replaced("special_tokens_map.json", b"\xff"), "bad_model", "special_tokens_map.json", late=True),
    _conversation("no template", "{% if %}", "no valid template"),
    _conversation("an endless loop", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "longer than"),
    _conversation("an endless text", "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "characters"),
    _conversation("a refusal", "{{ raise_exception('only one turn') }}", "only one turn"),
    _conversation("an answer left out", "{{ messages[0].content }}", "leaves an answer out"),
    _conversation("the inside of Python", "{{ messages.__class__.__mro__ }}{{ ''.__class__.__init__.__globals__ }}", "refuses"),
    _conversation("a file", "{% include '/etc/passwd' %}", "template"),
]  # fmt: skip


def _foreign_ids(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"].append(
        {"id": 9999, "content": "<far>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    )  # fmt: skip
    content["model"]["vocab"] = _with_far(content["model"]["vocab"])
    path.write_text(json.dumps(content))


def _with_far(vocabulary: Any) -> Any:
    if isinstance(vocabulary, dict):
        return {**vocabulary, "<far>": 9999}
    return [*vocabulary, *([f"<far{n}>", -10.0] for n in range(9999))]


_TOKENIZERS.append(
    _model("ids beyond the model", _foreign_ids, "bad_model", "tokenizer.json", "entries", late=True)
)  # fmt: skip

CASES = [*_MISSING, *_CONFIGS, *_FILES, *_TOKENIZERS]
