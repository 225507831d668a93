"""Prompts answered by the base and by adapters, one after the other on one loaded base."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.data.render import Renderer
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Notice, Phase, Report, Token
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling
from mlx_lora.lora.store import load_adapter, read_facts
from mlx_lora.models.loading import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlx_lora.control import Control
    from mlx_lora.jobs import GenerateJob, Voice


class Answer(msgspec.Struct, frozen=True):
    """A finished row."""

    prompt: str
    voice: str
    text: str
    tokens: int
    stop: str


def speak(job: GenerateJob, kind: str, control: Control) -> Generator[Event, None, None]:
    """Answer every prompt by every voice; rows are numbered prompt by prompt.

    Raises:
        UserError: anything wrong with model, adapters or settings.
    """
    yield Phase("loading_model")
    base = load_model(job.model.source, job.model.bits)
    renderer = Renderer(base.tokenizer, base.context or 1 << 20)
    style, notices = _choose_style(job, renderer)
    yield from notices
    settings = msgspec.convert(job.sampling, Sampling, strict=False)
    speaker = _Speaker(base, renderer, settings, style, control)
    answers: dict[int, Answer] = {}
    for at, voice in enumerate(job.voices):
        with _as_voice(base, voice):
            for number, prompt in enumerate(job.prompts):
                row = number * len(job.voices) + at
                if not control.stopping:
                    answers[row] = yield from speaker.answer(row, prompt, voice.label)
    rows = [msgspec.to_builtins(answers[row]) for row in sorted(answers)]
    yield Report(kind=kind, data={"rows": rows, "style": style})
    yield Finished(reason="stopped" if control.stopping else "done", result={"rows": len(rows)})


class _Speaker(msgspec.Struct, frozen=True):
    """Whatever answers now, and how it is asked."""

    base: LoadedModel
    renderer: Renderer
    settings: Sampling
    style: Literal["raw", "chat"]
    control: Any

    def answer(self, row: int, prompt: str, voice: str) -> Generator[Event, None, Answer]:
        """Stream one answer; returns it whole."""
        ids = self.renderer.prompt(prompt, self.style)
        settings = self._within_context(ids)
        text, count, stop = "", 0, "stopped"
        for piece in generate(
            self.base.module, self.base.tokenizer, ids, self.renderer.stop_ids, settings
        ):
            if not math.isfinite(piece.logprob):
                why, fix = "it gives no numbers", "use intact weights, or a smaller strength"
                raise UserError("bad_model", f"the model ({voice})", why, fix)
            text, count, stop = text + piece.text, count + 1, piece.stop
            yield Token(row=row, text=piece.text, logprob=piece.logprob)
            if self.control.stopping:
                stop = "stopped"
                break
        return Answer(prompt, voice, text, count, stop)

    def _within_context(self, ids: list[int]) -> Sampling:
        """The settings with no more tokens than the model has positions left."""
        context = self.base.context or len(ids) + self.settings.max_tokens
        if not ids or len(ids) >= context:
            why = f"it has {len(ids)} tokens, and this model reads {context}"
            what = why if ids else "it is empty"
            raise UserError(
                "bad_option", "--prompt", what, "give a shorter prompt with words in it"
            )
        room = min(self.settings.max_tokens, context - len(ids))
        return msgspec.structs.replace(self.settings, max_tokens=room)


@contextmanager
def _as_voice(base: LoadedModel, voice: Voice) -> Iterator[None]:
    """The base with a voice's adapter, for as long as the block lasts."""
    if voice.adapter is None:
        yield
        return
    adapter = load_adapter(Path(voice.adapter), base, voice.strength)
    adapter.train(False)
    try:
        yield
    finally:
        adapter.detach()


def _choose_style(
    job: GenerateJob, renderer: Renderer
) -> tuple[Literal["raw", "chat"], list[Notice]]:
    """How prompts are put: as asked, else as the adapter was trained, else by template."""
    facts: Any = [read_facts(Path(v.adapter)) for v in job.voices if v.adapter is not None]
    known = [fact for fact in facts if fact is not None]
    template = renderer.template.sha256 if renderer.template else ""
    notices = [
        Notice(
            level="warning",
            code="template_changed",
            text="The model's chat template is not the one this adapter was trained with.",
        )
        for fact in known
        if fact.prompt_style == "chat" and fact.template_sha256 != template
    ]
    if job.style is not None:
        return job.style, notices
    if known:
        return known[0].prompt_style, notices
    return "chat" if renderer.template else "raw", notices
