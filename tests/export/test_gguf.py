"""GGUF models and adapters: llama.cpp says what the app says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import gguf
import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from made import (
    DEMO,
    LONGROPE,
    Pair,
    distance,
    gguf_in,
    make_base,
    make_pair,
    ours,
    pack,
    run_export,
    theirs,
    write_base,
)
from models_made import GEMMA, LLAMA3_ROPE

from mlx_lora.errors import UserError
from mlx_lora.export import ggml
from mlx_lora.export.formats import FORMATS
from mlx_lora.export.gguf_file import LOSS, Planned, encode
from mlx_lora.export.gguf_kinds import kind_of
from mlx_lora.export.gguf_model import ARCHITECTURES
from mlx_lora.export.gguf_reader import read_gguf
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling
from mlx_lora.lora.store import load_adapter
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from pathlib import Path

EXACT, GELU = 2e-3, 2e-2  # nats; ggml's CPU GELU, which Gemma uses, is a table in F16
ATTENTION, BOTH = ("attention",), ("attention", "mlp")
SIX_LAYERS = {
    "num_hidden_layers": 7, "sliding_window_pattern": 6,
    "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
}  # fmt: skip


class Case(NamedTuple):
    """A base and where its adapter goes; `bits` 4d is a folder that is packed on disk."""

    family: str
    tokenizer: str
    bits: str
    targets: tuple[str, ...]
    layers: Any
    changes: dict[str, Any]

    @property
    def name(self) -> str:
        where = f"{'+'.join(self.targets)}-{self.layers}"
        return "-".join([self.family, self.tokenizer, self.bits, where, *self.changes])


QUICK = (
    Case("llama", "demo", "keep", BOTH, "all", {"rope_scaling": LLAMA3_ROPE}),
    Case("gemma3_text", "demo", "keep", BOTH, "all", {}),
    Case("qwen3", "demo", "4d", BOTH, "all", {}),
    Case("phi3", "demo", "keep", BOTH, "all", LONGROPE),
)
# the tokenizers these families really have, 128 k entries and more, and what else takes its time
SLOW = (
    Case("gemma2", "demo", "4", BOTH, 1, {}),
    Case("llama", "llama2", "4", ATTENTION, "all", {"tied": False}),
    Case("mistral", "demo", "8", BOTH, 1, {"num_key_value_heads": 1}),
    Case("qwen2", "demo", "8", ATTENTION, "all", {"tied": False}),
    Case("llama", "llama3", "4", BOTH, "all", {"rope_scaling": LLAMA3_ROPE}),
    Case("gemma3_text", "gemma3", "4", ATTENTION, 1, SIX_LAYERS),
    Case("gemma2", "gemma3", "keep", BOTH, "all", {}),
    Case("qwen2", "qwen3", "keep", BOTH, 1, {}),
    Case("qwen3", "qwen3", "8", BOTH, "all", {"tied": False}),
    Case("mistral", "llama2", "keep", ATTENTION, "all", {"tied": False}),
    Case("phi3", "phi3", "4", BOTH, 1, {"tied": False}),
    Case("phi3", "phi3", "keep", BOTH, "all", {"tied": False, **LONGROPE}),
    Case("phi3", "phi3", "8", ATTENTION, "all", {"partial_rotary_factor": 0.5}),
    Case("llama", "demo", "keep", BOTH, "all", {"attention_bias": True}),
    Case(
        "llama", "demo", "4d", BOTH, "all", {"rope_scaling": {"type": "linear", "factor": 4.0}}
    ),
)  # fmt: skip
CASES = [
    *(pytest.param(case, id=case.name) for case in QUICK),
    *(pytest.param(case, id=case.name, marks=pytest.mark.slow) for case in SLOW),
]


def pair_of(case: Case, folder: Path) -> Pair:
    model = make_base(folder / "model", case.family, case.tokenizer, **case.changes)
    bits = case.bits
    if bits == "4d":
        pack(model)
        bits = "keep"
    return make_pair(
        folder / "adapter", model, bits, targets=case.targets, layers=case.layers
    )  # fmt: skip


def limit(family: str) -> float:
    return GELU if family in GEMMA else EXACT


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_says_what_the_app_says(case: Case, tmp_path: Path) -> None:
    """Merged as its verifier sees it, base with adapter as we see it ourselves: F32 both."""
    pair = pair_of(case, tmp_path)
    merged = run_export(pair, "gguf", "f32", tmp_path / "merged")
    assert merged["by"] == "llama.cpp"
    assert merged["texts"] == 500
    assert merged["difference"]["largest"] <= limit(case.family)
    assert merged["difference"]["top1"] == 1.0
    assert merged["difference"]["effect"] >= 0.05
    assert merged["tensor_error"] == {"F32": 0.0}

    run_export(pair, "gguf-lora", "f32", tmp_path / "lora", verify=False)
    base = write_base(pair, tmp_path / "base.gguf")
    apart = distance(ours(pair), theirs(pair, base, gguf_in(tmp_path / "lora")))
    assert apart.largest <= limit(case.family)
    assert apart.top1 == 1.0
    # the base alone is far away: the adapter was really put on
    assert distance(ours(pair), theirs(pair, base)).largest > 0.5


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The bundled model, real words, with an adapter that leaves it speaking."""
    return make_pair(tmp_path_factory.mktemp("demo") / "adapter", DEMO, size=0.05)


