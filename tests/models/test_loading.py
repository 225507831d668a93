"""Model folders to models in memory, and every way a folder can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import LLAMA3_ROPE, make_model, random_ids

from mlx_lora.errors import UserError
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FAMILIES = ["llama", "gemma3_text", "qwen3", "phi3"]
IDS = random_ids(2, 48)
UP = "model.layers.1.mlp.down_proj.weight"


def logits(folder: Path) -> np.ndarray:
    module = load_model(str(folder)).module
    return np.array(module(mx.array(IDS)).astype(mx.float32))


def edit(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "model.safetensors"
    weights: Any = mx.load(str(path))
    mx.eval(weights)
    change(weights)
    path.unlink()
    mx.save_safetensors(str(path), weights)
    return folder


def refused(folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        load_model(str(folder))
    assert "\n" not in caught.value.line()
    return caught.value


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family(tmp_path: Path, family: str, tied: bool) -> None:
    if family == "gemma3_text" and not tied:
        pytest.skip("this family is always tied")
    base = load_model(str(make_model(tmp_path / "model", family, tied=tied)))
    out = base.module(mx.array(IDS))
    assert out.shape == (2, 48, 272)
    assert np.isfinite(np.array(out)).all()
    assert (base.name, base.form, base.context, base.left_plain) == ("model", "float32", 256, ())
    assert nn.utils.tree_flatten(base.module.trainable_parameters()) == []
    assert base.tokenizer.stop_ids == {2}


@pytest.mark.parametrize("tied", [True, False])
def test_parts_are_the_whole(tmp_path: Path, tied: bool) -> None:
    folder = make_model(tmp_path / "model", tied=tied)
    whole, first = logits(folder), load_model(str(folder)).fingerprint
    path = folder / "model.safetensors"
    weights: Any = mx.load(str(path))
    mx.eval(weights)
    path.unlink()
    where = {name: f"part-{n % 3}.safetensors" for n, name in enumerate(sorted(weights))}
    for file in set(where.values()):
        part = {name: weights[name] for name in weights if where[name] == file}
        mx.save_safetensors(str(folder / file), part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert np.array_equal(logits(folder), whole)
    assert load_model(str(folder)).fingerprint == first
    (folder / "part-1.safetensors").unlink()
    assert refused(folder).code == "missing_shard"


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("scaling", [None, LLAMA3_ROPE, {"rope_type": "linear", "factor": 4.0}])
def test_rope_as_transformers_5_writes_it(
    tmp_path: Path, family: str, scaling: dict[str, Any] | None
) -> None:
    old = {"rope_scaling": scaling} if scaling else {}
    wanted = logits(make_model(tmp_path / "old", family, rope_theta=5e5, **old))
    new = {"rope_theta": 5e5, **(scaling or {"rope_type": "default"})}
    folder = make_model(tmp_path / "new", family, rope_parameters=new)
    assert np.array_equal(logits(edit(folder, rope_theta=...)), wanted)
    ignored = logits(make_model(tmp_path / "other", family))
    assert np.abs(ignored - wanted).max() > 0.05
    assert "no rope_theta" in refused(edit(folder, rope_parameters={"rope_type": "default"})).why


def test_long_rope_of_phi3_as_transformers_5_writes_it(tmp_path: Path) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [1.0 + n for n in range(8)]}
    old = {"type": "longrope", **factors}
    wanted = logits(make_model(tmp_path / "old", "phi3", rope_scaling=old))
    new = {"rope_theta": 10000.0, "rope_type": "longrope", **factors}
    folder = edit(make_model(tmp_path / "new", "phi3", rope_parameters=new), rope_theta=...)
    assert np.array_equal(logits(folder), wanted)
    assert np.abs(logits(make_model(tmp_path / "other", "phi3")) - wanted).max() > 0.05


def test_rope_by_layers_as_gemma_has_it(tmp_path: Path) -> None:
    wanted = logits(make_model(tmp_path / "old", "gemma3_text", rope_local_base_freq=500.0))
    layered = {
        "full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 500.0, "rope_type": "default"},
    }
    folder = make_model(tmp_path / "new", "gemma3_text", rope_parameters=layered)
    assert np.array_equal(logits(edit(folder, rope_theta=..., rope_local_base_freq=...)), wanted)


def test_a_text_model_inside_a_multimodal_file(tmp_path: Path) -> None:
    """As google/gemma-3-4b-it: settings inside, no vocab_size, weights under another name."""
    wanted = logits(make_model(tmp_path / "text", "gemma3_text"))
    folder = make_model(tmp_path / "both", "gemma3_text")
    inner = json.loads((folder / "config.json").read_text())
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {}, "vocab_size": 272}
    (folder / "config.json").write_text(json.dumps(outer))

    def rename(weights: dict[str, Any]) -> None:
        for name in list(weights):
            weights[f"language_model.{name}"] = weights.pop(name)
        weights["vision_tower.blocks.layers.9.weight"] = mx.zeros((4, 4))

    rewrite(folder, rename)
    assert np.array_equal(logits(folder), wanted)
    del inner["vocab_size"]
    (folder / "config.json").write_text(json.dumps(outer))
    assert np.array_equal(logits(folder), wanted)


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda weights: weights.pop(name)


def put(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda weights: weights.update({name: change(weights.get(name))})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop(UP), "1 missing (model.layers.1.mlp.down_proj.weight"),
        (drop("model.norm.weight"), "1 missing"),
        (put("model.layers.0.mlp.extra.weight", lambda _: mx.zeros((2, 2))), "1 unknown"),
        (put(UP, lambda w: w[:5]), "has shape (5, 96), config.json makes it (64, 96)"),
        (put(UP, lambda w: w.T), "has shape (96, 64)"),
        (put(UP, lambda w: w.astype(mx.int32)), "held as int32"),
        (put(UP, lambda w: w.astype(mx.uint8)), "held as uint8"),
        (put(UP, lambda w: w.astype(mx.bool_)), "held as bool"),
        (put(UP, lambda w: mx.where(w > 0.3, mx.nan, w)), "not finite"),
        (put("model.embed_tokens.weight", lambda w: w * mx.inf), "not finite"),
        (put("model.embed_tokens.weight", lambda w: w[:200]), "the weights hold 200"),
    ],
)
def test_tensors_that_are_not_the_models(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    error = refused(rewrite(make_model(tmp_path / "model"), change))
    assert error.code == "bad_model"
    assert words in error.why


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, but the weights hold 2"),
        ({"num_hidden_layers": 1}, "unknown"),
        ({"vocab_size": 300}, "vocab_size is 300, but the weights hold 272"),
        ({"hidden_size": 128}, "has shape"),
        ({"intermediate_size": 100}, "has shape"),
        ({"num_key_value_heads": 4}, "has shape"),
        ({"tie_word_embeddings": False}, "1 missing (lm_head.weight"),
        ({"attention_bias": True}, "missing"),
        ({"num_attention_heads": ...}, "does not fit its family"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "does not fit its family"),
        ({"rope_scaling": {"rope_type": "nothing"}}, "does not fit its family"),
        ({"rope_scaling": 5}, "does not fit its family"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized for another program"),
        ({"quantization": 5}, "no group of settings"),
    ],
)
def test_settings_that_are_not_the_weights(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    error = refused(edit(make_model(tmp_path / "model"), **changes))
    assert error.code == "bad_model"
    assert words in error.why


def test_a_family_that_is_not_known(tmp_path: Path) -> None:
    error = refused(edit(make_model(tmp_path / "model"), model_type="bert"))
    assert error.code == "unsupported_model"


def raw(folder: Path, dtype: str, width: int) -> Path:
    """Weights whose last tensor says it is of another type."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    entry = header[name]
    start, end = entry["data_offsets"]
    size = (end - start) // 4 * width
    entry.update(dtype=dtype, data_offsets=[start, start + size])
    head = json.dumps(header).encode()
    data = content[8 + length :][:start] + bytes(size)
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    return folder


