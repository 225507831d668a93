"""The vocabulary between the worker and everyone else: one tagged struct, one JSON line each.

Readers skip types and fields they do not know, so either side may be newer than the other.
Times are seconds, memory bytes, losses nats a token, speeds target tokens a second.
A number that is not finite never goes into an event: it becomes a `Failed`.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

PROTOCOL = 1


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """First line of every worker."""

    pid: int
    version: int = PROTOCOL


class Phase(msgspec.Struct, tag="phase", frozen=True):
    """What the worker is doing now; `done` of `total` where that is known.

    `resumed` has a meaning for readers: every step after `done` is about to be made again. A
    download says bytes, how many come a second (`rate`) and the seconds left (`eta`), 0 unknown.
    """

    name: str
    done: int = 0
    total: int = 0
    rate: float = 0.0
    eta: float = 0.0


class TrainStep(msgspec.Struct, tag="train_step", frozen=True, kw_only=True):
    """One optimizer step.

    `peak_memory` is what MLX's arrays took at most, `footprint` what the whole process takes now (0
    where it was not told).
    """

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    peak_memory: int
    eta: float
    footprint: int = 0


class Validation(msgspec.Struct, tag="validation", frozen=True, kw_only=True):
    """Loss and next-token accuracy on held-out rows after `step` steps."""

    step: int
    loss: float
    accuracy: float
    rows: int


class Sample(msgspec.Struct, tag="sample", frozen=True, kw_only=True):
    """A fixed prompt continued by the base and by the adapter as it is after `step` steps."""

    step: int
    prompt: str
    base: str
    text: str


class CheckpointSaved(msgspec.Struct, tag="checkpoint", frozen=True, kw_only=True):
    """A complete checkpoint is on disk; `path` is relative to the run folder."""

    step: int
    path: str
    best: bool


class Token(msgspec.Struct, tag="token", frozen=True, kw_only=True):
    """A piece of generated text of row `row`; `logprob` is that of its last token."""

    row: int
    text: str
    logprob: float


class Report(msgspec.Struct, tag="report", frozen=True, kw_only=True):
    """The result of a question asked of the worker (evaluate, inspect, compare, ...)."""

    kind: str
    data: dict[str, Any]


class Notice(msgspec.Struct, tag="notice", frozen=True, kw_only=True):
    """Something worth a sentence that stops nothing."""

    level: Literal["info", "warning"]
    code: str
    text: str


class Finished(msgspec.Struct, tag="finished", frozen=True, kw_only=True):
    """The job ended as it should: `reason` is done, stopped or early_stop."""

    reason: str
    result: dict[str, Any] = {}


class Failed(msgspec.Struct, tag="failed", frozen=True, kw_only=True):
    """The job ended with an error a person can act on, or with our own bug (`code` internal)."""

    code: str
    where: str
    why: str
    fix: str
    saved: str = ""


Event = (
    Hello
    | Phase
    | TrainStep
    | Validation
    | Sample
    | CheckpointSaved
    | Token
    | Report
    | Notice
    | Finished
    | Failed
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """One JSON line, newline included."""
    return _encoder.encode(event) + b"\n"


def decode(line: bytes) -> Event | None:
    """The event of a line, or None for a line of another version, a torn line or no JSON at all."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Pulse:
    """Says when it is time for a sign of life: at once, then about once a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        """True at most once a second."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + 1.0
        return True
