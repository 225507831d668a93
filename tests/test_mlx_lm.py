"""There and back with mlx-lm: what we train, it loads, and says the same words with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_lora.models.loading import load_model
from mlx_lora.models.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PROMPTS = ("Once upon a time", "FIRST:\n", "The cat")
TOKENS = 40
# mlx's CPU graph compiler stays off and OpenBLAS comes first, as in our own process
_ASK = """
import json, sys
from mlx_lora import blas; blas.prepare()
import mlx_lm
from mlx_lm.sample_utils import make_sampler
source, adapter, prompts, count = json.loads(sys.argv[1])
model, tokenizer = mlx_lm.load(source, adapter_path=adapter)
answers = []
for prompt in prompts:
    steps = mlx_lm.stream_generate(
        model, tokenizer, tokenizer.encode(prompt), max_tokens=count, sampler=make_sampler(temp=0.0)
    )
    answers.append([step.token for step in steps])
print(json.dumps(answers))
"""


def ask_mlx_lm(model: Path, adapter: Path | None) -> list[str]:
    """Its tokens as text; its own detokenizer drops the space in front of the first."""
    given = json.dumps([str(model), str(adapter) if adapter else None, PROMPTS, TOKENS])
    done = subprocess.run(
        [sys.executable, "-c", _ASK, given], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    tokenizer, answers = read_tokenizer(model, [], 512), []
    for prompt, tokens in zip(PROMPTS, json.loads(done.stdout.splitlines()[-1]), strict=True):
        before = tokenizer.encode_document(prompt)
        answers.append(tokenizer.decode(before + tokens)[len(tokenizer.decode(before)) :])
    return answers


def ask_us(understudy: Callable[..., Any], model: Path, adapter: Path | None) -> list[str]:
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    voice = ["--adapter", str(adapter)] if adapter else []
    done = understudy(
        *("generate", "--model", str(model), *voice, *prompts, "--json", "--temperature", "0"),
        *("--max-tokens", str(TOKENS), "--raw"),
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    report = next(event for event in events if event.get("kind") == "generate")
    return [row["text"] for row in report["data"]["rows"]]


def packed(source: Path, folder: Path) -> Path:
    """An MLX-quantized copy (groups of 64 where the width allows) with float32 scales."""
    base = load_model(str(source))

    def choose(_: str, part: nn.Module) -> bool:
        return hasattr(part, "to_quantized") and part.weight.shape[-1] % 64 == 0

    nn.quantize(base.module, group_size=64, bits=4, class_predicate=choose)
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    weights = dict(nn.utils.tree_flatten(base.module.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 64, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("form", ["float32", "4-bit"])
def test_an_adapter_of_ours_speaks_the_same_in_mlx_lm(
    understudy: Callable[..., Any], stories: Path, tiny_text: Path, tmp_path: Path, form: str
) -> None:
    model = stories if form == "float32" else packed(stories, tmp_path / "packed")
    run = tmp_path / "run"
    done = understudy(
        *("train", "--model", str(model), "--data", str(tiny_text), "--out", str(run)),
        *("--steps", "12", "--learning-rate", "5e-3", "--max-length", "64", "--rank", "8"),
    )
    assert done.returncode == 0, done.stderr
    adapter = run / "adapter"
    assert (adapter / "adapters.safetensors").is_file()
    ours, theirs = ask_us(understudy, model, adapter), ask_mlx_lm(model, adapter)
    assert ours == theirs
    assert all(len(text) > 20 for text in ours)
    base = ask_us(understudy, model, None)
    assert base == ask_mlx_lm(model, None)
    assert all(a != b for a, b in zip(base, ours, strict=True))
    command = subprocess.run(
        [
            *(sys.executable, "-m", "mlx_lm", "generate", "--model", str(model)),
            *("--adapter-path", str(adapter), "--prompt", PROMPTS[0], "--temp", "0"),
            *("--max-tokens", str(TOKENS), "--ignore-chat-template"),
        ],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert command.returncode == 0, command.stderr
    assert ours[0].strip() in command.stdout
