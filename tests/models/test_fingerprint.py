"""Which base an adapter belongs to."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from models_made import make_model

from mlx_lora.models.fingerprint import fingerprint
from mlx_lora.models.tensors import read_headers, weight_files

if TYPE_CHECKING:
    from pathlib import Path


def mark(folder: Path, bits: str = "keep") -> str:
    return fingerprint(folder, read_headers(weight_files(folder)), bits)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_moving_and_relabelling_keep_it(tmp_path: Path) -> None:
    first = mark(make_model(tmp_path / "a"))
    assert len(first) == 32
    moved = tmp_path / "far" / "away"
    shutil.copytree(tmp_path / "a", moved)
    assert mark(moved) == first
    edit(moved, _name_or_path="/home/me/x", transformers_version="5.0", torch_dtype="float16")
    assert mark(moved) == first


def test_it_does_not_depend_on_the_order_of_settings(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "a")
    first = mark(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=4))
    assert mark(folder) == first


def test_other_weights_settings_and_recipes_differ(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "a")
    marks = {mark(folder), mark(make_model(tmp_path / "b", seed=1))}
    marks |= {mark(folder, bits) for bits in ("4", "6", "8", "16", "32")}
    marks.add(mark(make_model(tmp_path / "c", rms_norm_eps=1e-4)))
    marks.add(mark(make_model(tmp_path / "d", tied=False)))
    assert len(marks) == 9


def test_one_changed_tensor_is_seen(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "a")
    first, path = mark(folder), folder / "model.safetensors"
    weights: Any = mx.load(str(path))
    mx.eval(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name] * 1.001
    path.unlink()
    mx.save_safetensors(str(path), weights)
    assert mark(folder) != first


def test_parts_have_the_mark_of_the_whole(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "a")
    first, path = mark(folder), folder / "model.safetensors"
    weights: Any = mx.load(str(path))
    mx.eval(weights)
    path.unlink()
    names = sorted(weights)
    where = {name: f"model-{n % 3}.safetensors" for n, name in enumerate(names)}
    for file in set(where.values()):
        mx.save_safetensors(str(folder / file), {n: weights[n] for n in names if where[n] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert mark(folder) == first
