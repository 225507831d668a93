"""What we export as MLX, opened by mlx-lm itself; and what its own trainer writes, opened by us."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import (
    LLAMA3_ROPE,
    attach_adapter,
    make_model,
    random_ids,
    randomize_adapter,
)
from reference import log_softmax

from mlx_lora import __version__, events
from mlx_lora.config import ModelConfig
from mlx_lora.control import Control
from mlx_lora.export.export import export
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling
from mlx_lora.jobs import ExportJob
from mlx_lora.lora.layers import DoRALinear
from mlx_lora.lora.store import AdapterFacts, load_adapter, save_adapter
from mlx_lora.models.definitions import import_part
from mlx_lora.models.loading import load_model
from mlx_lora.models.tensors import read_headers, read_metadata

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")

RANK, SCALE, TOKENS = 4, 1.5, 8
IDS, PROMPTS = random_ids(2, 32), random_ids(4, 12, seed=3).tolist()
MADE: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "rope_scaling": LLAMA3_ROPE},
    "llama-untied": {"family": "llama", "tied": False},
    "gemma3_text": {"family": "gemma3_text"},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    "phi3": {"family": "phi3", "tied": False},
}
SOME = [
    name if name in {"llama", "gemma3_text", "phi3"} else pytest.param(name, marks=pytest.mark.slow)
    for name in MADE
]
KEYS = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]
# same definitions, same kernels: only the order of float32 sums differs, and with packed weights
# mlx-lm multiplies by the packed numbers where we hold the floats they stand for
SAME, SAME_PACKED = 1e-4, 1e-3
# mean KL in nats of the merged model against base and adapter; measured at most 4e-12, 6e-6, 4e-3,
# 0.06, 0.54
DRIFT = {"f32": 1e-9, "16": 1e-4, "8": 2e-2, "6": 0.2, "4": 1.0}


class Trained(NamedTuple):
    model: Path
    adapter: Path
    bits: str = "keep"


@pytest.fixture(scope="module")
def mlx_lm() -> Any:
    """mlx-lm's own loader, kept from lowering this process's limit of open files for good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource, "setrlimit", lambda *_: None)
        return import_part("utils")


def trained(folder: Path, bits: str = "keep", *, model: Path | None = None, **made: Any) -> Trained:
    """A random adapter with an effect, saved as training saves it."""
    source = model or make_model(folder / "model", **made)
    base = load_model(str(source), bits)
    adapter = attach_adapter(base.module, rank=RANK, alpha=SCALE * RANK)
    randomize_adapter(adapter)
    facts = AdapterFacts(
        base_name=base.name, base_fingerprint=base.fingerprint, bits=bits, prompt_style="raw",
        template_sha256="", settings={}, step=1, version=__version__,
    )  # fmt: skip
    save_adapter(folder / "adapter", adapter.tensors(), adapter.shape, facts)
    return Trained(source, folder / "adapter", bits)


def exported(one: Trained, form: str, quant: str = "") -> Path:
    out = one.adapter.parent / f"{form}-{quant}"
    job = ExportJob(
        model=ModelConfig(source=str(one.model), bits=one.bits), adapter=str(one.adapter),
        format=form, quant=quant, out=str(out), root=str(out.parent / "home"),
    )  # fmt: skip
    said = list(export(job, Control()))
    assert isinstance(said[-1], events.Finished)
    assert said[-1].reason == "done"
    return out


def in_float32(module: Any) -> Any:
    """Half-precision weights (scales, too) as float32, so that only what they stand for counts."""
    module.set_dtype(mx.float32)
    return module


def adapted(one: Trained) -> Any:
    base = load_model(str(one.model), one.bits)
    load_adapter(one.adapter, base).train(False)
    return base.module


def logits(module: Any) -> np.ndarray:
    return np.array(module(mx.array(IDS)).astype(mx.float32), np.float64)


def our_words(module: Any, model: Path) -> list[int]:
    tokenizer = load_model(str(model)).tokenizer
    settings = Sampling(max_tokens=TOKENS)
    return [p.token for ids in PROMPTS for p in generate(module, tokenizer, ids, (), settings)]


