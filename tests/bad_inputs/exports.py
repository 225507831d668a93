"""Exports that cannot be made: forms there are not, places that are taken, bases no GGUF holds."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from bad_inputs.adapters import (
    _add,
    _drop,
    _narrow,
    _not_finite,
    _other_base,
    _parameters,
    _tensors,
)
from bad_inputs.case import Case, copied, each, edited, removed, replaced, text
from bad_inputs.models import _not_finite as _base_nan
from bad_inputs.models import _tensors as _weights
from bad_inputs.storage import _unfinished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bad_inputs.case import Make, Places

_WEIGHTS, _CONFIG = "adapters.safetensors", "adapter_config.json"
_OWN = ["--model", "{model}", "--adapter", "{run}/adapter"]


def _export(*options: str, out: str = "{work}/out", form: str = "gguf") -> list[str]:
    """An export of the finished run."""
    return ["export", "{run}", "--format", form, "--out", out, *options]


def _of(model: str, adapter: str, *options: str, form: str = "gguf") -> list[str]:
    """An export of an adapter on a model, unverified: what is wrong must be seen all the same."""
    named = ["--model", model, "--adapter", adapter, "--out", "{work}/out", "--no-verify"]
    return ["export", *named, "--format", form, *options]


_FORMS = [
    Case("export: an unknown format", _export(form="onnx"), ["bad_option", "--format onnx", "gguf-lora", "mlx-fused"]),
    Case("export: an empty format", _export(form=""), ["bad_option", "no such format"]),
    Case("export: a format in capitals", _export(form="GGUF"), ["bad_option", "no such format"]),
    *(Case(f"export: {form} in {quant!r}", _export("--quant", quant, form=form), ["bad_option", "--quant", "no such precision", fix])
      for form, quant, fix in (
          ("gguf", "4", "q4_k_m"), ("gguf", "Q8_0", "q8_0"), ("gguf", "", "f16"), ("gguf", "auto", "f16"),
          ("gguf-lora", "q8_0", "f32"), ("hf", "q8_0", "bf16"), ("hf", "8", "f32"), ("mlx-fused", "q4_0", "auto"),
          ("mlx-fused", "5", "6"), ("ollama", "f32", "q8_0"), ("mlx", "16", "leave --quant away"), ("peft", "f32", "leave --quant away"),
      )),
    *(Case(f"export: {form} with the older form", _export("--legacy-adapter", form=form), ["bad_option", "--legacy-adapter", "Ollama"])
      for form in ("gguf", "gguf-lora", "hf")),
    Case("export: bits 5", ["export", *_OWN, "--bits", "5", "--out", "{work}/out"], ["bad_option", "bits"]),
    Case("export: an unknown option", _export("--quantize"), ["bad_option", "--quantize"]),
]  # fmt: skip

_NAMED = [
    Case("export: nothing named", ["export"], ["bad_option", "no run is named"]),
    Case("export: no such run", ["export", "no-such-run"], ["no_such_run", "no-such-run"]),
    Case("export: an empty run", ["export", ""], ["no_such_run"]),
    Case("export: a model for a run", ["export", "{model}"], ["no_such_run"]),
    Case("export: the second of two runs", ["export", "{run}", "{run}"], ["bad_option"]),
    Case("export: an adapter without a model", ["export", "--adapter", "{run}/adapter", "--out", "{work}/out"], ["bad_option", "add --model"]),
    Case("export: a model without an adapter", ["export", "--model", "{model}", "--out", "{work}/out"], ["bad_option"]),
    Case("export: an adapter and no place", ["export", *_OWN], ["bad_option", "--out FOLDER"]),
    Case("export: an adapter that is not there", ["export", "--model", "{model}", "--adapter", "{work}/no", "--out", "{work}/out"], ["bad_adapter", "no such folder"]),
    Case("export: a model that is not there", ["export", "--model", "{work}/no", "--adapter", "{run}/adapter", "--out", "{work}/out"], ["no_such_model"]),
    Case("export: a run without an adapter", ["export", "{work}/run"], ["no_adapter", "understudy resume"], lambda p: (_unfinished("config.toml", "x", "x")(p), shutil.rmtree(p.work / "run" / "checkpoints"))),
    Case("export: a run whose model is gone", ["export", "{work}/run"], ["no_such_model"], _unfinished("config.toml", "{model}", "/no/model")),
]  # fmt: skip


def _link(target: str) -> Make:
    return lambda places: (places.work / "l").symlink_to(places.fill(target))


_PLACES = [
    Case("export out: a file", _export(out="{rows}"), ["exists", "already there"]),
    Case("export out: a file, overwriting", _export("--overwrite", out="{rows}"), ["exists", "no earlier export"]),
    Case("export out: a folder, overwriting", _export("--overwrite", out="{root}"), ["exists", "no earlier export"], lambda p: (p.root / "x").mkdir(parents=True)),
    Case("export out: somebody's GGUF file, overwriting", _export("--overwrite", out="{work}/a.gguf"), ["exists", "no earlier export"], text(b"GGUF", "a.gguf")),
    Case("export out: a link to a folder", _export("--overwrite", out="{work}/l"), ["exists"], each(text("{}", "there/export.json"), _link("{work}/there"))),
    Case("export out: a link to nothing", _export("--overwrite", out="{work}/l"), ["exists"], _link("{work}/nothing")),
    Case("export out: a device", _export("--overwrite", out="/dev/null"), ["exists"]),
    Case("export out: the root", _export("--overwrite", out="/"), ["bad_option"]),
    Case("export out: the model", _export("--overwrite", out="{model}"), ["bad_option", "where the model"]),
    Case("export out: inside the model", _export(out="{model}/export"), ["bad_option", "where the model"]),
    Case("export out: the adapter", _export("--overwrite", out="{run}/adapter"), ["bad_option", "adapter"]),
    Case("export out: inside the adapter", _export(out="{run}/adapter/a/b"), ["bad_option", "adapter"]),
    Case("export out: the run", _export("--overwrite", out="{run}"), ["bad_option", "adapter"]),
    Case("export out: a file for a folder", _export(out="{work}/a.gguf", form="hf"), ["bad_option", "--out", "folder"]),
    Case("export out: a name too long", _export(out="{work}/" + "n" * 300), ["storage", "shorter name"]),
    Case("export out: inside a file", _export("--no-verify", out="{rows}/out"), ["storage"], late=True),
    Case("export out: deep inside a file", _export("--no-verify", out="{rows}/a/b/out"), ["storage"], late=True),
]  # fmt: skip


def _adapter(name: str, change: Callable[[Path], object], *words: str, form: str = "gguf") -> Case:
    """The run's adapter, changed."""
    arguments = _of("{model}", "{work}/copy", form=form)
    make = copied(change, "adapter")
    return Case(
        f"export of an adapter: {name}", arguments, ["bad_adapter", *words], make, late=True
    )