def test_the_verifier_measures_what_we_measure(demo: Pair, tmp_path: Path) -> None:
    """Its own figures and ours, on other texts, of the same file: of the same size."""
    said = run_export(demo, "gguf", "q8_0", tmp_path / "out")
    apart = distance(ours(demo), theirs(demo, gguf_in(tmp_path / "out")))
    assert 0.1 < apart.largest / said["difference"]["largest"] < 10


def test_an_adapter_is_checked_on_its_base(demo: Pair, tmp_path: Path) -> None:
    for quant, most in (("f32", EXACT), ("f16", 0.15)):
        said = run_export(demo, "gguf-lora", quant, tmp_path / quant)
        assert said["by"] == "llama.cpp"
        assert said["difference"]["largest"] <= most


# of random models, which amplify errors (interop.md, 4): max |d log p|, top-1, effect's error
ROUNDED = {"f16": (0.15, 0.97, 1e-2), "q8_0": (3.0, 0.85, 0.15), "bf16": (1.0, 0.9, 0.1)}


@pytest.mark.parametrize(
    ("family", "quant"),
    [
        ("llama", "f16"),
        ("gemma3_text", "q8_0"),
        pytest.param("llama", "q8_0", marks=pytest.mark.slow),
        pytest.param("gemma3_text", "f16", marks=pytest.mark.slow),
        pytest.param("qwen3", "f16", marks=pytest.mark.slow),
        pytest.param("qwen3", "q8_0", marks=pytest.mark.slow),
        pytest.param("qwen2", "bf16", marks=pytest.mark.slow),
        pytest.param("phi3", "q8_0", marks=pytest.mark.slow),
        pytest.param("gemma2", "f16", marks=pytest.mark.slow),
        pytest.param("mistral", "q8_0", marks=pytest.mark.slow),
    ],
)
def test_rounded_once(family: str, quant: str, tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "adapter", make_base(tmp_path / "model", family))
    said = run_export(pair, "gguf", quant, tmp_path / "out")
    largest, top1, effect = ROUNDED[quant]
    assert said["difference"]["largest"] <= largest
    assert said["difference"]["top1"] >= top1
    assert said["difference"]["effect_error"] <= effect
    kind = quant.upper()
    assert 0 < said["tensor_error"][kind] <= LOSS[Kind[kind]]


# llama.cpp's own choice for 8 layers: the first and last eighth and every third between get more
MIXES = {
    "q4_k_m": ("Q6_K", "Q4_K", "Q4_K"), "q5_k_m": ("Q6_K", "Q5_K", "Q5_K"),
    "q6_k": ("Q6_K", "Q6_K", "Q6_K"),
}  # fmt: skip
MORE, FEWER = (0, 3, 6, 7), (1, 2, 4, 5)


