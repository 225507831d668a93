"""Packed or plain: the same model either way, and which is faster here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import attach_adapter, make_model, random_ids, random_rows, randomize_adapter

from mlx_lora.data.batching import make_batch
from mlx_lora.models import forms
from mlx_lora.models.forms import Forms, float_type, hold_plain, measure_forms, plain_bytes
from mlx_lora.models.loading import LoadedModel, load_model, unpack
from mlx_lora.models.packing import plain_fits
from mlx_lora.models.quantize import quantize_model

if TYPE_CHECKING:
    from pathlib import Path

IDS = random_ids(2, 15)
on_cpu = pytest.mark.skipif(mx.default_device() != mx.cpu, reason="the CPU's rule")


def logits(base: LoadedModel) -> np.ndarray:
    return np.array(base.module(mx.array(IDS)))


def is_packed(model: nn.Module) -> bool:
    return any(hasattr(module, "bits") for module in model.modules())


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max())


@on_cpu
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen2"])
@pytest.mark.parametrize("bits", ["4", "8"])
def test_every_form_is_the_same_base(tmp_path: Path, family: str, bits: str) -> None:
    folder = str(make_model(tmp_path / "m", family))
    packed, plain = load_model(folder, bits, "packed"), load_model(folder, bits, "plain")
    auto = load_model(folder, bits)
    assert (packed.form, plain.form) == (f"{bits}-bit", f"{bits}-bit values in float32")
    assert is_packed(packed.module)
    assert not is_packed(plain.module)
    assert auto.form == plain.form
    assert packed.fingerprint == plain.fingerprint == auto.fingerprint
    assert near(logits(packed), logits(plain))
    assert np.array_equal(logits(auto), logits(plain))
    assert float_type(packed.module) == mx.float32
    floats = load_model(folder).module
    assert plain_bytes(packed.module) == plain_bytes(plain.module) == plain_bytes(floats)
    unpacked = unpack(packed)
    assert unpacked.form == plain.form
    assert np.array_equal(logits(unpacked), logits(plain))
    assert nn.utils.tree_flatten(unpacked.module.trainable_parameters()) == []
    assert plain_bytes(floats) == sum(
        array.nbytes for _, array in nn.utils.tree_flatten(floats.parameters())
    )


@on_cpu
def test_a_float_base_has_one_form(tmp_path: Path) -> None:
    folder = str(make_model(tmp_path / "m"))
    found = [load_model(folder, form=form) for form in ("auto", "packed", "plain")]
    assert {one.form for one in found} == {"float32"}
    assert unpack(found[0]).form == "float32"
    assert measure_forms(found[0].module, 8) == Forms(None, None, plain_bytes(found[0].module))


@on_cpu
def test_plain_needs_twice_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(make_model(tmp_path / "m"))
    size = plain_bytes(load_model(folder).module)
    machine = forms.this_machine()
    for memory, wanted in ((2 * size, False), (2 * size - 1, True)):
        monkeypatch.setattr(
            forms, "this_machine", lambda m=memory: type(machine)(machine.name, m, m, False)
        )
        assert plain_fits(size, memory) is not wanted
        base = load_model(folder, "4")
        assert is_packed(base.module) is wanted
        assert not is_packed(load_model(folder, "4", "plain").module)
        found = measure_forms(load_model(folder, "4", "packed").module, 8)
        assert (found.speedup is None) is wanted
        assert found.plain_bytes == size


def step(base: LoadedModel) -> tuple[float, dict[str, np.ndarray]]:
    adapter = attach_adapter(base.module, rank=3)
    randomize_adapter(adapter)
    batch = make_batch(random_rows([12, 9, 5]))

    def loss(_: int) -> mx.array:
        losses = nn.losses.cross_entropy(base.module(batch.inputs), batch.targets)
        return (losses * batch.weights).sum() / batch.target_count

    value, tree = nn.value_and_grad(base.module, loss)(0)
    return value.item(), {n: np.array(g) for n, g in nn.utils.tree_flatten(tree)}


@on_cpu
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3"])
@pytest.mark.parametrize("bits", ["4", "8"])
def test_packed_bases_learn_as_plain_ones_do(tmp_path: Path, family: str, bits: str) -> None:
    folder = str(make_model(tmp_path / "m", family, tied=family != "phi3"))
    (loss, packed), (wanted_loss, plain) = (
        step(load_model(folder, bits, form)) for form in ("packed", "plain")
    )
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert packed.keys() == plain.keys()
    assert packed
    for name, gradient in plain.items():
        assert np.abs(packed[name] - gradient).max() < 1e-4 * np.abs(gradient).max(), name


@pytest.mark.parametrize("kind", [mx.bfloat16, mx.float16])
def test_plain_is_of_the_activations_type(tmp_path: Path, kind: mx.Dtype) -> None:
    """As on Metal, where bases stay in 16 bit."""
    model = load_model(str(make_model(tmp_path / "m"))).module
    model.set_dtype(kind)
    assert quantize_model(model, 4) == []
    assert float_type(model) == kind
    size = plain_bytes(model)
    hold_plain(model)
    flat = dict(nn.utils.tree_flatten(model.parameters()))
    assert {array.dtype for array in flat.values()} == {kind}
    assert sum(array.nbytes for array in flat.values()) == size
    assert model(mx.array(IDS)).dtype == kind


def test_unpacking_holds_one_linear_twice_at_most() -> None:
    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(8)))
    nn.quantize(model, 64, 4)
    mx.eval(model.parameters())
    before = mx.get_active_memory()
    packed = sum(array.nbytes for _, array in nn.utils.tree_flatten(model.parameters()))
    mx.clear_cache()
    mx.reset_peak_memory()
    hold_plain(model)
    peak = mx.get_peak_memory() - before
    plain = 8 * 4 * 1024 * 1024
    # all packed ones would stand beside all plain ones
    assert peak < plain - packed + 1.5 * plain / 8
    assert mx.get_active_memory() - before == pytest.approx(plain - packed, rel=0.01)


@pytest.mark.parametrize("bits", ["4", "8"])
def test_packing_a_float_base_never_holds_it_whole(tmp_path: Path, bits: str) -> None:
    """Or a base that only fits packed could not be loaded."""
    wide = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "num_hidden_layers": 6}
    folder = str(make_model(tmp_path / "m", **wide))
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    base = load_model(folder, bits, "packed")
    peak = mx.get_peak_memory() - before
    kept = mx.get_active_memory() - before
    # beside the packed weights one linear and what it was made of
    assert kept < 0.3 * plain_bytes(base.module)
    assert peak - kept < 0.2 * plain_bytes(base.module)


@on_cpu
def test_both_forms_are_timed_and_the_model_stays_as_it_is(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", hidden_size=256, intermediate_size=512, head_dim=64)
    model = load_model(str(folder), "4", "packed").module
    before = {name: module for name, module in model.named_modules() if hasattr(module, "bits")}
    found = measure_forms(model, 64)
    assert {n: m for n, m in model.named_modules() if hasattr(m, "bits")} == before
    assert found.packed_seconds is not None
    assert found.plain_seconds is not None
    assert found.speedup == found.packed_seconds / found.plain_seconds
    # the same layers as adapted ones
    attach_adapter(model, rank=3)
    assert measure_forms(model, 64).packed_seconds is not None


@on_cpu
def test_a_slice_of_a_large_layer_tells_of_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "m", hidden_size=256, intermediate_size=512, head_dim=64)
    model = load_model(str(folder), "4", "packed").module
    # a clock that counts the multiplications: what it says of the slice must come to the whole
    clock = lambda linears, count, _: 1e-9 * count * sum(map(forms._numbers, linears))  # noqa: E731
    monkeypatch.setattr(forms, "_seconds", clock)
    whole = measure_forms(model, 32)
    monkeypatch.setattr(forms, "_MOST", 20_000)
    rows: list[int] = []

    def watched(one: Any, share: float, kind: mx.Dtype) -> tuple[Any, Any]:
        packed, plain = forms_both(one, share, kind)
        rows.append(plain.weight.shape[0])
        assert packed.weight.shape[0] == plain.weight.shape[0]
        return packed, plain

    forms_both = forms._both
    monkeypatch.setattr(forms, "_both", watched)
    part = measure_forms(model, 32)
    assert set(rows) == {32}
    assert part.packed_seconds == pytest.approx(whole.packed_seconds, rel=1e-9)
    layer = sum(forms._numbers(one) for one in forms._largest_layer(model))
    assert whole.packed_seconds == pytest.approx(1e-9 * 32 * layer)


def test_the_tables_first_is_kept_unless_clearly_slower() -> None:
    def found(packed: float, plain: float) -> Forms:
        return Forms(packed, plain, 1_100_000_000)

    assert found(1.14, 1.0).choose("packed") == "packed"
    assert found(1.16, 1.0).choose("packed") == "plain"
    assert found(1.0, 1.14).choose("plain") == "plain"
    assert found(1.0, 1.16).choose("plain") == "packed"
    assert Forms(None, None, 1).choose("plain") == "packed"
    assert found(11.2, 1.0).words("4-bit") == (
        "On this machine products with 4-bit weights are 11 times faster held as floats; "
        "that takes 1.1 GB."
    )
    assert found(1.0, 2.5).words("8-bit") == (
        "On this machine products with 8-bit weights are 2.5 times faster packed than held as "
        "floats."
    )
    assert "about as fast" in found(1.1, 1.0).words("4-bit")
    assert Forms(None, None, 13_600_000).words("4-bit") == (
        "4-bit weights stay packed: held as floats they would take 14 MB."
    )