def _half(weights: dict[str, Any]) -> None:
    """No b for the first a."""
    del weights[next(name for name in sorted(weights) if name.endswith("lora_b"))]


def _other_inputs(weights: dict[str, Any]) -> None:
    name = next(name for name in sorted(weights) if name.endswith("lora_a"))
    weights[name] = weights[name][:-8]


def _flat(weights: dict[str, Any]) -> None:
    weights.update({name: tensor.reshape(-1) for name, tensor in weights.items()})


_ADAPTERS = [
    _adapter("PEFT", replaced(_CONFIG, '{"peft_type": "LORA", "r": 8}'), "PEFT"),
    _adapter("no weights", removed(_WEIGHTS), _WEIGHTS),
    _adapter("config broken", replaced(_CONFIG, "{"), _CONFIG),
    _adapter("cut short", lambda f: replaced(_WEIGHTS, (f / _WEIGHTS).read_bytes()[:-100])(f), "cut short"),
    _adapter("a Git LFS pointer", replaced(_WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), _WEIGHTS),
    _adapter("of another base", _other_base, "trained on", "use the model"),
    _adapter("another rank", _parameters(rank=3), "does not fit"),
    _adapter("too many layers", edited(_CONFIG, num_layers=99), "99 layers"),
    *(_adapter(f"{name}, {form}", _tensors(change), words, form=form)
      for form in ("gguf", "mlx", "peft")
      for name, change, words in (
          ("NaN", _not_finite, "not finite"), ("half a pair", _half, "does not fit"), ("half a pair, the a", _drop, "does not fit"),
          ("a tensor of the base", _add, "does not fit"), ("a narrow tensor", _narrow, "does not fit"),
          ("other inputs", _other_inputs, "does not fit"), ("flat tensors", _flat, "does not fit"),
      )),
]  # fmt: skip


def _vast(weights: dict[str, Any]) -> None:
    weights.update({name: tensor * 0 + 1e30 for name, tensor in weights.items()})


def _foreign(places: Places) -> None:
    """The run's adapter as mlx-lm would have left it: it knows no base."""
    import mlx.core as mx

    folder = places.work / "adapter"
    shutil.copytree(places.run / "adapter", folder)
    tensors: Any = mx.load(str(folder / _WEIGHTS))
    mx.eval(tensors)
    (folder / _WEIGHTS).unlink()
    mx.save_safetensors(str(folder / _WEIGHTS), tensors)