def their_words(module: Any) -> list[int]:
    steps = import_part("generate").generate_step
    return [
        int(token)
        for ids in PROMPTS
        for token, _ in steps(mx.array(ids), module, max_tokens=TOKENS)
    ]


def same(ours: Any, theirs: Any, model: Path, most: float) -> None:
    """The same logits and the same greedy tokens."""
    assert np.abs(logits(ours) - logits(theirs)).max() <= most
    words = our_words(ours, model)
    assert words == their_words(theirs)
    assert len(words) == len(PROMPTS) * TOKENS
    assert len(set(words)) > 2, "a model that says one thing only proves nothing"


def drift(one: Trained, module: Any) -> float:
    """Mean KL of a merged model against base and adapter."""
    p, q = log_softmax(logits(adapted(one))), log_softmax(logits(module))
    found = float((np.exp(p) * (p - q)).sum(-1).mean())
    print(f"mean KL {found:.2g} nats")  # noqa: T201
    return found


def settings_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def kinds_in(folder: Path) -> dict[str, str]:
    found = read_headers([folder / "model.safetensors"])
    return {name: info.dtype for name, info in found.items()}


@pytest.mark.parametrize("made", SOME)
def test_an_adapter(mlx_lm: Any, tmp_path: Path, made: str) -> None:
    one = trained(tmp_path, **MADE[made])
    theirs, _ = mlx_lm.load(str(one.model), adapter_path=str(exported(one, "mlx")))
    ours = adapted(one)
    same(ours, theirs, one.model, SAME)
    base = load_model(str(one.model)).module
    assert np.abs(log_softmax(logits(ours)) - log_softmax(logits(base))).mean() > 0.05


@pytest.mark.parametrize("made", SOME)
def test_a_merged_hugging_face_folder(mlx_lm: Any, tmp_path: Path, made: str) -> None:
    one = trained(tmp_path, **MADE[made])
    folder = exported(one, "hf", "f32")
    theirs, _ = mlx_lm.load(str(folder))
    same(load_model(str(folder)).module, theirs, folder, SAME)
    same(adapted(one), theirs, folder, SAME_PACKED)
    assert drift(one, theirs) < DRIFT["f32"]


@pytest.mark.parametrize(
    "quant", ["4", "16", *(pytest.param(one, marks=pytest.mark.slow) for one in ("6", "8"))]
)
@pytest.mark.parametrize("made", ["llama", "gemma3_text", "qwen2"])
def test_a_fused_folder(mlx_lm: Any, tmp_path: Path, made: str, quant: str) -> None:
    one = trained(tmp_path, **MADE[made])
    folder = exported(one, "mlx-fused", quant)
    module, _ = mlx_lm.load_model(folder)
    assert np.isfinite(logits(module)).all()
    theirs = in_float32(module)
    most = SAME if quant == "16" else SAME_PACKED
    same(in_float32(load_model(str(folder)).module), theirs, folder, most)
    assert drift(one, theirs) < DRIFT[quant]
    packed = [part for part in theirs.modules() if hasattr(part, "bits")]
    assert bool(packed) == (quant != "16")
    # the output matrix of a 4-bit model has 6
    assert {part.bits for part in packed} == {"4": {4, 6}, "16": set()}.get(quant, {int(quant)})


@pytest.mark.parametrize(("bits", "quant"), [("4", "4"), ("4", "8"), ("8", "4")])
def test_fused_from_a_base_quantized_as_it_loads(
    mlx_lm: Any, tmp_path: Path, bits: str, quant: str
) -> None:
    one = trained(tmp_path, bits, family="qwen2")
    folder = exported(one, "mlx-fused", quant)
    theirs = in_float32(mlx_lm.load_model(folder)[0])
    same(in_float32(load_model(str(folder)).module), theirs, folder, SAME_PACKED)
    assert drift(one, theirs) < DRIFT[quant]