K_QUANTS = [
    "q4_k_m",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("q5_k_m", "q6_k", "q5_0", "q4_0")),
]


@pytest.mark.parametrize("quant", K_QUANTS)
def test_k_quants_run_and_lose_no_more_than_they_may(
    demo: Pair, quant: str, tmp_path: Path
) -> None:
    said = run_export(demo, "gguf", quant, tmp_path / "out")
    assert said["by"] == "llama.cpp"
    assert said["texts"] == 500
    assert said["difference"]["kl"] < 0.1
    assert said["tensor_error"].pop("F32") == 0.0
    assert said["tensor_error"]
    for kind, loss in said["tensor_error"].items():
        assert 0 < loss <= LOSS[Kind[kind]]


@pytest.mark.parametrize(
    "quant", ["q6_k", "q5_k_m", pytest.param("q4_k_m", marks=pytest.mark.slow)]
)
def test_k_quants_are_mixed_as_llama_cpp_does(quant: str, tmp_path: Path) -> None:
    """Eight layers of random weights make nonsense of 4 bits: its twin in F16 tells it is right."""
    wide = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}
    model = make_base(tmp_path / "model", "llama", **wide)
    pair = make_pair(tmp_path / "adapter", model, size=0.02)
    said = run_export(pair, "gguf", quant, tmp_path / "out", verify=quant == "q4_k_m")
    if quant == "q4_k_m":
        assert (said["by"], said["texts"]) == ("llama.cpp", 500)
        assert said["difference"]["kl"] > 0.5
    tensors = read_gguf(gguf_in(tmp_path / "out")).tensors
    kinds = {name: Kind(tensor.kind).name for name, tensor in tensors.items()}
    more, fewer, plain = MIXES[quant]
    for part in ("attn_v", "ffn_down"):
        assert {kinds[f"blk.{number}.{part}.weight"] for number in MORE} == {more}
        assert {kinds[f"blk.{number}.{part}.weight"] for number in FEWER} == {fewer}
    for part in ("attn_q", "attn_k", "attn_output", "ffn_up", "ffn_gate"):
        assert {kinds[f"blk.{number}.{part}.weight"] for number in range(8)} == {plain}
    assert kinds["token_embd.weight"] == "Q6_K"  # tied: it is the output matrix too
    assert kinds["blk.0.attn_norm.weight"] == kinds["output_norm.weight"] == "F32"


@pytest.mark.parametrize(
    ("name", "width", "quant", "tied", "kind"),
    [
        ("blk.1.attn_q.weight", 96, "q4_k_m", True, Kind.Q5_0),  # no block of 256: as llama.cpp
        ("blk.1.attn_q.weight", 96, "q5_k_m", True, Kind.Q5_1),
        ("blk.0.ffn_down.weight", 96, "q4_k_m", True, Kind.Q8_0),
        ("blk.1.attn_q.weight", 40, "q4_0", True, Kind.F16),
        ("blk.1.attn_qkv.weight", 256, "q4_k_m", False, Kind.Q5_K),
        ("output.weight", 256, "q4_0", False, Kind.Q6_K),
        ("token_embd.weight", 256, "q4_0", False, Kind.Q4_0),
        ("token_embd.weight", 256, "q4_k_m", False, Kind.Q4_K),
        ("blk.1.ffn_norm.weight", 256, "q8_0", True, Kind.F32),
    ],
)
def test_kind_of_a_tensor(name: str, width: int, quant: str, tied: bool, kind: Kind) -> None:
    shape = (width,) if "norm" in name else (8, width)
    assert kind_of(name, shape, quant, blocks=8, tied=tied) == kind


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q5_0])
@pytest.mark.parametrize("spread", [1.0, 1e-4])
def test_ggml_packs_like_the_gguf_package(kind: Kind, spread: float) -> None:
    """Two writers of the same format, ggml in C and gguf in NumPy: equal to the bit."""
    values = np.random.default_rng(0).normal(0, spread, (64, 256)).astype(np.float32)
    values[3], values[5, :32] = 0.0, 1.0
    packed = ggml.quantize(values, kind)
    assert np.array_equal(packed, gguf.quants.quantize(values, kind))


