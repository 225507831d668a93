"""Limits of Macs of every size, put back afterwards; the cache emptied only when it is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from mlx_lora import memory_limits
from mlx_lora.memory_limits import Tidier, engine_limits, limits_of, machine_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

GB = 1 << 30
# `mx.device_info()` as people have posted it of their Macs: A18 Pro, M1, M3 Pro, M-series Max
MACS: dict[int, dict[str, Any]] = {
    8: {
        "device_name": "Apple A18 Pro", "max_recommended_working_set_size": 5726633984,
        "memory_size": 8589934592, "architecture": "applegpu_g17p",
        "max_buffer_length": 4294967296, "resource_limit": 499000,
    },
    16: {
        "device_name": "Apple M1", "max_recommended_working_set_size": 11453251584,
        "memory_size": 17179869184, "architecture": "applegpu_g13g",
        "max_buffer_length": 8589934592, "resource_limit": 499000,
    },
    36: {
        "device_name": "Apple M3 Pro", "max_recommended_working_set_size": 30150672384,
        "memory_size": 38654705664, "architecture": "applegpu_g15s",
        "max_buffer_length": 22613000192,
    },
    64: {
        "max_recommended_working_set_size": 55662788608, "memory_size": 68719476736,
    },
    128: {
        "device_name": "Apple M5 Max", "max_recommended_working_set_size": 115448725504,
        "memory_size": 137438953472, "architecture": "applegpu_g17s",
        "max_buffer_length": 86586540032, "resource_limit": 499000,
    },
}  # fmt: skip
NAMES = ("wired", "memory", "cache")


class Metal:
    """A GPU's limits, and in which order they were touched."""

    def __init__(self, info: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.info, self.order = info, list[str]()
        # MLX's defaults
        top = int(1.5 * info["max_recommended_working_set_size"])
        self.held = {"wired": 0, "memory": top, "cache": top}
        self.before = dict(self.held)
        for name in NAMES:
            monkeypatch.setattr(mx, f"set_{name}_limit", self._setter(name))
        monkeypatch.setattr(mx, "device_info", lambda: info)
        monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
        monkeypatch.setattr(mx, "synchronize", lambda: self.order.append("synchronize"))

    def _setter(self, name: str) -> Any:
        def put(limit: int) -> int:
            # as MLX refuses it
            if name == "wired" and limit > self.info["max_recommended_working_set_size"]:
                raise ValueError("Setting a wired limit larger than the maximum working set size")
            self.order.append(name)
            self.held[name], old = limit, self.held[name]
            return old

        return put


@pytest.fixture(params=MACS, ids=lambda size: f"{size} GB")
def metal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Metal:
    return Metal(MACS[request.param], monkeypatch)


def test_a_mac_keeps_room_for_everything_else(metal: Metal) -> None:
    recommended = metal.info["max_recommended_working_set_size"]
    with engine_limits():
        held = dict(metal.held)
    assert 0.85 * recommended < held["wired"] < held["memory"] < recommended
    assert recommended < metal.info["memory_size"]
    # enough to be of use on the smallest, little enough to be let be on the largest
    assert 256 << 20 < held["cache"] < 16 * GB
    assert held["cache"] <= recommended / 4


def test_the_limits_before_are_put_back(metal: Metal) -> None:
    with engine_limits():
        inside = dict(metal.held)
        # one job in another
        with engine_limits():
            assert metal.held == inside
        assert metal.held == inside
        assert metal.held != metal.before
    assert metal.held == metal.before
    # what is wired never changes under work in hand
    assert metal.order[-2:] == ["synchronize", "wired"]


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_they_are_put_back_after_an_error(metal: Metal, error: BaseException) -> None:
    with pytest.raises(type(error)), engine_limits():
        raise error
    assert metal.held == metal.before


def test_a_gpu_that_cannot_finish_keeps_no_limit(
    metal: Metal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory")

    monkeypatch.setattr(mx, "synchronize", fail)
    with pytest.raises(RuntimeError, match="Insufficient"), engine_limits():
        pass
    assert metal.held == metal.before


@pytest.mark.parametrize("size", [8, 24, 128])
def test_on_the_cpu_only_the_cache_is_limited(size: int) -> None:
    limits = limits_of(None, size * GB)
    assert (limits.wired, limits.memory) == (None, None)
    # MLX's own limit is 32 MB
    assert 32 << 20 <= limits.cache <= GB


@pytest.fixture
def cpu() -> Iterator[None]:
    """MLX's real limit of the cache, whatever a test does to it."""
    if mx.default_device() != mx.cpu:
        pytest.skip("computes on a GPU")
    before = mx.set_cache_limit(48 << 20)
    yield
    mx.set_cache_limit(before)
    mx.clear_cache()


def real_cache_limit() -> int:
    limit = mx.set_cache_limit(0)
    mx.set_cache_limit(limit)
    return limit


@pytest.mark.usefixtures("cpu")
def test_mlx_itself_takes_the_limits_and_gives_them_up() -> None:
    with engine_limits():
        assert real_cache_limit() == machine_limits().cache != 48 << 20
    assert real_cache_limit() == 48 << 20


def leave_buffers(size: int) -> None:
    """Make and free buffers of so many bytes together."""
    arrays = [mx.zeros((1 << 18,)) + n for n in range(size >> 20)]
    mx.eval(arrays)


@pytest.mark.usefixtures("cpu")
def test_the_cache_is_emptied_when_it_is_full_and_not_at_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit, rest = 20 << 20, 5
    monkeypatch.setattr(memory_limits, "_REST", rest)
    mx.clear_cache()
    mx.set_cache_limit(limit)
    tidier, emptied = Tidier(limit), []
    leave_buffers(10 << 20)
    assert not tidier.tidy()
    assert mx.get_cache_memory() >= 10 << 20
    for step in range(3 * rest):
        leave_buffers(limit)
        if tidier.tidy():
            emptied.append(step)
            assert mx.get_cache_memory() == 0
        else:
            assert mx.get_cache_memory() > 0.9 * limit
    assert emptied == [0, rest + 1, 2 * rest + 2]


@pytest.mark.usefixtures("cpu")
def test_a_full_cache_takes_in_nothing_new_until_it_is_emptied() -> None:
    """Why it is emptied at all; should MLX push old buffers out one day, this says so."""
    mx.clear_cache()
    leave_buffers(40 << 20)
    full = mx.get_cache_memory()
    wide = mx.zeros((3 << 20,))
    mx.eval(wide)
    del wide
    assert mx.get_cache_memory() == full


@pytest.mark.apple
@pytest.mark.skipif(not mx.metal.is_available(), reason="needs Metal")
def test_a_real_mac_takes_them_and_gives_them_up() -> None:
    before = [mx.set_wired_limit(0), mx.set_memory_limit(GB), mx.set_cache_limit(GB)]
    mx.set_wired_limit(before[0]), mx.set_memory_limit(before[1]), mx.set_cache_limit(before[2])
    with engine_limits():
        mx.eval(mx.zeros((1 << 20,)) + 1)
        limits = machine_limits()
        assert mx.set_wired_limit(limits.wired or 0) == limits.wired
    after = [mx.set_wired_limit(0), mx.set_memory_limit(GB), mx.set_cache_limit(GB)]
    mx.set_wired_limit(before[0]), mx.set_memory_limit(before[1]), mx.set_cache_limit(before[2])
    assert after == before
