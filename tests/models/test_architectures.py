"""Every architecture of the catalogue, small: loaded, trained, saved, loaded here and in mlx-lm."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from architectures_made import make_architecture, pack
from models_made import attach_adapter, random_ids, random_rows
from trial import drain

from mlx_lora import events
from mlx_lora.config import AdapterConfig, build_config
from mlx_lora.control import Control
from mlx_lora.lora.attach import total_parameters
from mlx_lora.lora.store import load_adapter
from mlx_lora.models.anatomy import take_apart
from mlx_lora.models.catalog import Entry, catalog
from mlx_lora.models.loading import load_model
from mlx_lora.models.shape import adapter_parameters, parameters, shape_of
from mlx_lora.preflight import make_record
from mlx_lora.runs import RunStore
from mlx_lora.training.loop import train
from mlx_lora.training.packed import packing_axes
from mlx_lora.training.prefix import can_replay, fill

if TYPE_CHECKING:
    from pathlib import Path

FAST = {"Phi-4-mini", "GPT-OSS 20B"}
ENTRIES = [
    pytest.param(entry, id=entry.title, marks=() if entry.title in FAST else pytest.mark.slow)
    for entry in catalog()
]
IDS = random_ids(2, 90)  # longer than any window and than what positions are scaled from
# mlx's CPU graph compiler stays off and OpenBLAS comes first, as in our own process
_ASK = """
import json, sys
from mlx_lora import blas; blas.prepare()
import mlx.core as mx, mlx_lm, numpy as np
for source, adapter, ids, out in json.loads(sys.argv[1]):
    model, _ = mlx_lm.load(source, adapter_path=adapter)
    np.save(out, np.array(model(mx.array(np.load(ids))).astype(mx.float32)))
"""
# an adapter as mlx-lm makes one where no linears are named: on all of them, the router too
_MAKE = """
import json, pathlib, sys
from mlx_lora import blas; blas.prepare()
import mlx.core as mx, mlx.nn as nn, mlx_lm, numpy as np
from mlx_lm.tuner.utils import linear_to_lora_layers
source, folder, ids, out = json.loads(sys.argv[1])
model, _ = mlx_lm.load(source)
model.freeze()
config = {"rank": 4, "scale": 2.0, "dropout": 0.0}
linear_to_lora_layers(model, 1, config)
weights = {}
for name, value in nn.utils.tree_flatten(model.trainable_parameters()):
    weights[name] = 0.1 * mx.random.normal(value.shape)
model.load_weights(list(weights.items()), strict=False)
folder = pathlib.Path(folder); folder.mkdir()
mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
content = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": config}
(folder / "adapter_config.json").write_text(json.dumps(content))
np.save(out, np.array(model(mx.array(np.load(ids))).astype(mx.float32)))
"""


class Trained(NamedTuple):
    """A model folder and the adapter two steps made on it."""

    model: Path
    adapter: Path


def train_two_steps(model: Path, root: Path) -> Trained:
    root.mkdir()
    data = root / "lines.txt"
    data.write_text("".join(f"Who goes there in the night of day {n}?\n\n" for n in range(24)))
    config = build_config(
        {
            "model": {"source": str(model)},
            "data": {"source": str(data), "max_length": 96},
            "adapter": {"rank": 4},
            "training": {"steps": 2, "learning_rate": 1e-2, "warmup": 0.0, "final_rate": 1.0},
        }
    )
    record, name = make_record(config, root)
    run = RunStore(root).create(record, name)
    said = list(train(run, root, Control()))
    assert isinstance(said[-1], events.Finished)
    assert said[-1].reason == "done"
    steps = [event for event in said if isinstance(event, events.TrainStep)]
    assert [event.step for event in steps] == [1, 2]
    assert all(np.isfinite(event.loss) for event in steps)
    return Trained(model, run.folder / "adapter")


def logits(one: Trained, *, adapted: bool) -> np.ndarray:
    base = load_model(str(one.model))
    if adapted:
        load_adapter(one.adapter, base).train(False)
    return np.array(base.module(mx.array(IDS)).astype(mx.float32))


def ask_mlx_lm(pairs: list[Trained], folder: Path) -> list[np.ndarray]:
    """What mlx-lm makes of the same folders."""
    np.save(folder / "ids.npy", IDS)
    jobs = [
        (str(one.model), str(one.adapter), str(folder / "ids.npy"), str(folder / f"{n}.npy"))
        for n, one in enumerate(pairs)
    ]
    command = [sys.executable, "-c", _ASK, json.dumps(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return [np.load(out) for _, _, _, out in jobs]


def train_both(entry: Entry, folder: Path) -> list[Trained]:
    """On float32 weights, and on packed ones as MLX's community has them."""
    model = make_architecture(folder / "model", entry)
    assert json.loads((model / "config.json").read_text())["model_type"] == entry.shape.family
    packed = pack(model, folder / "packed")
    return [train_two_steps(model, folder / "a"), train_two_steps(packed, folder / "b")]


