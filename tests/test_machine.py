"""Whether MLX runs at all is said at the start, for every kind of Mac."""

from __future__ import annotations

import platform
import sys

import pytest

from mlx_lora import machine
from mlx_lora.cli import main
from mlx_lora.errors import UserError
from mlx_lora.machine import System, check_system, this_system

UNFIT = [
    (System("darwin", "x86_64", "13.6.7"), "Intel processor"),
    (System("darwin", "x86_64", "26.1"), "Intel processor"),
    (System("darwin", "x86_64", "15.1", translated=True), "Python is one for Intel"),
    (System("darwin", "arm64", "13.5"), "macOS 13.5"),
    (System("darwin", "arm64", "12"), "macOS 14 or later"),
]


@pytest.mark.parametrize(("system", "words"), UNFIT)
def test_it_is_said_what_this_mac_lacks(
    system: System, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as raised:
        check_system(system)
    assert raised.value.code == "unsupported_machine"
    assert words in raised.value.why
    monkeypatch.setattr(machine, "this_system", lambda: system)
    for command in (["runs", "list"], ["train", "--model", "demo", "--data", "demo"], ["doctor"]):
        assert main(command) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("error[unsupported_machine] this Mac: ")
        assert words in told.err
        assert "Fix: " in told.err
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    "system",
    [
        System("darwin", "arm64", "14.0"),
        System("darwin", "arm64", "26.1"),
        System("darwin", "arm64", ""),
        System("linux", "x86_64"),
        System("linux", "aarch64"),
    ],
)
def test_fit_ones_hear_nothing(system: System) -> None:
    check_system(system)


def test_a_mac_is_asked_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python built for an older macOS is told 10.16; Rosetta says so when asked."""
    answers = {"kern.osproductversion": "15.2", "sysctl.proc_translated": "1"}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("10.16", ("", "", ""), ""))
    monkeypatch.setattr(machine, "_sysctl", lambda name: answers.get(name, ""))
    assert this_system() == System("darwin", "x86_64", "15.2", translated=True)


def test_this_one_is_fit() -> None:
    check_system(this_system())
