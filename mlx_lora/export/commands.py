"""How an export is run in the program it is for. No mlx here."""

from __future__ import annotations

import re
import shlex


def run_command(form: str, model: str, files: list[str], place: str = ".") -> str:
    """How to run an export of `form`: what to type, or the lines of Python.

    `model` is the base's name, `place` the folder the export is in, as the reader gets there.
    """
    file = next((name for name in files if name.endswith(".gguf")), "model.gguf")
    here, gguf = shlex.quote(place), shlex.quote(file if place == "." else f"{place}/{file}")
    modelfile = "Modelfile" if place == "." else shlex.quote(f"{place}/Modelfile")
    name = ollama_name(model)
    commands = {
        "mlx": f"mlx_lm.generate --model {model} --adapter-path {here} --prompt 'Hello'",
        "peft": (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{model}")\n'
            f'model = PeftModel.from_pretrained(base, "{place}")'
        ),
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


def ollama_name(name: str) -> str:
    """A name Ollama takes."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.rpartition("/")[2].lower()).strip("-._")
    return f"{plain or 'model'}-adapted"
