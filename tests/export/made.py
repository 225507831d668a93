"""Models, adapters and exports for these tests, and what mlx and llama.cpp say of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter, make_model, randomize_adapter

from mlx_lora import __version__, events
from mlx_lora.child import Child
from mlx_lora.config import ModelConfig
from mlx_lora.control import Control
from mlx_lora.export import gguf_file
from mlx_lora.export.export import export
from mlx_lora.export.gguf_model import plan_model, rope_context
from mlx_lora.export.source import Source
from mlx_lora.export.verdict import log_probabilities
from mlx_lora.jobs import ExportJob, LlamaJob
from mlx_lora.lora.store import AdapterFacts, load_adapter, save_adapter
from mlx_lora.models.loading import load_model
from mlx_lora.models.tokenizer import read_tokenizer

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo" / "model"
TOKENIZERS = (ROOT.parent / "shared" / "data" / "tokenizers").resolve()
# embeddings of the real models these tokenizers belong to; `demo` is bundled, `bytes` has no merges
SIZES = {
    "bytes": 272, "demo": 4096, "llama2": 32000, "phi3": 32064, "llama3": 128256,
    "qwen3": 151936, "gemma3": 262144,
}  # fmt: skip
TEXTS = ("Once upon a time there was a king's son.", "def f(x):\n    return 12 + x\n")
LONGROPE = {
    "original_max_position_embeddings": 32,
    "max_position_embeddings": 256,
    "rope_scaling": {
        "type": "longrope",
        "long_factor": [1.0 + number / 2 for number in range(8)],
        "short_factor": [1.0] * 8,
    },
}
LEAST_EFFECT = 0.05  # nats: an adapter that changes less than this proves nothing


class Pair(NamedTuple):
    """A base and an adapter on it."""

    model: Path
    adapter: Path
    bits: str = "keep"


def make_base(folder: Path, family: str, tokenizer: str = "demo", **changes: Any) -> Path:
    """A random model with a real tokenizer; skips where ../shared, which has most, is absent."""
    source = DEMO if tokenizer == "demo" else TOKENIZERS / tokenizer
    if tokenizer != "bytes" and not source.is_dir():
        pytest.skip("../shared is not here")
    make_model(folder, family, vocab_size=SIZES[tokenizer], **changes)
    if tokenizer != "bytes":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(source / name, folder / name)
        _name_ends(folder)
    return folder


def _name_ends(folder: Path) -> None:
    """config.json names the tokenizer's own begin and end, as a real one does."""
    tokenizer, path = read_tokenizer(folder, [], 1 << 20), folder / "config.json"
    ends = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    path.write_text(json.dumps(json.loads(path.read_text()) | ends))


def pack(folder: Path, bits: int = 4) -> Path:
    """Make it a folder that is MLX-quantized on disk, groups of 32."""
    module = load_model(str(folder)).module
    nn.quantize(module, group_size=32, bits=bits)
    weights = dict(nn.utils.tree_flatten(module.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": bits}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def make_pair(
    folder: Path, model: Path, bits: str = "keep", *, size: float = 0.1, **shape: Any
) -> Pair:
    """A random adapter on a model, big enough to prove something. `shape` as AdapterConfig."""
    base = load_model(str(model), bits)
    adapter = attach_adapter(base.module, **{"alpha": 6.0, "rank": 4, **shape})
    randomize_adapter(adapter, size=size)
    ids = mx.array([base.tokenizer.encode_document(TEXTS[0])])
    adapted = log_probabilities(np.array(base.module(ids).astype(mx.float32)))
    with adapter.disabled():
        before = log_probabilities(np.array(base.module(ids).astype(mx.float32)))
    assert np.abs(adapted - before).mean() >= LEAST_EFFECT
    facts = AdapterFacts(
        base_name=base.name, base_fingerprint=base.fingerprint, bits=bits, prompt_style="raw",
        template_sha256="", settings={}, step=1, version=__version__,
    )  # fmt: skip
    save_adapter(folder, adapter.tensors(), adapter.shape, facts)
    return Pair(model, folder, bits)


def run_export(pair: Pair, name: str, quant: str, out: Path, **options: Any) -> dict[str, Any]:
    """Export in this process; returns what the report says: the verdict and the files."""
    job = ExportJob(
        model=ModelConfig(source=str(pair.model), bits=pair.bits), adapter=str(pair.adapter),
        format=name, quant=quant, out=str(out), root=str(out.parent / "home"), **options,
    )  # fmt: skip
    said = list(export(job, Control()))
    assert isinstance(said[-1], events.Finished)
    return next(e.data for e in said if isinstance(e, events.Report) and e.kind == "export")


def gguf_in(folder: Path) -> Path:
    """The one GGUF file of an export."""
    (found,) = folder.glob("*.gguf")
    return found


def write_base(pair: Pair, path: Path, quant: str = "f32") -> Path:
    """The base alone as GGUF, for an adapter to be put on."""
    for _ in gguf_file.write(path, plan_model(Source(str(pair.model), pair.bits, None), quant)):
        pass
    return path


def rows_of(pair: Pair) -> tuple[tuple[int, ...], ...]:
    """Rows to compare on: what `TEXTS` are to the model."""
    tokenizer = Source(str(pair.model), pair.bits, None).tokenizer
    return tuple(tuple(tokenizer.encode_document(text)) for text in TEXTS)


def ours(pair: Pair) -> np.ndarray:
    """log p of base with adapter in the app, over the whole vocabulary (positions, vocabulary)."""
    base = load_model(str(pair.model), pair.bits)
    load_adapter(pair.adapter, base).train(False)
    logits = [base.module(mx.array([row]))[0].astype(mx.float32) for row in rows_of(pair)]
    return log_probabilities(np.concatenate([np.array(part) for part in logits]))


def theirs(pair: Pair, model: Path, adapter: Path | None = None) -> np.ndarray:
    """The same of a GGUF file in llama.cpp, in a process of its own."""
    rows, logits = rows_of(pair), model.with_name("said.f32")
    job = LlamaJob(
        model=str(model),
        adapter=str(adapter) if adapter else None,
        rows=rows,
        logits=str(logits),
        context=rope_context(Source(str(pair.model), pair.bits, None)),
    )
    ask(job)
    said = np.fromfile(logits, np.float32).reshape(sum(map(len, rows)), -1)
    logits.unlink()
    return log_probabilities(said)


def ask(job: LlamaJob) -> dict[str, Any]:
    """What llama.cpp reports of a file."""
    child = Child(job)
    said = [event.data for event in child.read() if isinstance(event, events.Report)]
    outcome = child.outcome()
    assert isinstance(outcome, events.Finished), outcome
    return said[0]


class Distance(NamedTuple):
    """How far two models are apart: largest |d log p|, share of equal next tokens."""

    largest: float
    top1: float


def distance(one: np.ndarray, other: np.ndarray) -> Distance:
    """Over all positions and the whole vocabulary."""
    same = one.argmax(-1) == other.argmax(-1)
    return Distance(float(np.abs(one - other).max()), float(same.mean()))
