"""Adapter folders that cannot be used, and strengths that make no sense."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bad_inputs.case import Case, copied, edited, removed, replaced, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WEIGHTS, _CONFIG = "adapters.safetensors", "adapter_config.json"


def _ask(adapter: str) -> list[str]:
    return [
        "generate",
        "--model",
        "{model}",
        "--prompt",
        "x",
        "--max-tokens",
        "2",
        "--adapter",
        adapter,
    ]


def _adapter(name: str, change: Callable[[Path], object], *words: str) -> Case:
    make = copied(change, "adapter")
    return Case(f"adapter: {name}", _ask("{work}/copy"), ["bad_adapter", *words], make, late=True)


def _parameters(**changes: Any) -> Callable[[Path], object]:
    """Change `lora_parameters`."""

    def change(folder: Path) -> None:
        path = folder / _CONFIG
        content = json.loads(path.read_text())
        content["lora_parameters"].update(changes)
        path.write_text(json.dumps(content))

    return change


def _tensors(
    change: Callable[[dict[str, Any]], None], *, keep_facts: bool = True
) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        import mlx.core as mx

        path = folder / _WEIGHTS
        weights, metadata = mx.load(str(path), return_metadata=True)
        mx.eval(weights)
        change(weights)
        path.unlink()
        mx.save_safetensors(str(path), weights, metadata if keep_facts else {})

    return rewrite


def _first(weights: dict[str, Any]) -> str:
    return sorted(weights)[0]


def _drop(weights: dict[str, Any]) -> None:
    del weights[_first(weights)]


def _add(weights: dict[str, Any]) -> None:
    weights["model.embed_tokens.weight"] = weights[_first(weights)]


def _narrow(weights: dict[str, Any]) -> None:
    weights[_first(weights)] = weights[_first(weights)][:, :1]


def _not_finite(weights: dict[str, Any]) -> None:
    weights[_first(weights)] = weights[_first(weights)] * float("nan")


def _vast(weights: dict[str, Any]) -> None:
    weights.update({name: tensor * 0 + 1e30 for name, tensor in weights.items()})


def _endless(weights: dict[str, Any]) -> None:
    weights[_first(weights)] = weights[_first(weights)] + float("inf")


def _facts(content: str) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        import mlx.core as mx

        path = folder / _WEIGHTS
        weights = mx.load(str(path))
        mx.eval(weights)
        path.unlink()
        mx.save_safetensors(str(path), weights, {"understudy": content})

    return rewrite


def _other_base(folder: Path) -> None:
    import mlx.core as mx

    path = folder / _WEIGHTS
    weights, metadata = mx.load(str(path), return_metadata=True)
    mx.eval(weights)
    facts = json.loads(metadata["understudy"])
    facts["base_fingerprint"] = "0" * 32
    path.unlink()
    mx.save_safetensors(str(path), weights, {"understudy": json.dumps(facts)})


_FOLDERS = [
    _adapter("PEFT", replaced(_CONFIG, '{"peft_type": "LORA", "r": 8}'), "PEFT"),
    _adapter("DoRA without its lengths", edited(_CONFIG, fine_tune_type="dora"), ".m is missing"),
    _adapter("full fine-tune", edited(_CONFIG, fine_tune_type="full"), "full"),
    _adapter("full", edited(_CONFIG, fine_tune_type="full"), "full"),
    _adapter("kind a list", edited(_CONFIG, fine_tune_type=[]), "kind"),
    _adapter("no config", removed(_CONFIG), _CONFIG),
    _adapter("no weights", removed(_WEIGHTS), _WEIGHTS),
    _adapter("config broken", replaced(_CONFIG, "{"), _CONFIG),
    _adapter("config empty", replaced(_CONFIG, ""), _CONFIG),
    _adapter("config a list", replaced(_CONFIG, "[]"), _CONFIG),
    _adapter("config a text", replaced(_CONFIG, '"peft_type"'), _CONFIG),
    _adapter("config binary", replaced(_CONFIG, b"\xff\xfe"), _CONFIG),
    _adapter("config deep", replaced(_CONFIG, "[" * 5000), _CONFIG),
    _adapter("no layers", edited(_CONFIG, num_layers=None), _CONFIG, "num_layers"),
    _adapter("layers 99", edited(_CONFIG, num_layers=99), "99 layers"),
    _adapter("layers 0", edited(_CONFIG, num_layers=0), "0 layers"),
    _adapter("layers -5", edited(_CONFIG, num_layers=-5), "-5 layers"),
    _adapter("layers text", edited(_CONFIG, num_layers="all"), _CONFIG),
    _adapter("no parameters", edited(_CONFIG, lora_parameters=None), "lora_parameters"),
    _adapter("parameters a list", edited(_CONFIG, lora_parameters=[]), _CONFIG),
    _adapter("rank 0", _parameters(rank=0), "rank 0"),
    _adapter("rank -1", _parameters(rank=-1), "rank -1"),
    _adapter("rank of another training", _parameters(rank=3), "lora_a"),
    _adapter("rank 1e9", _parameters(rank=10**9), "lora_a"),
    _adapter("rank text", _parameters(rank="8"), _CONFIG),
    _adapter("scale nan", _parameters(scale=float("nan")), _CONFIG),
    _adapter("scale 1e30", _parameters(scale=1e30), "scale"),
    _adapter("scale text", _parameters(scale="2"), _CONFIG),
    _adapter("keys of no layer", _parameters(keys=["nosuch"]), "this base needs"),
    _adapter("keys numbers", _parameters(keys=[1]), _CONFIG),
    _adapter("keys text", _parameters(keys="all"), _CONFIG),
    _adapter("weights a Git LFS pointer", replaced(_WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), _WEIGHTS),
    _adapter("weights empty", replaced(_WEIGHTS, ""), _WEIGHTS),
    _adapter("weights cut", lambda f: replaced(_WEIGHTS, (f / _WEIGHTS).read_bytes()[:-100])(f), _WEIGHTS, "cut short"),
    _adapter("a tensor missing", _tensors(_drop), "missing"),
    _adapter("a tensor of the base", _tensors(_add), "embed_tokens"),
    _adapter("a tensor of another shape", _tensors(_narrow), "this base needs"),
    _adapter("no tensor", _tensors(lambda w: w.clear()), "missing"),
    _adapter("numbers that are none", _tensors(_not_finite), "not finite"),
    _adapter("endless numbers", _tensors(_endless), "not finite"),
    _adapter("NaN without our facts", _tensors(_not_finite, keep_facts=False), "not finite"),
    _adapter("facts broken", _facts("{"), "facts"),
    _adapter("facts empty", _facts("{}"), "facts"),
    _adapter("of another base", _other_base, "trained on", "use the model"),
]  # fmt: skip

_PLACES = [
    Case("adapter: numbers that drown the base", _ask("{work}/copy"), ["bad_model", "gives no numbers", "smaller strength"], copied(_tensors(_vast), "adapter"), late=True),
    Case("adapter: missing", _ask("{work}/no"), ["bad_adapter", "no such folder"]),
    Case("adapter: a file", _ask("{rows}"), ["bad_adapter", "no such folder"]),
    Case("adapter: empty name", _ask(""), ["bad_adapter"], late=True),
    Case("adapter: an empty folder", _ask("{work}"), ["bad_adapter", _WEIGHTS], late=True),
    Case("adapter: a model", _ask("{model}"), ["bad_adapter", _WEIGHTS], late=True),
    Case("adapter: a whole run", _ask("{run}"), ["bad_adapter", _WEIGHTS], late=True),
    Case("adapter: nobody's home", _ask("~nosuchuser/a"), ["bad_adapter", "~nosuchuser"]),
    Case("adapter: a name too long", _ask("n" * 300), ["storage", "too long"]),
    Case("adapter: the second", [*_ask("{run}/adapter"), "--adapter", "{work}/no"], ["bad_adapter", "no such folder"]),
    Case("adapter: strength huge", _ask("{run}/adapter@1000000"), ["bad_option", "strength", "100"]),
    Case("adapter: strength beyond all", _ask("{run}/adapter@" + "9" * 100), ["bad_option", "strength"]),
    Case("adapter: strength -1000", _ask("{run}/adapter@-1000"), ["bad_option", "strength"]),
    *(Case(f"adapter: strength {v!r}", _ask("{run}/adapter@" + v), ["bad_adapter", "no such folder", "@STRENGTH"])
      for v in ("", "nan", "inf", "half", "0,5", "1e3", "1.2.3", "--1", "@1", "0.5 ")),
    Case("compare: adapter missing", ["compare", "--model", "{model}", "--adapter", "{work}/no", "--prompt", "x"], ["bad_adapter", "no such folder"]),
    Case("evaluate: adapter missing", ["evaluate", "--model", "{model}", "--adapter", "{work}/no", "--data", "{rows}"], ["bad_adapter", "no such folder"]),
    Case("compare: adapter PEFT", ["compare", "--model", "{model}", "--adapter", "{work}/copy", "--prompt", "x"], ["bad_adapter", "PEFT"], copied(replaced(_CONFIG, '{"peft_type": "LORA"}'), "adapter"), late=True),
    Case("evaluate: adapter PEFT", ["evaluate", "--model", "{model}", "--adapter", "{work}/copy", "--data", "{rows}"], ["bad_adapter", "PEFT"], copied(replaced(_CONFIG, '{"peft_type": "LORA"}'), "adapter"), late=True),
    Case("adapter: with strength, missing", _ask("{work}/no@0.5"), ["bad_adapter", "no such folder"]),
    Case("adapter: a prompt too long", [*_ask("{run}/adapter"), "--prompt", "word " * 2000], ["bad_option", "--prompt", "reads"], late=True),
    Case("adapter: a hub id", _ask("org/adapter"), ["bad_adapter", "no such folder"], text("x", "y")),
]  # fmt: skip

CASES = [*_FOLDERS, *_PLACES]
