"""How an export is run in the program it is for. No mlx here."""

from __future__ import annotations

import re
import shlex

from mlx_lora.export.folder import TEMPLATE

_PEFT = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{model}")
model = PeftModel.from_pretrained(base, "{place}")"""


def run_command(form: str, model: str, files: list[str], place: str = ".") -> str:
    """How to run an export of `form`: what to type, or the lines of Python.

    `model` is the base's name, `place` the folder the export is in, as the reader gets there.
    """
    file = next((name for name in files if name.endswith(".gguf")), "model.gguf")
    here, gguf = shlex.quote(place), shlex.quote(file if place == "." else f"{place}/{file}")
    modelfile = "Modelfile" if place == "." else shlex.quote(f"{place}/Modelfile")
    name = ollama_name(model)
    template = next((file for file in files if file.endswith(TEMPLATE)), "")
    if template and form in {"mlx", "peft", "gguf-lora"}:
        there = template if place == "." else f"{place}/{template}"
        return _asked_by(there, form, model, place, gguf)
    commands = {
        "mlx": f"mlx_lm.generate --model {model} --adapter-path {here} --prompt 'Hello'",
        "peft": _PEFT.format(model=model, place=place),
        "gguf-lora": (
            f"llama-cli -m BASE.gguf --lora {gguf} -p 'Hello'      # BASE: the base as GGUF"
        ),
        "gguf": f"llama-cli -m {gguf} -p 'Hello'\nlms import {gguf}",
        "hf": (
            "from transformers import AutoModelForCausalLM\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{place}")'
        ),
        "mlx-fused": f"mlx_lm.generate --model {here} --prompt 'Hello'",
        "ollama": f"ollama create {name} -f {modelfile}\nollama run {name}",
    }
    return commands[form]


def _asked_by(template: str, form: str, model: str, place: str, gguf: str) -> str:
    """How to run an adapter whose base has no chat template: with the file beside the adapter."""
    here, there = shlex.quote(place), shlex.quote(template)
    commands = {
        "mlx": (
            f'mlx_lm.server --model {model} --adapter-path {here} --chat-template "$(cat {there})"'
        ),
        "peft": (
            "from pathlib import Path\n"
            f"{_PEFT.format(model=model, place=place)}\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{model}")\n'
            f'tokenizer.chat_template = Path("{template}").read_text()'
        ).replace("import AutoModelForCausalLM", "import AutoModelForCausalLM, AutoTokenizer"),
        "gguf-lora": (
            f"llama-cli -m BASE.gguf --lora {gguf} --jinja --chat-template-file {there}"
            "      # BASE: the base as GGUF"
        ),
    }
    return commands[form]


def ollama_name(name: str) -> str:
    """A name Ollama takes."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.rpartition("/")[2].lower()).strip("-._")
    return f"{plain or 'model'}-adapted"
