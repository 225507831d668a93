"""Packing a model into the library: MLX's own numbers, complete or absent, the source untouched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import msgspec
import numpy as np
import pytest
from models_made import make_model, random_ids

from mlx_lora import jobs
from mlx_lora.child import worker_command, worker_environment
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.events import Finished, Notice, Phase, Report
from mlx_lora.models.loading import load_model
from mlx_lora.models.origin import read_origin
from mlx_lora.models.packed_copy import PackedCopy
from mlx_lora.models.packing_loss import sample_rows, write_logits
from mlx_lora.models.quantization import quantize
from mlx_lora.storage import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
BITS = (4, 6, 8)


def packed(source: Path, out: Path, bits: int = 4, shard: int = 5 << 30) -> Path:
    out.mkdir()
    for _ in PackedCopy(str(source), bits).write(out, shard):
        continue
    return out


def tensors(folder: Path) -> dict[str, mx.array]:
    found: dict[str, mx.array] = {}
    for path in folder.glob("model*.safetensors"):
        found |= mx.load(str(path))
    return found


def job(model: Path, out: Path, root: Path, **changes: Any) -> jobs.QuantizeJob:
    given: dict[str, Any] = {"bits": 4, "measure": False, **changes}
    return jobs.QuantizeJob(model=str(model), out=str(out), root=str(root), **given)


def run(wanted: jobs.QuantizeJob) -> list[Any]:
    return list(quantize(wanted, Control()))


def in_type(folder: Path, kind: str) -> Path:
    """The same model with its floats, and config.json, in another type."""
    held = {k: v.astype(getattr(mx, kind)) for k, v in tensors(folder).items()}
    mx.eval(held)
    mx.save_safetensors(str(folder / "model.safetensors"), held, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": kind}))
    return folder


def into_shards(folder: Path, count: int = 3) -> Path:
    """The same model in several files with an index."""
    held = tensors(folder)
    (folder / "model.safetensors").unlink()
    places = {}
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = {key: held[key] for key in sorted(held)[number::count]}
        mx.save_safetensors(str(folder / name), part, {"format": "pt"})
        places |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def digests(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def started(wanted: jobs.QuantizeJob, command: list[str]) -> subprocess.Popen[bytes]:
    """A worker on a job, its stdin left open: closed, it would stop."""
    environment = worker_environment() | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )
    assert child.stdin is not None
    child.stdin.write(msgspec.json.encode(wanted) + b"\n")
    child.stdin.flush()
    return child


def worked(wanted: jobs.QuantizeJob, command: list[str]) -> tuple[int, list[Any]]:
    """(exit code, events) of a worker."""
    with started(wanted, command) as child:
        assert child.stdout is not None
        return child.wait(), [json.loads(line) for line in child.stdout]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_the_numbers_are_those_of_mlx(tmp_path: Path, bits: int, kind: str) -> None:
    source = in_type(make_model(tmp_path / "m", hidden_size=128, tied=False), kind)
    held, found = tensors(source), tensors(packed(source, tmp_path / "out", bits))
    for name, array in held.items():
        module = name.removesuffix(".weight")
        if array.ndim == 1:
            assert mx.array_equal(found.pop(name), array)
            continue
        group = 64 if array.shape[-1] % 64 == 0 else 32
        for part, wanted in zip(
            ("weight", "scales", "biases"), mx.quantize(array, group, bits), strict=True
        ):
            got = found.pop(f"{module}.{part}")
            assert got.dtype == wanted.dtype
            assert mx.array_equal(got, wanted)
    assert not found


def test_floats_come_to_the_type_config_names(tmp_path: Path) -> None:
    source = make_model(tmp_path / "m", torch_dtype="bfloat16")
    found = tensors(packed(source, tmp_path / "out"))
    assert {str(v.dtype) for v in found.values()} == {"mlx.core.uint32", "mlx.core.bfloat16"}


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_matrix_is_there_where_it_was(tmp_path: Path, tied: bool) -> None:
    out = packed(make_model(tmp_path / "m", tied=tied), tmp_path / "out")
    assert ("lm_head.scales" in tensors(out)) is not tied
    load_model(str(out))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi3"])
def test_every_family_loads_and_says_what_it_said_as_packed_on_loading(
    tmp_path: Path, family: str
) -> None:
    source = make_model(tmp_path / "m", family, tied=family != "phi3")
    out = packed(source, tmp_path / "out", 8)
    ids = mx.array(random_ids(2, 9))
    said = [np.array(load_model(str(p), b).module(ids)) for p, b in ((source, "8"), (out, "keep"))]
    if mx.default_device() == mx.cpu:  # in float32 both times
        assert np.array_equal(*said)


def test_widths_no_group_fits_stay_plain(tmp_path: Path, root: Path) -> None:
    source = make_model(tmp_path / "m", intermediate_size=90)
    out = tmp_path / "out"
    told = run(job(source, out, root))
    down = [f"model.layers.{n}.mlp.down_proj" for n in (0, 1)]
    notice = next(e for e in told if isinstance(e, Notice))
    assert "2 matrices stay" in notice.text
    origin = read_origin(out)
    assert origin is not None
    assert (origin.left_plain, origin.made_from, origin.bits) == (tuple(down), "m", 4)
    held, found = tensors(source), tensors(out)
    assert all(mx.array_equal(found[f"{n}.weight"], held[f"{n}.weight"]) for n in down)
    assert "model.layers.0.mlp.up_proj.scales" in found
    load_model(str(out))


def test_sources_and_copies_in_several_files(tmp_path: Path) -> None:
    whole = make_model(tmp_path / "whole")
    parts = into_shards(Path(shutil.copytree(whole, tmp_path / "parts")))
    wanted = tensors(packed(whole, tmp_path / "one"))
    out = packed(parts, tmp_path / "several", shard=20_000)
    files = sorted(p.name for p in out.glob("model-*.safetensors"))
    assert len(files) > 2
    assert all(name.endswith(f"-of-{len(files):05d}.safetensors") for name in files)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    for name in files:
        held = set(mx.load(str(out / name)))
        assert held == {key for key, place in index["weight_map"].items() if place == name}
    found = tensors(out)
    assert found.keys() == wanted.keys() == index["weight_map"].keys()
    assert all(mx.array_equal(found[key], wanted[key]) for key in wanted)
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in wanted.values())
    numbers = sum(v.size for v in tensors(whole).values())
    assert index["metadata"]["total_parameters"] == numbers
    load_model(str(out))


def test_the_source_is_untouched_and_nothing_private_goes_along(tmp_path: Path, root: Path) -> None:
    source = make_model(tmp_path / "m", _name_or_path=str(Path.home() / "secret" / "m"))
    (source / "LICENSE").write_text("as it was")
    (source / "notes.txt").write_text("mine")
    before = digests(source)
    out = tmp_path / "out"
    run(job(source, out, root, measure=True))
    assert digests(source) == before
    names = {path.name for path in out.iterdir()}
    assert {"LICENSE", "tokenizer.json", "tokenizer_config.json", "config.json"} <= names
    assert "notes.txt" not in names
    text = b"".join(p.read_bytes() for p in out.iterdir() if p.suffix == ".json")
    assert str(Path.home()).encode() not in text
    assert str(tmp_path).encode() not in text
    assert b"secret" not in text


def test_what_it_cost_is_told_and_kept(tmp_path: Path, root: Path, stories: Path) -> None:
    costs = {}
    for bits in BITS:
        out = tmp_path / f"out{bits}"
        told = run(job(stories, out, root, bits=bits, measure=True))
        phases = {event.name for event in told if isinstance(event, Phase)}
        assert phases >= {"packing", "reading_back", "measuring_original", "measuring_packed"}
        report = next(e for e in told if isinstance(e, Report)).data
        origin = read_origin(out)
        assert origin is not None
        assert (report["kl"], report["top1"]) == (origin.kl, origin.top1)
        assert origin.positions == 1024
        assert isinstance(told[-1], Finished)
        assert origin.words() == told[-1].result["words"] != ""
        costs[bits] = (origin.kl, origin.top1)
    assert costs[4][0] > 4 * costs[6][0] > 16 * costs[8][0] > 0  # type: ignore[operator]
    assert 0.5 < costs[4][1] < costs[8][1] <= 1  # type: ignore[operator]
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3"])
def test_a_model_run_layer_by_layer_says_the_same(tmp_path: Path, family: str) -> None:
    for source in (
        make_model(tmp_path / "m", family),
        packed(tmp_path / "m", tmp_path / "out"),
    ):
        base = load_model(str(source))
        rows = ((5, 6, 7, 8, 9), (10, 11, 12))
        for _ in write_logits(str(source), rows, tmp_path / "logits"):
            continue
        found = np.fromfile(tmp_path / "logits", np.float32)
        each = (np.array(base.module(mx.array([row]))[0]).ravel() for row in rows)
        wanted = np.concatenate(list(each))
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_sample_rows_are_varied_and_fit_the_room(stories: Path) -> None:
    tokenizer = load_model(str(stories)).tokenizer
    rows = sample_rows(tokenizer, 381)
    assert sum(map(len, rows)) == 381
    assert len(rows) >= 6
    assert max(map(len, rows)) <= 64


def test_what_cannot_be_packed_is_refused(tmp_path: Path, root: Path) -> None:
    source = make_model(tmp_path / "m")
    out = packed(source, tmp_path / "out")
    cases: list[tuple[jobs.QuantizeJob, str, str]] = [
        (job(out, tmp_path / "again", root), "bad_option", "already packed (4-bit)"),
        (job(source, out, root), "exists", "already there"),
        (job(source, source / "inner", root), "bad_option", "the model itself"),
        (job(tmp_path / "none", tmp_path / "x", root), "no_such_model", "no such folder"),
    ]
    for wanted, code, words in cases:
        with pytest.raises(UserError) as raised:
            run(wanted)
        assert raised.value.code == code
        assert words in raised.value.why
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "out"]


def test_a_damaged_file_beside_the_weights_is_named(tmp_path: Path, root: Path) -> None:
    source = make_model(tmp_path / "m")
    (source / "tokenizer_config.json").write_bytes(b'{"a": "\xee"')
    with pytest.raises(UserError) as raised:
        run(job(source, tmp_path / "out", root))
    assert (raised.value.code, raised.value.where[-21:]) == (
        "damaged_model", "tokenizer_config.json"
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_numbers_that_are_none_are_refused_and_nothing_stays(tmp_path: Path, root: Path) -> None:
    source = make_model(tmp_path / "m")
    held = tensors(source)
    held["model.layers.1.mlp.up_proj.weight"][3, 5] = mx.nan
    mx.eval(held)
    mx.save_safetensors(str(source / "model.safetensors"), held)
    with pytest.raises(UserError) as raised:
        run(job(source, tmp_path / "out", root))
    assert raised.value.code == "bad_model"
    assert "layers.1.mlp.up_proj" in raised.value.why
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_model(tmp_path / "m")
    usage = shutil.disk_usage(tmp_path)._replace(free=40_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError) as raised:
        run(job(source, tmp_path / "out", root))
    assert raised.value.code == "disk_full"
    assert "MB are free" in raised.value.why
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_disk_that_fills_meanwhile_leaves_nothing(tmp_path: Path, root: Path) -> None:
    """As a limit on a file's size, which the system enforces as it does a full disk."""
    source = make_model(tmp_path / "m")
    out = tmp_path / "out"
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from mlx_lora.worker import main; sys.exit(main())"
    )
    exit_code, told = worked(job(source, out, root), [sys.executable, "-P", "-c", code])
    assert (exit_code, told[-1]["type"], told[-1]["code"]) == (2, "failed", "disk_full")
    assert sorted(p.name for p in tmp_path.iterdir() if p != root) == ["m"]