def check_effect(pairs: list[Trained]) -> list[np.ndarray]:
    """Logits with each adapter, loaded again, that differ from those without."""
    adapted = [logits(one, adapted=True) for one in pairs]
    for one, found in zip(pairs, adapted, strict=True):
        assert np.isfinite(found).all()
        assert np.abs(found - logits(one, adapted=False)).max() > 1e-2
    return adapted


@pytest.mark.parametrize(
    "title",
    [
        "GPT-OSS 20B",
        *(pytest.param(t, marks=pytest.mark.slow) for t in ("Gemma 3 4B", "Phi-4-mini")),
    ],
)
def test_two_steps_of_it_are_an_adapter_that_comes_back(title: str, tmp_path: Path) -> None:
    entry = next(entry for entry in catalog() if entry.title == title)
    check_effect(train_both(entry, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("entry", catalog(), ids=lambda entry: entry.title)
def test_mlx_lm_answers_as_we_do_with_what_was_trained(entry: Entry, tmp_path: Path) -> None:
    pairs = train_both(entry, tmp_path)
    for ours, theirs in zip(check_effect(pairs), ask_mlx_lm(pairs, tmp_path), strict=True):
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max()


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_an_adapter_of_mlx_lm_on_experts_answers_as_there(tmp_path: Path, packed: bool) -> None:
    entry = next(entry for entry in catalog() if entry.shape.experts)
    model = make_architecture(tmp_path / "model", entry)
    model = pack(model, tmp_path / "packed") if packed else model
    one = Trained(model, tmp_path / "adapter")
    np.save(tmp_path / "ids.npy", IDS)
    places = [str(path) for path in (*one, tmp_path / "ids.npy", tmp_path / "out.npy")]
    command = [sys.executable, "-c", _MAKE, json.dumps(places)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (ours,), theirs = check_effect([one]), np.load(tmp_path / "out.npy")
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("entry", ENTRIES)
def test_its_numbers_are_counted_as_the_catalogue_counts(entry: Entry, tmp_path: Path) -> None:
    model = make_architecture(tmp_path / "model", entry)
    shape = shape_of(json.loads((model / "config.json").read_text()))
    base = load_model(str(model)).module
    assert total_parameters(base) == parameters(shape)
    assert (shape.tied, bool(shape.experts)) == (entry.shape.tied, bool(entry.shape.experts))
    adapter = attach_adapter(base, rank=4)
    assert adapter.parameter_count() == adapter_parameters(shape, AdapterConfig(rank=4))


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_engines_forms_hold_for_it(entry: Entry, tmp_path: Path) -> None:
    """Its parts go together, documents share rows, frozen layers are replayed, windows and all."""
    base = load_model(str(make_architecture(tmp_path / "model", entry))).module
    anatomy = take_apart(base)
    assert anatomy is not None
    assert packing_axes(base, anatomy) == 1
    assert can_replay(base, anatomy, 1)
    assert drain(fill(anatomy, 1, random_rows([40, 30], seed=2), 1 << 30)) is not None
