"""A base held ready that answers questions, with and without an adapter, until it is told to leave.

What is wrong with one question is said of that question; the next one is answered all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.config import check_limits, rules
from mlx_lora.data.dataset import build_dataset
from mlx_lora.data.held_out import held_out_prompts
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Report
from mlx_lora.generation.settings import Sampling
from mlx_lora.generation.voices import Stage, Turn, take_turns, template_notice
from mlx_lora.jobs import HeldOut, Question, TalkJob, Voice
from mlx_lora.models.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.control import Control

_BASE = Voice()


def converse(job: TalkJob, control: Control) -> Generator[Event, None, None]:
    """Load the base once, then answer what is asked; `idle` is the phase of waiting.

    Raises:
        UserError: anything wrong with the model.
    """
    yield Phase("loading_model")
    base = load_model(job.model.source, job.model.bits)
    stage = Stage(base)
    answered = 0
    while True:
        yield Phase("idle")
        match control.next_request():
            case None:
                break
            case HeldOut() as request:
                yield from _held_out(job, request, stage)
            case Question() as question:
                yield from _answer(question, stage, control)
                answered += 1
    yield Finished(reason="stopped", result={"answers": answered})


def _answer(question: Question, stage: Stage, control: Control) -> Generator[Event, None, None]:
    """Both voices' answers to one question, then the report of them; tokens as they come."""
    turns: list[Turn] = []
    facts: dict[str, Any] = {"id": question.id}
    try:
        settings = _settings(question.sampling)
        failed = _dress(question.voice, stage)
        known = stage.facts if question.voice else None
        notice = template_notice(known, stage)
        if notice is not None:
            yield notice
        manner = stage.manner(known, question.style)
        facts.update(manner.facts())
        voices = {0: _BASE, **({1: question.voice} if question.voice and not failed else {})}
        turns = [
            stage.turn(row, question.prompt, voice, settings, manner)
            for row, voice in voices.items()
        ]
        for group in [turns] if question.together else [[turn] for turn in turns]:
            yield from take_turns(group, lambda: control.is_cancelled(question.id))
        facts["voices"] = [_spoken(turn) for turn in turns]
        if failed and question.voice:
            words = _words(failed)
            silent = {"row": 1, "voice": question.voice.label, "stop": "failed", "error": words}
            facts["voices"].append(silent)
    except UserError as error:
        facts["error"] = _words(error)
    yield Report(kind="answer", data=facts)


def _dress(voice: Voice | None, stage: Stage) -> UserError | None:
    """Attach the adapter of a voice; what was wrong with it, where something was."""
    if voice is None:
        return None
    try:
        stage.wear(voice)
    except UserError as error:
        return error
    return None


def _settings(sampling: dict[str, float]) -> Sampling:
    """Checked settings.

    Raises:
        UserError: `bad_option`.
    """
    for name, rule in rules(Sampling).items():
        if name in sampling:
            check_limits(f"sampling.{name}", sampling[name], rule)
    try:
        return msgspec.convert(sampling, Sampling, strict=False)
    except msgspec.ValidationError as error:
        fix = "choose the settings anew"
        raise UserError("bad_option", "sampling", str(error).replace("`", ""), fix) from error


def _spoken(turn: Turn) -> dict[str, Any]:
    """What a report says of one voice: times are its own, without the other's turns."""
    facts: dict[str, Any] = {
        "row": turn.row,
        "voice": turn.label,
        "text": turn.text,
        "tokens": turn.tokens,
        "seconds": turn.seconds,
        "tokens_per_second": turn.tokens / turn.seconds if turn.seconds else 0.0,
        "first_token_seconds": turn.first,
        "stop": turn.stop,
    }
    return {**facts, "error": _words(turn.error)} if turn.error else facts


def _words(error: UserError) -> dict[str, str]:
    return {"code": error.code, "where": error.where, "why": error.why, "fix": error.fix}


def _held_out(job: TalkJob, request: HeldOut, stage: Stage) -> Generator[Event, None, None]:
    """Prompts of the run's own held-out rows, found by its own split."""
    try:
        rows = yield from _rows(job, request, stage)
        data: dict[str, Any] = {"rows": rows}
    except UserError as error:
        data = {"rows": [], "error": _words(error)}
    yield Report(kind="rows", data=data)


def _rows(
    job: TalkJob, request: HeldOut, stage: Stage
) -> Generator[Event, None, list[dict[str, str]]]:
    if job.data is None:
        return []
    yield Phase("reading_data")
    source = find_source(job.data, Path(job.root))
    if job.data_sha256 and source.sha256() != job.data_sha256:
        why, fix = "the data is not what this run began with", "bring the old file back"
        raise UserError("data_changed", source.name, why, fix)
    base = stage.base
    dataset = yield from build_dataset(
        source,
        base.tokenizer,
        job.data,
        context=base.context,
        seed=job.seed,
        today=job.today,
    )
    found = held_out_prompts(source, dataset, request.count)
    return [msgspec.to_builtins(item) for item in found]