def _base(
    name: str, change: Callable[[Path], object], *words: str, form: str = "gguf",
    options: tuple[str, ...] = (), late: bool = True,
) -> Case:  # fmt: skip
    """The model, changed, with an adapter that takes any base."""
    arguments = _of("{work}/copy", "{work}/adapter", *options, form=form)
    make = each(copied(change), _foreign)
    return Case(f"export of a base: {name}", arguments, ["cannot_export", *words], make, late)


def _tokenizer(kind: str) -> Callable[[Path], object]:
    """A tokenizer of another kind with as many entries."""

    def change(folder: Path) -> None:
        import tokenizers
        from tokenizers import models, pre_tokenizers

        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {word: number for number, word in enumerate(["<unk>", *letters, "ab"])}
        made = {
            "WordPiece": lambda: models.WordPiece(vocab=vocabulary, unk_token="<unk>"),
            "WordLevel": lambda: models.WordLevel(vocab=vocabulary, unk_token="<unk>"),
            "Unigram": lambda: models.Unigram([(word, -1.0) for word in vocabulary], 0, False),
            "BPE": lambda: models.BPE(vocab=vocabulary, merges=[("a", "b")], unk_token="<unk>"),
        }[kind.partition(" ")[0]]()
        inner = tokenizers.Tokenizer(made)
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        split = pre_tokenizers.Split(tokenizers.Regex(r"\d{1,2}|\D+"), "isolated")
        inner.pre_tokenizer = {
            "BPE pattern": pre_tokenizers.Sequence([split, bytes_]),
            "BPE whitespace": pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), bytes_]),
            "BPE spaced": pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),
        }.get(kind, pre_tokenizers.ByteLevel(add_prefix_space=False))
        inner.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text("{}")

    return change


def _normalized(kind: str) -> Callable[[Path], object]:
    """SentencePiece's BPE behind a normalizer of another kind."""

    def change(folder: Path) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        content["normalizer"] = {"type": kind}
        path.write_text(json.dumps(content))

    return change


def _large(weights: dict[str, Any]) -> None:
    name = next(n for n in sorted(weights) if n.endswith("q_proj.weight"))
    weights[name] = weights[name] * 1e6


_SLIDING = {"layer_types": ["sliding_attention"] * 5, "sliding_window": 64}
_BASES = [
    *(_base(f"family {family} as {form}", edited("config.json", model_type=family), f"family {family}", "mlx or peft", form=form, late=False)
      for family, form in (
          ("qwen3_moe", "gguf"), ("mixtral", "gguf"), ("olmoe", "gguf-lora"), ("gpt2", "hf"), ("deepseek_v3", "mlx-fused"),
          ("phimoe", "ollama"), ("nosuch", "gguf"),
      )),
    *(_base(f"positions scaled by {kind}", edited("config.json", rope_scaling={"type": kind, "factor": 2.0}), kind, "positions")
      for kind in ("dynamic", "yarn", "longrope", "su", "mrope")),
    _base("positions scaled anew", edited("config.json", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "dynamic"),
    _base("positions scaled by dynamic, for Ollama", edited("config.json", rope_scaling={"type": "dynamic", "factor": 2.0}), "dynamic", form="ollama"),
    _base("positions scaled by dynamic, the adapter alone", edited("config.json", rope_scaling={"type": "dynamic", "factor": 2.0}), "dynamic", form="gguf-lora"),
    _base("sliding layers", edited("config.json", **_SLIDING), "sliding"),
    _base("sliding layers, for Ollama", edited("config.json", **_SLIDING), "sliding", form="ollama"),
    *(_base(f"a {kind} tokenizer", _tokenizer(kind), "tokenizer") for kind in ("WordPiece", "WordLevel", "Unigram", "BPE pattern", "BPE whitespace", "BPE spaced")),
    *(_base(f"a tokenizer with {kind}", _normalized(kind), "tokenizer", kind) for kind in ("NFKC", "Lowercase", "StripAccents")),
    _base("weights beyond F16", _weights(_large), "too large", "bf16", options=("--quant", "f16")),
    _base("weights beyond F16, as a folder", _weights(_large), "too large", "bf16", form="hf", options=("--quant", "f16")),
]  # fmt: skip

_NO_NUMBERS = [
    *(Case(f"export of a base: NaN, as {form}", _of("{work}/copy", "{work}/adapter", form=form), ["bad_model", "q_proj", "not finite"],
           each(copied(_weights(_base_nan)), _foreign), late=True)
      for form in ("gguf", "hf", "mlx-fused", "ollama")),
    Case("export: an adapter that drowns its base", _of("{model}", "{work}/copy"), ["bad_model", "not finite", "checkpoint"],
         copied(_tensors(_vast), "adapter"), late=True),
]  # fmt: skip

CASES = [*_FORMS, *_NAMED, *_PLACES, *_ADAPTERS, *_BASES, *_NO_NUMBERS]