@pytest.mark.parametrize(
    ("dtype", "width"), [("F64", 8), ("I64", 8), ("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1)]
)
def test_types_the_engine_cannot_take(tmp_path: Path, dtype: str, width: int) -> None:
    error = refused(raw(make_model(tmp_path / "model"), dtype, width))
    assert error.code in {"bad_model", "damaged_model"}


def test_pickles_and_nothing(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refused(folder)
    assert error.code == "no_weights"
    assert "never read" in error.why


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", vocab_size=200)
    assert "ids up to 258, but the model has 200" in refused(folder).why


# Quantized folders as mlx-lm writes them


def quantized(folder: Path, source: Path, own: dict[str, dict[str, int]] | None = None) -> Any:
    """An MLX-quantized copy of a float model; returns the module it was made from."""
    base = load_model(str(source))
    settings: dict[str, Any] = {"group_size": 32, "bits": 4, **(own or {})}

    def choose(name: str, part: nn.Module) -> bool | dict[str, int]:
        if not hasattr(part, "to_quantized"):
            return False
        return (own or {}).get(name, {"group_size": 32, "bits": 4})

    nn.quantize(base.module, class_predicate=choose)
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    edit(folder, quantization=settings, quantization_config=settings)
    weights = dict(nn.utils.tree_flatten(base.module.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return base.module


OWN = {
    "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
    "model.embed_tokens": {"group_size": 64, "bits": 6},
}


@pytest.mark.parametrize("own", [None, OWN])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantized_folder(
    tmp_path: Path, family: str, own: dict[str, dict[str, int]] | None
) -> None:
    source = make_model(tmp_path / "plain", family)
    module = quantized(tmp_path / "packed", source, own)
    wanted = np.array(module(mx.array(IDS)).astype(mx.float32))
    base = load_model(str(tmp_path / "packed"))
    found = np.array(base.module(mx.array(IDS)).astype(mx.float32))
    assert np.abs(found - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())
    assert np.abs(logits(source) - wanted).max() > 0.01
    assert base.form.startswith("4/6/8-bit" if own else "4-bit")


def test_a_quantized_folder_is_not_quantized_again(tmp_path: Path) -> None:
    quantized(tmp_path / "packed", make_model(tmp_path / "plain"))
    load_model(str(tmp_path / "packed"), "4")
    with pytest.raises(UserError) as caught:
        load_model(str(tmp_path / "packed"), "8")
    assert "already 4-bit" in caught.value.why


@pytest.mark.parametrize(
    "change",
    [
        drop("model.layers.0.mlp.up_proj.biases"),
        drop("model.layers.0.mlp.up_proj.weight"),
        put("model.layers.0.mlp.up_proj.scales", lambda w: w[:, :1]),
        put("model.layers.0.mlp.up_proj.scales", lambda w: w[:, :0]),
        put("model.layers.0.mlp.up_proj.scales", lambda _: mx.array(1.0)),
        put("model.layers.0.mlp.up_proj.scales", lambda w: w * mx.nan),
        put("model.layers.0.mlp.up_proj.weight", lambda w: w[:, :-1]),
        put("model.layers.0.mlp.up_proj.weight", lambda w: w.astype(mx.float32)),
    ],
)
def test_a_damaged_quantized_folder(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    quantized(tmp_path / "packed", make_model(tmp_path / "plain"))
    assert refused(rewrite(tmp_path / "packed", change)).code == "bad_model"


@pytest.mark.parametrize("mode", ["nothing", 5, None, ["affine"]])
def test_an_unknown_kind_of_quantization(tmp_path: Path, mode: Any) -> None:
    quantized(tmp_path / "packed", make_model(tmp_path / "plain"))
    settings = {"group_size": 32, "bits": 4, "mode": mode}
    error = refused(edit(tmp_path / "packed", quantization=settings))
    assert error.code == "bad_model"


def test_loading_imports_no_transformers_and_takes_little_time(stories: Path) -> None:
    code = (
        "from mlx_lora import blas; blas.prepare()\n"
        "import mlx.core, time, sys\n"
        "before = time.monotonic()\n"
        "from mlx_lora.models.loading import load_model\n"
        "from mlx_lora.models.definitions import import_part\n"
        f"load_model({str(stories)!r}); import_part('models.cache')\n"
        "print(time.monotonic() - before)\n"
        "assert not {'transformers', 'torch', 'mlx_lm.utils'} & sys.modules.keys()\n"
        "own = {'subprocess', 'shutil', 'statistics', 'mlx_lora.forecast', 'mlx_lora.config'}\n"
        "assert not own & sys.modules.keys(), own & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    seconds = float(done.stdout)
    print(f"stories260k loads in {seconds:.2f} s, imports included")  # noqa: T201
    assert seconds < 10
