"""Prompts answered by the base and by adapters in turns, token by token, on one loaded base.

Each voice has its own key-value cache; while the base makes a token the adapter is switched off.
What a voice says does not depend on who speaks beside it.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlx_lora.data.render import Renderer
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Notice, Phase, Report, Token
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling
from mlx_lora.lora.folder import weights_file
from mlx_lora.lora.store import AdapterFacts, as_trained, load_adapter, read_facts
from mlx_lora.models.loading import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from mlx_lora.control import Control
    from mlx_lora.generation.engine import Piece
    from mlx_lora.jobs import GenerateJob, Voice
    from mlx_lora.lora.attach import Adapter

Style = Literal["raw", "chat"]


class Answer(msgspec.Struct, frozen=True):
    """A finished row."""

    prompt: str
    voice: str
    text: str
    tokens: int
    stop: str


class Turn:
    """One voice answering one prompt.

    Attributes:
        row: number of its tokens' row.
        stop: `stop` (the model ended it), `length`, or `stopped` where somebody else did.
        seconds: what this voice computed, without the others' turns.
        first: seconds of that until its first token, the reading of the prompt included.
        error: why it can say no more.
    """

    def __init__(
        self, row: int, label: str, pieces: Iterator[Piece], alone: AbstractContextManager[None]
    ) -> None:
        self.row, self.label = row, label
        self.text, self.tokens, self.stop = "", 0, "stopped"
        self.seconds, self.first = 0.0, 0.0
        self.error: UserError | None = None
        self.over = False
        self._pieces, self._alone = pieces, alone

    def step(self) -> Token | None:
        """One more token; None where it has no number for it, and `error` says so."""
        began = time.perf_counter()
        with self._alone:
            piece = next(self._pieces)
        self.seconds += time.perf_counter() - began
        if not math.isfinite(piece.logprob):
            why, fix = "it gives no numbers", "use intact weights, or a smaller strength"
            self.error = UserError("bad_model", f"the model ({self.label})", why, fix)
            self.stop, self.over = "failed", True
            return None
        if self.tokens == 0:
            self.first = self.seconds
        self.text, self.tokens = self.text + piece.text, self.tokens + 1
        if piece.stop:
            self.stop, self.over = piece.stop, True
        return Token(row=self.row, text=piece.text, logprob=piece.logprob)


def take_turns(turns: Sequence[Turn], over: Callable[[], bool]) -> Iterator[Token]:
    """Let every voice say one token, then the next, until all are done or it is `over`."""
    while any(not turn.over for turn in turns):
        for turn in turns:
            token = None if turn.over else turn.step()
            if token is not None:
                yield token
            if over():
                return


class Manner(msgspec.Struct, frozen=True):
    """How prompts are put: `style`, and the renderer with the chat template in use."""

    style: Style
    renderer: Renderer

    def facts(self) -> dict[str, str]:
        """What a report says of it; `template` is `model`, a built-in one's name, or `none`."""
        used = self.style == "chat" and self.renderer.template is not None
        name = self.renderer.tokenizer.template_name if used else "none"
        return {"style": self.style, "template": name}


class Stage:
    """A base that speaks with and without one adapter, which stays attached until another comes.

    Attributes:
        facts: what the attached adapter knows about itself, None where another program made it.
    """

    def __init__(self, base: LoadedModel) -> None:
        self.base = base
        self.facts: AdapterFacts | None = None
        self._renderers: dict[str, Renderer] = {}
        self._adapter: Adapter | None = None
        self._worn: tuple[str, int] | None = None

    def wear(self, voice: Voice) -> None:
        """Attach the adapter of a voice in place of the one before; the base stays loaded.

        Raises:
            UserError: `bad_adapter`; then none is attached.
        """
        if voice.adapter is None:
            return
        folder = Path(voice.adapter)
        worn = (voice.adapter, _stamp(folder))
        if worn != self._worn or self._adapter is None:
            self.undress()
            adapter = load_adapter(folder, self.base, voice.strength)
            adapter.train(False)
            self._adapter, self._worn, self.facts = adapter, worn, read_facts(folder)
        self._adapter.scale_by(voice.strength)

    def undress(self) -> None:
        """The base alone again."""
        if self._adapter is not None:
            self._adapter.detach()
        self._adapter, self._worn, self.facts = None, None, None

    def manner(self, facts: AdapterFacts | None, style: Style | None = None) -> Manner:
        """As an adapter with these facts was trained, else by the model's template.

        `style` overrides it. The template is the one the adapter brings along, where it does.
        """
        tokenizer = as_trained(self.base.tokenizer, facts)
        source = tokenizer.chat_template or ""
        if source not in self._renderers:
            self._renderers[source] = Renderer(tokenizer, self.base.context or 1 << 20)
        renderer = self._renderers[source]
        usual: Style = "chat" if renderer.template else "raw"
        return Manner(style or (facts.prompt_style if facts is not None else usual), renderer)

    def turn(self, row: int, prompt: str, voice: Voice, settings: Sampling, manner: Manner) -> Turn:
        """A voice about to answer; one with an adapter must be worn.

        Raises:
            UserError: `bad_option` where the prompt is empty or too long.
        """
        ids = manner.renderer.prompt(prompt, manner.style)
        settings = self._within_context(ids, settings)
        pieces = generate(
            self.base.module, self.base.tokenizer, ids, manner.renderer.stop_ids, settings
        )
        if manner.style == "chat":
            pieces = _from_first_word(pieces)
        return Turn(row, voice.label, pieces, self._alone(voice))

    def _alone(self, voice: Voice) -> AbstractContextManager[None]:
        plain = voice.adapter is None and self._adapter is not None
        return _Off(self._adapter) if plain and self._adapter else nullcontext()

    def _within_context(self, ids: list[int], settings: Sampling) -> Sampling:
        """The settings with no more tokens than the model has positions left."""
        context = self.base.context or len(ids) + settings.max_tokens
        if not ids or len(ids) >= context:
            why = f"it has {len(ids)} tokens, and this model reads {context}"
            what = why if ids else "it is empty"
            raise UserError(
                "bad_option", "--prompt", what, "give a shorter prompt with words in it"
            )
        room = min(settings.max_tokens, context - len(ids))
        return msgspec.structs.replace(settings, max_tokens=room)