def test_the_bits_of_bf16_are_rounded_not_cut() -> None:
    values = np.array([[1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -1.0 - 2**-7, 3e38, 1e-40]], np.float32)
    packed = encode(Planned("x", values.shape, Kind.BF16, lambda: values)).view(np.uint16)
    rounded = mx.array(values).astype(mx.bfloat16).view(mx.uint16)
    assert packed[0, :5].tolist() == np.array(rounded)[0, :5].tolist()


def test_f16_refuses_what_it_cannot_hold() -> None:
    values = np.full((2, 32), 70000.0, np.float32)
    with pytest.raises(UserError, match="too large"):
        encode(Planned("x", values.shape, Kind.F16, lambda: values))


def test_our_reader_reads_what_ggufs_own_reads(demo: Pair, tmp_path: Path) -> None:
    run_export(demo, "gguf", "q8_0", tmp_path / "out", verify=False)
    path = gguf_in(tmp_path / "out")
    mine, other = read_gguf(path), gguf.GGUFReader(path)
    fields = {name: field for name, field in other.fields.items() if not name.startswith("GGUF.")}
    assert mine.fields.keys() == fields.keys()
    for name, field in fields.items():
        kind, value = mine.fields[name]
        assert kind == field.types[0], name
        assert value == field.contents(), name
    assert list(mine.tensors) == [tensor.name for tensor in other.tensors]
    for tensor in other.tensors:
        found = mine.tensors[tensor.name]
        assert found.kind == tensor.tensor_type
        assert found.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert found.offset == tensor.data_offset


# ends by os._exit, because its HTTP listener would keep the process
_ASK = """
import json, os, sys
from xllamacpp import CommonAdapterLoraInfo, CommonParams, Server, ggml_type, llama_flash_attn_type
model, adapter, prompt, count = json.loads(sys.argv[1])
settings = CommonParams()
settings.model.path = model
if adapter:
    settings.lora_adapters = [CommonAdapterLoraInfo(adapter, 1.0)]
settings.cache_type_k = settings.cache_type_v = ggml_type.GGML_TYPE_F32
settings.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
settings.n_ctx, settings.cpuparams.n_threads = 128, 1
asked = {"prompt": [prompt], "max_tokens": count, "temperature": 0, "logprobs": 1, "n_probs": 1}
answer = Server(settings).handle_completions(asked)
print(json.dumps([part["id"] for part in answer["choices"][0]["logprobs"]["content"]]))
sys.stdout.flush()
os._exit(0)
"""


def ask_publicly(model: Path, adapter: Path | None, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens of llama.cpp's own server, as any user of xllamacpp has them."""
    given = json.dumps([str(model), str(adapter) if adapter else None, prompt, count])
    done = subprocess.run(
        [sys.executable, "-c", _ASK, given], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", ["gguf", "gguf-lora"])
def test_the_public_server_goes_on_as_we_do(demo: Pair, kind: str, tmp_path: Path) -> None:
    base = load_model(str(demo.model))
    prompt = base.tokenizer.encode_document("Once upon a time there was")
    settings = Sampling(max_tokens=24)
    before = [p.token for p in generate(base.module, base.tokenizer, prompt, (), settings)]
    load_adapter(demo.adapter, base).train(False)
    spoken = [p.token for p in generate(base.module, base.tokenizer, prompt, (), settings)]
    assert spoken != before
    run_export(demo, kind, "f32", tmp_path / "out", verify=False)
    file = gguf_in(tmp_path / "out")
    model, adapter = (
        (file, None) if kind == "gguf" else (write_base(demo, tmp_path / "b.gguf"), file)
    )
    assert ask_publicly(model, adapter, prompt, 24) == spoken
    assert len(spoken) == 24


def test_the_families_offered_are_those_that_can_be_written() -> None:
    assert FORMATS["gguf"].families == ARCHITECTURES.keys()
