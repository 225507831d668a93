"""What the terminal shows of a run that trains: how it computes, and its memory."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from mlx_lora import events
from mlx_lora.cli import display

_SETUP = {
    "model": "storybook", "parameters": 3_410_000, "form": "float32", "trainable": 1000,
    "trainable_share": 0.01, "adapted_modules": 4, "steps": 2,
    "data": {"name": "d", "training_rows": 9, "validation_rows": 1, "training_targets": 99},
}  # fmt: skip
_ENGINE = events.Report(
    kind="engine", data={"batching": "pack", "words": ["Rows share rows.", "It is [fast]."]}
)


def _step(footprint: int) -> events.TrainStep:
    return events.TrainStep(
        step=1, steps=2, epoch=0.5, loss=2.0, learning_rate=1e-4, grad_norm=1.0, tokens=9,
        tokens_per_second=100.0, peak_memory=1_200_000_000, eta=3.0, footprint=footprint,
    )  # fmt: skip


def _shown(monkeypatch: pytest.MonkeyPatch, *said: events.Event, **console: Any) -> str:
    out = StringIO()
    monkeypatch.setattr(display, "console", Console(file=out, width=80, highlight=False, **console))
    with display.TrainDisplay(silent=True) as shown:
        for event in said:
            shown.show(event)
    return out.getvalue()


def test_how_it_computes_is_said_once_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = events.Report(kind="setup", data=_SETUP)
    lines = _shown(monkeypatch, setup, _ENGINE, _step(0)).splitlines()
    assert lines[3:5] == ["Engine   Rows share rows.", "         It is [fast]."]
    assert lines[5].startswith("step 1/2")
    assert len(lines) == 6


def test_it_is_dim_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _shown(
        monkeypatch, _ENGINE, force_terminal=True, color_system="standard", legacy_windows=False
    )
    assert said.startswith("\x1b[2mEngine   Rows share rows.")


@pytest.mark.parametrize("data", [{}, {"words": []}, {"words": None}])
def test_a_worker_that_says_nothing_of_it_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]
) -> None:
    assert _shown(monkeypatch, events.Report(kind="engine", data=data)) == ""


def test_memory_of_mlx_and_of_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "peak 1,200 MB by MLX, 1,900 MB in all  3 s left" in _shown(
        monkeypatch, _step(1_900_000_000)
    )
    assert "peak 1,200 MB  3 s left" in _shown(monkeypatch, _step(0))