class _Off:
    """An adapter switched off, as often as wanted: its own `disabled()` serves once."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._now: Any = None

    def __enter__(self) -> None:
        self._now = self._adapter.disabled()
        self._now.__enter__()

    def __exit__(self, *error: object) -> None:
        self._now.__exit__(*error)


def _from_first_word(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Without the space some templates have between the opening of an answer and its text."""
    begun = False
    for piece in pieces:
        text = piece.text if begun else piece.text.lstrip()
        begun = begun or bool(text)
        yield msgspec.structs.replace(piece, text=text)


def speak(job: GenerateJob, kind: str, control: Control) -> Generator[Event, None, None]:
    """Answer every prompt by every voice; rows are numbered prompt by prompt.

    Raises:
        UserError: anything wrong with model, adapters or settings.
    """
    yield Phase("loading_model")
    base = load_model(job.model.source, job.model.bits)
    stage = Stage(base)
    known = _known(job.voices)
    yield from (notice for facts in known if (notice := template_notice(facts, stage)) is not None)
    first = stage.manner(known[0] if known else None, job.style)
    settings = msgspec.convert(job.sampling, Sampling, strict=False)
    answers: dict[int, Answer] = {}
    for group in _groups(job.voices):
        for number, prompt in enumerate(job.prompts):
            if control.stopping:
                break
            row = number * len(job.voices)
            for voice in group.values():
                stage.wear(voice)
            manner = stage.manner(stage.facts, first.style) if stage.facts else first
            turns = [
                stage.turn(row + at, prompt, voice, settings, manner) for at, voice in group.items()
            ]
            yield from _spoken(turns, control)
            for turn in turns:
                answers[turn.row] = Answer(prompt, turn.label, turn.text, turn.tokens, turn.stop)
    rows = [msgspec.to_builtins(answers[row]) for row in sorted(answers)]
    yield Report(kind=kind, data={"rows": rows, **first.facts()})
    yield Finished(reason="stopped" if control.stopping else "done", result={"rows": len(rows)})


def _spoken(turns: list[Turn], control: Control) -> Iterator[Token]:
    """All turns; the first error ends them all."""
    yield from take_turns(turns, lambda: control.stopping or any(turn.error for turn in turns))
    for turn in turns:
        if turn.error is not None:
            raise turn.error


def _groups(voices: Sequence[Voice]) -> list[dict[int, Voice]]:
    """Voices that can speak in turns, by their place: only one adapter is attached at a time."""
    groups: list[dict[int, Voice]] = []
    worn: Voice | None = None
    for at, voice in enumerate(voices):
        if not groups or (voice.adapter is not None and worn is not None):
            groups.append({})
            worn = None
        groups[-1][at] = voice
        worn = voice if voice.adapter is not None else worn
    return groups


def template_notice(facts: AdapterFacts | None, stage: Stage) -> Notice | None:
    """A warning where an adapter was trained with another chat template."""
    renderer = stage.manner(facts).renderer
    template = renderer.template.sha256 if renderer.template else ""
    if facts is None or facts.prompt_style != "chat" or facts.template_sha256 == template:
        return None
    text = "The model's chat template is not the one this adapter was trained with."
    return Notice(level="warning", code="template_changed", text=text)


def _known(voices: Sequence[Voice]) -> list[AdapterFacts]:
    """What the adapters of some voices know about themselves, as far as they are ours."""
    found = [read_facts(Path(voice.adapter)) for voice in voices if voice.adapter is not None]
    return [facts for facts in found if facts is not None]


def _stamp(folder: Path) -> int:
    """Another number when the folder holds another adapter; 0 where there is none."""
    try:
        return weights_file(folder).stat().st_mtime_ns
    except OSError:
        return 0