@pytest.mark.parametrize("quant", ["4", "8"])
def test_a_width_no_group_divides_stays_plain(mlx_lm: Any, tmp_path: Path, quant: str) -> None:
    """As stories260k, whose feed-forward is 172 wide."""
    one = trained(tmp_path, family="llama", intermediate_size=172)
    folder = exported(one, "mlx-fused", quant)
    theirs = in_float32(mlx_lm.load_model(folder)[0])
    same(in_float32(load_model(str(folder)).module), theirs, folder, SAME_PACKED)
    plain = {n for n, m in theirs.named_modules() if type(m) is nn.Linear}
    assert plain == {f"model.layers.{n}.mlp.down_proj" for n in range(2)}
    found = kinds_in(folder)
    assert {found[f"{name}.weight"] for name in plain} == {"F16"}
    assert not any(f"{name}.scales" in found for name in plain)
    assert not plain & settings_of(folder)["quantization"].keys()


@pytest.mark.parametrize("quant", ["4", "6", "8"])
def test_odd_groups_are_named(mlx_lm: Any, tmp_path: Path, quant: str) -> None:
    """96 inputs take groups of 32, 64 inputs one of 64."""
    one = trained(tmp_path, family="llama")
    folder = exported(one, "mlx-fused", quant)
    said = settings_of(folder)["quantization"]
    assert said == settings_of(folder)["quantization_config"]
    assert (said["group_size"], said["bits"], said["mode"]) == (64, int(quant), "affine")
    down = {f"model.layers.{n}.mlp.down_proj" for n in range(2)}
    output = {"model.embed_tokens"} if quant == "4" else set()
    assert {key for key in said if "." in key} == down | output
    assert all(said[name] == {"group_size": 32, "bits": int(quant)} for name in down)
    for name, part in mlx_lm.load_model(folder)[0].named_modules():
        if hasattr(part, "bits"):
            assert part.group_size == (32 if name in down else 64), name
            assert part.bits == (6 if name in output else int(quant)), name


def in_half(folder: Path, dtype: mx.Dtype, **made: Any) -> Path:
    """A model folder whose file holds half-precision floats."""
    path = make_model(folder, **made) / "model.safetensors"
    weights = {name: tensor.astype(dtype) for name, tensor in mx.load(str(path)).items()}
    mx.eval(weights)
    path.unlink()
    mx.save_safetensors(str(path), weights, {"format": "pt"})
    return folder


@pytest.mark.parametrize(("dtype", "kind"), [(mx.bfloat16, "BF16"), (mx.float16, "F16")])
@pytest.mark.parametrize(
    ("form", "quant"),
    [("hf", "16"), ("mlx-fused", "8"), pytest.param("mlx-fused", "16", marks=pytest.mark.slow)],
)
def test_the_half_type_of_the_base_is_kept(
    mlx_lm: Any, tmp_path: Path, *, dtype: mx.Dtype, kind: str, form: str, quant: str
) -> None:
    one = trained(tmp_path, model=in_half(tmp_path / "model", dtype, family="qwen2"))
    folder = exported(one, form, quant)
    assert set(kinds_in(folder).values()) - {"U32"} == {kind}
    long = {"BF16": "bfloat16", "F16": "float16"}[kind]
    assert settings_of(folder)["torch_dtype"] == long
    module, _ = mlx_lm.load_model(folder)
    assert module.model.norm.weight.dtype == dtype
    same(in_float32(load_model(str(folder)).module), in_float32(module), folder, SAME_PACKED)