def test_told_to_stop_it_leaves_nothing_half_written(tmp_path: Path, root: Path) -> None:
    source, out = make_model(tmp_path / "m"), tmp_path / "out"
    control = Control()
    told = []
    for event in quantize(job(source, out, root), control):
        told.append(event)
        if isinstance(event, Phase) and event.name == "packing":
            control.stop()
    assert told[-1] == Finished(reason="stopped")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_told_to_stop_while_it_measures_it_keeps_the_model(tmp_path: Path, root: Path) -> None:
    source, out = make_model(tmp_path / "m"), tmp_path / "out"
    control = Control()
    told: list[Any] = []
    for event in quantize(job(source, out, root, measure=True), control):
        told.append(event)
        if isinstance(event, Phase) and event.name == "measuring_packed":
            control.stop()
    assert told[-1].reason == "stopped"
    assert read_origin(out) is not None
    load_model(str(out))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "out"]


def events_until(lines: Iterable[bytes], name: str) -> None:
    for line in lines:
        if json.loads(line).get("name") == name:
            return


@pytest.mark.slow
def test_killed_at_any_moment_it_is_complete_or_absent(tmp_path: Path, root: Path) -> None:
    source = make_model(tmp_path / "m", num_hidden_layers=24, hidden_size=256)
    whole = packed(source, tmp_path / "whole")
    wanted = {p.name: p.read_bytes() for p in whole.iterdir()}
    shelf = tmp_path / "shelf"
    generator = np.random.default_rng(0)
    ends = set[str]()
    for number in range(12):
        out = shelf / f"out{number}"
        child = started(job(source, out, root), worker_command())
        assert child.stdin is not None
        assert child.stdout is not None
        events_until(child.stdout, "packing")
        time.sleep(generator.uniform(0, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
        ends.add("whole" if out.exists() else "absent")
        if out.exists():
            found = {p.name: p.read_bytes() for p in out.iterdir()}
            assert {k: v for k, v in found.items() if k != "origin.json"} == wanted
    run(job(source, shelf / "last", root))
    assert not list(shelf.glob(f"{TEMPORARY}*")), "the next one sweeps what the dead left"
    assert "absent" in ends
    load_model(str(shelf / "last"))


@pytest.mark.slow
def test_memory_is_that_of_the_largest_matrix(tmp_path: Path, root: Path) -> None:
    """A model of 24 layers beside one of 4: twice the bytes, about the same peak."""
    peaks = {}
    for layers in (4, 24):
        source = make_model(
            tmp_path / f"m{layers}", num_hidden_layers=layers, hidden_size=1024,
            intermediate_size=2048, num_attention_heads=8, num_key_value_heads=8,
        )  # fmt: skip
        _, reports = worked(job(source, tmp_path / f"out{layers}", root), worker_command())
        data = next(e for e in reports if e["type"] == "report")["data"]
        peaks[data["original_bytes"]] = data["peak_memory"]
    (small, little), (large, much) = sorted(peaks.items())
    assert large > small + 700e6
    assert much - little < 0.1 * (large - small)


@pytest.mark.slow
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3"])
def test_tensor_for_tensor_what_mlx_lm_converts_to(tmp_path: Path, bits: int, family: str) -> None:
    """And loaded by mlx-lm. It groups by 64 alone; asked for 32 where 64 does not fit, it is us."""
    code = """
import sys, json
import mlx.core as mx
from mlx_lm.convert import convert
from mlx_lm import load
source, theirs, ours, bits = sys.argv[1:]
def predicate(path, module):
    width = module.weight.shape[-1]
    group = 64 if width % 64 == 0 else 32
    return {"group_size": group, "bits": int(bits), "mode": "affine"}
convert(source, theirs, quantize=True, q_bits=int(bits), q_group_size=32, quant_predicate=predicate)
def read(folder):
    import glob
    found = {}
    for name in glob.glob(folder + "/model*.safetensors"): found |= mx.load(name)
    return found
a, b = read(theirs), read(ours)
assert a.keys() == b.keys(), a.keys() ^ b.keys()
assert all(a[k].dtype == b[k].dtype and mx.array_equal(a[k], b[k]) for k in a)
model, tokenizer = load(ours)
other, _ = load(theirs)
ids = mx.array([[5, 6, 7, 8]])
assert mx.array_equal(model(ids), other(ids))
print("equal", len(a))
"""
    source = make_model(tmp_path / "m", family, hidden_size=128, torch_dtype="bfloat16")
    ours = packed(source, tmp_path / "ours", bits)
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "theirs"), str(ours), str(bits)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "equal" in done.stdout


def test_plain_mlx_packs_alike(tmp_path: Path) -> None:
    """`nn.quantize` on the loaded model: the mechanism mlx-lm's convert is made of."""
    source = make_model(tmp_path / "m", hidden_size=128, intermediate_size=128)
    model = load_model(str(source)).module
    nn.quantize(model, group_size=64, bits=6)
    wanted = dict(nn.utils.tree_flatten(model.parameters()))
    found = tensors(packed(source, tmp_path / "out", 6))
    assert found.keys() == wanted.keys()
    assert all(mx.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("bits", ["4", "6", "8"])
def test_the_forecast_counts_every_width_as_it_is_held(tmp_path: Path, bits: str) -> None:
    from mlx_lora.config import build_config
    from mlx_lora.forecast import base_of, weight_bytes
    from mlx_lora.models.shelf import look_up

    source = make_model(tmp_path / "m", hidden_size=128, intermediate_size=256)
    out = packed(source, tmp_path / "out", int(bits))
    held = sum(array.nbytes for array in tensors(out).values())
    for model, wanted in ((source, bits), (out, "keep")):
        found = look_up(str(model))
        base = base_of(found)
        assert base is not None
        tree = {"model": {"source": str(model), "bits": wanted}, "data": {"source": "demo"}}
        assert abs(weight_bytes(build_config(tree), base, metal=True) - held) <= 1
    assert (found.bits, found.parameters) == (int(bits), look_up(str(source)).parameters)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["loading", "folder"])
def test_six_bits_train_answer_and_export(
    tmp_path: Path, stories: Path, tiny_text: Path, understudy: Any, way: str
) -> None:
    """A float base at --bits 6, and a folder packed to 6: every command that reads the bits."""
    model, bits = str(stories), ["--bits", "6"]
    if way == "folder":
        out = tmp_path / "six"
        made = understudy("models", "quantize", model, "--bits", "6", "--out", str(out))
        assert made.returncode == 0, made.stderr
        model, bits = str(out), []
    steps = ["--steps", "3", "--max-length", "64", "--save-every", "2", "--rank", "4"]
    run = str(tmp_path / "run")
    commands: list[list[str]] = [
        ["train", "--model", model, "--data", str(tiny_text), "--out", run, *bits, *steps],
        ["evaluate", run],
        ["generate", "--model", model, *bits, "--adapter", f"{run}/adapter", "--prompt", "Once",
         "--max-tokens", "4"],
        ["export", run, "--format", "mlx-fused", "--quant", "6", "--out", str(tmp_path / "fused")],
        ["export", run, "--format", "gguf", "--quant", "f16", "--out", str(tmp_path / "gguf")],
        ["export", run, "--format", "hf", "--out", str(tmp_path / "hf")],
        ["export", run, "--format", "peft", "--out", str(tmp_path / "peft")],
    ]  # fmt: skip
    for command in commands:
        done = understudy(*command)
        assert done.returncode == 0, (command[0], done.stderr, done.stdout)
    if way == "loading":
        refused = understudy(
            "generate", "--model", model, "--adapter", f"{run}/adapter", "--prompt", "a"
        )
        assert refused.returncode == 2, "other bits are another base"
    assert load_model(str(tmp_path / "fused")).form.startswith("6-bit")


@pytest.mark.parametrize("bits", ["3", "16"])
def test_other_widths_are_refused_by_the_command(
    bits: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlx_lora.cli import main

    assert main(["models", "quantize", "demo", "--bits", bits]) == 2
    wanted = f"error[bad_option] --bits {bits}: models are packed to 4, 6 or 8 bit."
    assert capsys.readouterr().err.startswith(wanted)
    assert not root.exists()
