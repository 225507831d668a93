"""The vocabulary: one JSON line an event, readers that skip what they do not know."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trial

from mlx_lora import events
from mlx_lora.events import Event, Pulse, decode, encode
from mlx_lora.runs import Run, RunState, fold
from mlx_lora.training import validation
from mlx_lora.training.head_loss import Tally

STREAM = Path(__file__).parent / "streams" / "short-run.jsonl"
EVERY: list[Event] = [
    events.Hello(pid=7),
    events.Phase("training", 1, 2),
    events.TrainStep(
        step=1,
        steps=2,
        epoch=0.5,
        loss=2.0,
        learning_rate=1e-4,
        grad_norm=1.0,
        tokens=9,
        tokens_per_second=3.0,
        peak_memory=1,
        eta=2.0,
        footprint=3,
    ),
    events.Validation(step=1, loss=2.0, accuracy=0.5, rows=3),
    events.Sample(step=1, prompt="To be\n", base="a\u2028b", text="\N{CAT FACE}"),
    events.CheckpointSaved(step=1, path="checkpoints/step-000001", best=True),
    events.Token(row=0, text="\n", logprob=-0.5),
    events.Report(kind="setup", data={"steps": 2}),
    events.Notice(level="info", code="cut", text="..."),
    events.Finished(reason="done"),
    events.Failed(code="busy", where="here", why="so", fix="wait"),
]


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_comes_back(event: Event) -> None:
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == event
    later = {**json.loads(line), "from_a_later_version": {"x": [1]}}
    assert decode(json.dumps(later).encode()) == event


def test_every_event_is_tried_here() -> None:
    assert {type(event) for event in EVERY} == set(Event.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"Loading weights: 100%\n",
        b'{"type":"from_a_later_version","x":1}\n',
        b'{"step":1}\n',
        b'{"type":"hello"}\n',
        b'{"type":"hello","pid":"seven"}\n',
        b'{"type":"train_step","step":1,"st',
        b"[1, 2]\n",
        b"null\n",
        b"\xff\xfe\n",
        b'{"type":"phase","name":"\xff"}\n',
        b'{"type":"validation","step":1,"loss":NaN,"accuracy":0.5,"rows":3}\n',
        b"\x00" * 100,
    ],
)
def test_what_is_no_event_is_skipped(line: bytes) -> None:
    assert decode(line) is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_that_is_none_reaches_json(number: float) -> None:
    line = encode(events.Validation(step=1, loss=number, accuracy=0.5, rows=3))
    assert not {b"NaN", b"Infinity", b"nan", b"inf"} & set(line.replace(b":", b",").split(b","))
    json.loads(line, parse_constant=pytest.fail)


def test_the_recorded_stream_folds_to_what_it_was() -> None:
    """`short-run.jsonl`: a run of version 1, told to stop at step 4 and resumed to its end."""
    lines = STREAM.read_bytes().splitlines()
    state = RunState()
    for line in lines:
        event = decode(line)
        assert event is not None, line
        # nobody told it then
        assert getattr(event, "footprint", 0) == 0
        fold(state, event)
    assert state.status == "finished"
    assert (state.step, state.steps, state.best_step) == (6, 6, 6)
    assert [step for step, _ in state.losses] == [1, 2, 3, 4, 5, 6]
    assert [v.step for v in state.validations] == [0, 3, 6, 6]
    assert state.first_validation is not None
    assert state.last_validation is not None
    assert state.last_validation.loss < state.first_validation.loss
    assert {s.step for s in state.samples} == {6}
    assert state.failure is None
    seen = {json.loads(line)["type"] for line in lines}
    assert seen == {
        *("hello", "phase", "report", "notice", "train_step", "validation"),
        *("sample", "checkpoint", "finished"),
    }


def test_a_torn_stream_folds_as_far_as_it_goes(tmp_path: Path) -> None:
    lines = STREAM.read_bytes()
    for cut in (len(lines) // 3, len(lines) - 9):
        (tmp_path / "events.jsonl").write_bytes(lines[:cut])
        state = Run(tmp_path).state()
        assert state.status in {"interrupted", "stopped"}
        with Run(tmp_path).append_log() as log:
            log.write(encode(events.Finished(reason="done")))
        assert Run(tmp_path).state().status == "finished"
        whole = [line for line in trial.log_lines(tmp_path) if decode(line) is None]
        assert len(whole) == 1


def test_a_pulse_beats_at_once_and_then_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pulse, beats = Pulse(), []
    for _ in range(100):
        if pulse.due():
            beats.append(now)
        now += 0.13
    gaps = [b - a for a, b in itertools.pairwise(beats)]
    assert beats[0] == 100.0
    assert all(1.0 <= gap < 1.2 for gap in gaps)


def test_a_long_validation_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty batches of two seconds each: never more than one of them without a word."""
    import mlx.core as mx

    now, heard = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)

    class Batch:
        target_count = 1

    class Slow:
        def tally(self, _batch: Any) -> Tally:
            nonlocal now
            now += 2.0
            return Tally(mx.array(1.0), mx.array(1.0))

    class Row(msgspec.Struct):
        tokens: tuple[int, int] = (0, 0)
        row: int = 0

    monkeypatch.setattr(validation, "make_batch", lambda _rows: Batch())
    measuring = validation.measure(Slow(), [Row() for _ in range(60)], 1)  # type: ignore[list-item]
    for phase in measuring:
        heard.append(now)
        assert (phase.name, phase.total) == ("validation", 60)
    assert heard[0] == 0.0
    assert max(b - a for a, b in itertools.pairwise(heard)) <= 5.0
    assert now - heard[-1] <= 5.0