def packed(folder: Path, bits: int, **made: Any) -> Path:
    """A folder MLX quantized, scales in float32, groups of 32."""
    module = load_model(str(make_model(folder, **made))).module
    nn.quantize(module, group_size=32, bits=bits)
    weights = dict(nn.utils.tree_flatten(module.parameters()))
    mx.eval(weights)
    (folder / "model.safetensors").unlink()
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    config = settings_of(folder) | {"quantization": {"group_size": 32, "bits": bits}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def their_adapter(mlx_lm: Any, model: Path, folder: Path, *, dora: bool, layers: int = 2) -> Any:
    """An adapter made and saved as mlx-lm's trainer does, with settings that name a person."""
    module, _ = mlx_lm.load_model(model)
    module.freeze()
    inner = {"rank": RANK, "scale": 2.5, "dropout": 0.1, "keys": KEYS}
    import_part("tuner.utils").linear_to_lora_layers(module, layers, inner, use_dora=dora)
    generator = np.random.default_rng(11)
    drawn = {
        name: _moved(generator, name, np.array(tensor))
        for name, tensor in nn.utils.tree_flatten(module.trainable_parameters())
    }
    module.load_weights(list(drawn.items()), strict=False)
    module.eval()
    folder.mkdir()
    mx.save_safetensors(
        str(folder / "adapters.safetensors"), drawn, {"trained_by": "Zebedee Example"}
    )
    said = {
        "model": "/Users/zebedee/models/base", "data": "/Users/zebedee/letters", "seed": 0,
        "adapter_path": "/Users/zebedee/adapters", "fine_tune_type": "dora" if dora else "lora",
        "num_layers": layers, "lora_parameters": inner, "resume_adapter_file": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return module


def _moved(generator: np.random.Generator, name: str, values: np.ndarray) -> mx.array:
    """Lengths a fifth longer or shorter, the rest random: what training might leave."""
    shape = values.shape
    if name.endswith(".m"):
        return mx.array((values * generator.uniform(0.8, 1.2, shape)).astype(np.float32))
    return mx.array(generator.normal(0, 0.1, shape).astype(np.float32))


def base_of(folder: Path, family: str, bits: int | None) -> Path:
    return packed(folder, bits, family=family) if bits else make_model(folder, family)


@pytest.mark.parametrize("bits", [None, 4, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_dora_of_mlx_lm(mlx_lm: Any, tmp_path: Path, family: str, bits: int | None) -> None:
    model = base_of(tmp_path / "model", family, bits)
    theirs = their_adapter(mlx_lm, model, tmp_path / "adapter", dora=True)
    one = Trained(model, tmp_path / "adapter")
    ours = adapted(one)
    found = {name for name, part in ours.named_modules() if isinstance(part, DoRALinear)}
    assert found == {f"model.layers.{n}.{key}" for n in range(2) for key in KEYS}
    same(ours, theirs, model, SAME_PACKED if bits else SAME)
    base = load_model(str(model)).module
    assert np.abs(log_softmax(logits(ours)) - log_softmax(logits(base))).mean() > 0.05


@pytest.mark.parametrize("bits", [None, 4])
def test_a_dora_of_mlx_lm_merged(mlx_lm: Any, tmp_path: Path, bits: int | None) -> None:
    """Merged by us, it answers as mlx-lm's own layers did; so does mlx-lm's own `fuse`."""
    model = base_of(tmp_path / "model", "qwen2", bits)
    theirs = their_adapter(mlx_lm, model, tmp_path / "adapter", dora=True)
    folder = exported(Trained(model, tmp_path / "adapter"), "hf", "f32")
    merged = mlx_lm.load_model(folder)[0]
    assert np.abs(logits(merged) - logits(theirs)).max() <= SAME_PACKED
    for name, part in theirs.named_modules():
        if type(part).__name__ == "DoRALinear":
            weight = dict(merged.named_modules())[name].weight
            assert np.abs(np.array(part.fuse(dequantize=True).weight - weight)).max() < 2e-6, name


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_an_adapter_of_mlx_lm_leaves_with_nothing_private(
    mlx_lm: Any, tmp_path: Path, dora: bool, layers: int
) -> None:
    model = make_model(tmp_path / "model", "qwen2")
    made = their_adapter(mlx_lm, model, tmp_path / "adapter", dora=dora, layers=layers)
    folder = exported(Trained(model, tmp_path / "adapter"), "mlx")
    said = json.loads((folder / "adapter_config.json").read_text())
    assert said.keys() == {"fine_tune_type", "num_layers", "lora_parameters"}
    assert said["lora_parameters"].keys() == {"rank", "scale", "dropout", "keys"}
    assert read_metadata(folder / "adapters.safetensors") == {"format": "mlx"}
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    for private in (b"ebedee", b"/Users", str(tmp_path).encode()):
        assert private not in content, private
    theirs = mlx_lm.load_model(model)[0]
    theirs = mlx_lm.load_adapters(theirs, str(folder))
    theirs.eval()
    assert np.abs(logits(theirs) - logits(made)).max() <= SAME
