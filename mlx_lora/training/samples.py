"""The fixed prompts of a run, continued by the base and by the adapter as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_lora.events import Event, Phase, Pulse, Sample
from mlx_lora.generation.engine import generate
from mlx_lora.generation.settings import Sampling

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.training.session import Session


class Sampler:
    """Greedy continuations; what the base says is made once a process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._base_texts: dict[str, str] = {}

    def continue_all(self, step: int, steps: int) -> Generator[Event, None, None]:
        """A sample of every prompt after `step`."""
        for prompt in self._session.prompts:
            if prompt not in self._base_texts:
                with self._session.adapter.disabled():
                    self._base_texts[prompt] = yield from self._continue(prompt, step, steps)
            text = yield from self._continue(prompt, step, steps)
            yield Sample(step=step, prompt=prompt, base=self._base_texts[prompt], text=text)

    def _continue(self, prompt: str, step: int, steps: int) -> Generator[Event, None, str]:
        session, pulse, text = self._session, Pulse(), ""
        ids = session.dataset.renderer.prompt(prompt, session.dataset.prompt_style)
        settings = Sampling(max_tokens=session.config.samples.tokens)
        model, tokenizer = session.base.module, session.base.tokenizer
        for piece in generate(model, tokenizer, ids, session.dataset.renderer.stop_ids, settings):
            text += piece.text
            if pulse.due():
                yield Phase("sampling", step, steps)
        return text
